package netif

import "testing"

// TestSpeed has links without a speed; the daemon's tests have one with a speed.
func TestSpeed(t *testing.T) {
	for _, name := range []string{"lo", "none", ""} {
		if rate, err := Speed(name); err == nil {
			t.Errorf("speed of %q: %d bit/s", name, rate)
		}
	}
}
