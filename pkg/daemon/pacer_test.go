package daemon

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"igdd/pkg/pcpd"
	"igdd/pkg/portmap"
	"igdd/pkg/upstream"
)

// TestPacer has requests come in a burst, while a call is due, and long after it.
func TestPacer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var calls []time.Duration
		p := pacer{interval: time.Second}
		p.call = func() { calls = append(calls, time.Since(began)) }
		wait := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		for range 100 {
			p.request()
		}
		wait(0)
		for range 15 {
			p.request()
			wait(100 * time.Millisecond)
		}
		wait(time.Minute)
		p.request()
		wait(time.Hour)
		want := []time.Duration{0, time.Second, 2 * time.Second, time.Minute + 1500*time.Millisecond}
		if !slices.Equal(calls, want) {
			t.Errorf("called at %v, want %v", calls, want)
		}
	})
}

// TestUpdateClients has PCP clients looked after when a forwarding changes, and for no
// other change.
func TestUpdateClients(t *testing.T) {
	asking := &portmap.Mapping{Forwarding: portmap.Forwarding{State: portmap.Asking}}
	unreachable := &portmap.Mapping{Forwarding: portmap.Forwarding{State: portmap.Unreachable}}
	for name, c := range map[string]struct {
		change portmap.Change
		want   bool
	}{
		"opened":  {portmap.Change{After: asking}, false},
		"renewed": {portmap.Change{Before: asking, After: asking}, false},
		"decided": {portmap.Change{Before: asking, After: unreachable}, true},
		"closed":  {portmap.Change{Before: unreachable}, false},
	} {
		for _, u := range []*upstream.Client{nil, upstream.New(upstream.Options{})} {
			synctest.Test(t, func(t *testing.T) {
				called := false
				d := &Daemon{upstream: u, pcp: new(pcpd.Server), updates: &pacer{call: func() { called = true }}}
				d.updateClients([]portmap.Change{c.change})
				time.Sleep(time.Hour)
				synctest.Wait()
				if want := c.want && u != nil; called != want {
					t.Errorf("%s, with upstream %v: %v, want %v", name, u != nil, called, want)
				}
			})
		}
	}
}
