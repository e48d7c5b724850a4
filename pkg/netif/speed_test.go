package netif

import "testing"

// TestSpeed asks for links that have no speed; the daemon's tests ask for one
// that has.
func TestSpeed(t *testing.T) {
	for _, name := range []string{"lo", "none", ""} {
		if rate, err := Speed(name); err == nil {
			t.Errorf("speed of %q: %d bit/s", name, rate)
		}
	}
}
