package fair

import (
	"slices"
	"testing"
	"time"
)

// TestHostWithMostGivesUpFirst fills four places and asks for more.
func TestHostWithMostGivesUpFirst(t *testing.T) {
	held := map[string]bool{}
	low := map[string]bool{}
	p := Places[string, string]{PerHost: 3, Total: 4, Rank: func(item string) int {
		switch {
		case held[item]:
			return Held
		case low[item]:
			return 0
		}
		return 1
	}}
	take := func(host, item, wantLost string, want bool) {
		t.Helper()
		lost, hasLost, ok := p.Take(host, item)
		if lost != wantLost || hasLost != (wantLost != "") || ok != want {
			t.Errorf("%s: lost %q (%v), %v; want %q, %v", item, lost, hasLost, ok, wantLost, want)
		}
	}
	take("a", "a1", "", true)
	take("a", "a2", "", true)
	take("a", "a3", "", true)
	take("a", "a4", "", false) // has all that it may have
	held["a1"] = true
	if item, ok := p.Weakest("a"); item != "a2" || !ok {
		t.Errorf("a gives up %q, %v", item, ok)
	}
	clear(held)
	if item, ok := p.Weakest("b"); ok {
		t.Errorf("b gives up %q", item)
	}
	take("b", "b1", "", true)
	low["a2"] = true
	take("c", "c1", "a2", true) // the one of lowest rank
	take("b", "b2", "a1", true) // then the oldest
	take("a", "a5", "b1", true)
	take("b", "b3", "a3", true)
	take("b", "b4", "", false) // has most itself
	held["b2"], held["b3"] = true, true
	take("d", "d1", "c1", true) // a host whose items are held gives up none, so the oldest of the others
	take("e", "e1", "a5", true)
	if got, want := p.Items(), []string{"b2", "b3", "d1", "e1"}; !slices.Equal(got, want) {
		t.Errorf("%v have places, want %v", got, want)
	}
	p.Release("b2")
	take("f", "f1", "", true)
	if n := p.Count("b"); n != 1 {
		t.Errorf("b has %d places, want 1", n)
	}
}

// TestReservedCounts shows that a host with little is served when others have used
// up what is shared.
func TestReservedCounts(t *testing.T) {
	c := Counts[string]{PerHost: 4, Shared: 6, Reserved: 1, Total: 8}
	acquire := func(host string, want bool) {
		t.Helper()
		if got := c.Acquire(host); got != want {
			t.Errorf("%s: %v, want %v", host, got, want)
		}
	}
	for range 4 {
		acquire("a", true)
	}
	acquire("a", false)
	acquire("b", true)
	acquire("b", true)
	acquire("b", false) // what is shared is used up
	acquire("c", true)
	acquire("d", true)
	acquire("e", false)
	c.Release("a")
	acquire("e", true)
}

// TestRates shows that a host gets its burst, then its rate, and takes nothing from
// others when it has exceeded it.
func TestRates(t *testing.T) {
	r := Rates[string]{PerHost: Rate{PerSecond: 10, Burst: 5}, All: Rate{PerSecond: 20, Burst: 8}, MaxHosts: 2}
	now := time.Unix(1000, 0)
	spend := func(host string, n int) (granted int) {
		for range n {
			if r.Spend(host, 1, now) {
				granted++
			}
		}
		return granted
	}
	if n := spend("a", 100); n != 5 {
		t.Errorf("a gets %d, want its burst of 5", n)
	}
	if n := spend("b", 100); n != 3 {
		t.Errorf("b gets %d, want the rest of 3", n)
	}
	if r.Spend("c", 1, now) {
		t.Error("a third host is tracked")
	}
	now = now.Add(100 * time.Millisecond)
	if n := spend("a", 100); n != 1 {
		t.Errorf("a gets %d after 100 ms, want 1", n)
	}
	now = now.Add(time.Minute)
	if n := spend("c", 100); n != 5 {
		t.Errorf("c gets %d when the others are idle, want 5", n)
	}
	if r.Spend("c", 9, now.Add(time.Hour)) {
		t.Error("more than the burst at once")
	}
}
