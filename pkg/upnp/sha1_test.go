package upnp

import (
	stdsha1 "crypto/sha1"
	"testing"
)

// Every length around the borders of blocks gives what the standard library's gives.
func TestSHA1(t *testing.T) {
	for n := range 200 {
		message := make([]byte, n)
		for i := range message {
			message[i] = byte(7*i + n)
		}
		if got, want := sha1(message), stdsha1.Sum(message); got != want {
			t.Errorf("%d octets: %x, want %x", n, got, want)
		}
	}
}
