package daemon

import (
	"testing"
	"time"

	"igdd/pkg/config"
	"igdd/pkg/netfilter"
	"igdd/pkg/portmap"
)

// TestIPv6IsSwitchedWhenItHasSettled gives answers about the system's IPv6.
func TestIPv6IsSwitchedWhenItHasSettled(t *testing.T) {
	for name, tt := range map[string]struct {
		was     bool
		answers string // one a step of askIPv6After: + on, - off
		called  int
	}{
		"stays on":               {true, "+++++", 0},
		"stays off":              {false, "-----", 0},
		"a restart of the rules": {true, "+-+++-+", 0},
		"drops all":              {true, "+---", 1},
		"comes":                  {false, "-+++", 1},
		"comes and goes":         {false, "+-+-+-++-", 0},
	} {
		called := 0
		w := &ipv6Watch{config: &config.Config{IPv6: tt.was, IPv6Auto: true}, outdated: func() { called++ }}
		now := time.Now()
		for _, a := range tt.answers {
			if again := w.update(a == '+', now); (again == 0) != (a == '+' == tt.was || called > 0) {
				t.Errorf("%s: asks again after %v", name, again)
			}
			now = now.Add(ipv6Interval)
		}
		if called != tt.called {
			t.Errorf("%s: outdated %d times, want %d", name, called, tt.called)
		}
	}
	w := &ipv6Watch{config: &config.Config{IPv6Auto: true}, stopped: func() bool { return true }, outdated: func() { t.Error("a stopped firewall says something") }}
	w.changedAt = time.Now().Add(-ipv6SettleTime)
	if again := w.check(t.Context(), netfilter.Look{}); again != 0 || !w.changedAt.IsZero() {
		t.Errorf("asks again after %v though the firewall is stopped", again)
	}
	w = &ipv6Watch{config: &config.Config{IPv6: true}, outdated: func() {}, looks: make(chan netfilter.Look, 1)}
	if w.notify(netfilter.Look{Family: portmap.IPv6}); len(w.looks) > 0 {
		t.Error("what a setting says is checked")
	}
}
