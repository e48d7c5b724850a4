package stun

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

// octets decodes hexadecimal text with blanks.
func octets(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sample is the transaction ID of the test vectors of RFC 5769.
var sample = transactionID{0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae}

const (
	cookie    = "2112a442"
	sampleHex = "b7e7a701bc34d686fa87dfae"
	software  = "8022 000b 74657374 20766563 746f7220" // "test vector", padded
)

func TestAppendRequest(t *testing.T) {
	want := octets(t, "0001 0000"+cookie+sampleHex)
	if got := appendRequest(nil, sample); !bytes.Equal(got, want) {
		t.Errorf("request = %x, want %x", got, want)
	}
}

func TestParseResponse(t *testing.T) {
	for name, c := range map[string]struct{ packet, want string }{
		"RFC 5769, section 2.2, up to the address": {"0101 001c" + cookie + sampleHex + software + "0020 0008 0001 a147 e112a643", "192.0.2.1"},
		"RFC 5769, section 2.3, up to the address": {"0101 0028" + cookie + sampleHex + software + "0020 0014 0002 a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9", "2001:db8:1234:5678:11:2233:4455:6677"},
		"a server of RFC 3489":                     {"0101 000c" + cookie + sampleHex + "0001 0008 0001 8000 c0000201", "192.0.2.1"},
		"XOR-MAPPED-ADDRESS is preferred":          {"0101 0018" + cookie + sampleHex + "0001 0008 0001 8000 0a000001 0020 0008 0001 a147 e112a643", "192.0.2.1"},
		"octets behind the message":                {"0101 000c" + cookie + sampleHex + "0020 0008 0001 a147 e112a643 ffff", "192.0.2.1"},
	} {
		got, err := parseResponse(octets(t, c.packet), sample)
		if err != nil || got != netip.MustParseAddr(c.want) {
			t.Errorf("%s: got %v, %v, want %s", name, got, err, c.want)
		}
	}
}

func TestParseResponseFails(t *testing.T) {
	for name, c := range map[string]struct{ packet, message string }{
		"nothing":                        {"", errNotOurs.Error()},
		"half a header":                  {"0101 0000" + cookie, errNotOurs.Error()},
		"another transaction":            {"0101 0000" + cookie + "b7e7a701bc34d686fa87dfaf", errNotOurs.Error()},
		"another cookie":                 {"0101 0000 2112a443" + sampleHex, errNotOurs.Error()},
		"shorter than its length":        {"0101 000c" + cookie + sampleHex, errNotOurs.Error()},
		"an error response":              {"0111 0000" + cookie + sampleHex, "0x0111"},
		"no address":                     {"0101 0000" + cookie + sampleHex, "no address"},
		"an attribute that is cut short": {"0101 0008" + cookie + sampleHex + "0020 0008 0001 a147", "no address"},
		"an unknown family":              {"0101 000c" + cookie + sampleHex + "0020 0008 0003 a147 e112a643", "no address"},
		"IPv6 of four octets":            {"0101 000c" + cookie + sampleHex + "0020 0008 0002 a147 e112a643", "no address"},
	} {
		if got, err := parseResponse(octets(t, c.packet), sample); err == nil || !strings.Contains(err.Error(), c.message) {
			t.Errorf("%s: got %v, %v, want an error with %q", name, got, err, c.message)
		}
	}
}

func FuzzParseResponse(f *testing.F) {
	f.Add(octets(f, "0101 001c"+cookie+sampleHex+software+"0020 0008 0001 a147 e112a643"))
	f.Add(octets(f, "0101 000c"+cookie+sampleHex+"0001 0008 0001 8000 c0000201"))
	f.Add(octets(f, "0111 0000"+cookie+sampleHex))
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := parseResponse(b, sample); (err == nil) != a.IsValid() {
			t.Errorf("%v, %v", a, err)
		}
	})
}
