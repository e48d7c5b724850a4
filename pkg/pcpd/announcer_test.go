package pcpd

import (
	"context"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// schedule holds the times of the copies that RFC 6886, section 3.2.1, recommends.
var schedule = []time.Duration{
	0, 250 * time.Millisecond, 750 * time.Millisecond, 1750 * time.Millisecond, 3750 * time.Millisecond,
	7750 * time.Millisecond, 15750 * time.Millisecond, 31750 * time.Millisecond, 63750 * time.Millisecond, 127750 * time.Millisecond,
}

// announcerRig runs an announcer in a synctest bubble and records the copies that it sends.
type announcerRig struct {
	*announcer
	began   time.Time
	state   atomic.Pointer[gatewayState]
	next    atomic.Pointer[gatewayState] // becomes the state right after the next read
	times   []time.Duration
	numbers []int
	states  []gatewayState
}

func newAnnouncerRig(t *testing.T) *announcerRig {
	s := &announcerRig{began: time.Now()}
	s.state.Store(&gatewayState{netip.MustParseAddr("11.22.33.44"), 100})
	s.announcer = &announcer{
		triggered: make(chan struct{}, 1),
		current: func() gatewayState {
			n := *s.state.Load()
			if next := s.next.Swap(nil); next != nil {
				s.state.Store(next)
			}
			return n
		},
		send: func(n int, state gatewayState) {
			s.times, s.numbers, s.states = append(s.times, time.Since(s.began)), append(s.numbers, n), append(s.states, state)
		},
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); s.run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return s
}

// event changes the state and triggers the announcer.
func (s *announcerRig) event(change func(*gatewayState)) {
	synctest.Wait()
	n := *s.state.Load()
	change(&n)
	s.state.Store(&n)
	s.trigger()
	synctest.Wait()
}

// expect compares the times of all copies so far.
func (s *announcerRig) expect(t *testing.T, want []time.Duration) {
	t.Helper()
	synctest.Wait()
	if !slices.Equal(s.times, want) {
		t.Errorf("sent at %v, want %v", s.times, want)
	}
}

// shifted returns the first n times of a schedule that begins at start.
func shifted(start time.Duration, n int) []time.Duration {
	var list []time.Duration
	for _, at := range schedule[:n] {
		list = append(list, start+at)
	}
	return list
}

func TestTenCopies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newAnnouncerRig(t)
		time.Sleep(time.Hour)
		s.expect(t, schedule)
		if want := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}; !slices.Equal(s.numbers, want) {
			t.Errorf("copies %v", s.numbers)
		}
	})
}

func TestEventRestartsCopies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newAnnouncerRig(t)
		time.Sleep(time.Second)
		s.event(func(n *gatewayState) { n.epoch = 0 })
		time.Sleep(time.Hour)
		s.expect(t, slices.Concat(schedule[:3], shifted(time.Second, copies)))
	})
}

func TestEventAfterTheLastCopy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newAnnouncerRig(t)
		time.Sleep(time.Hour)
		s.event(func(*gatewayState) {})
		time.Sleep(time.Hour)
		s.expect(t, slices.Concat(schedule, shifted(time.Hour, copies)))
	})
}

func TestSameEventTwiceIsOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newAnnouncerRig(t)
		time.Sleep(time.Hour)
		s.event(func(n *gatewayState) { n.external, n.epoch = netip.MustParseAddr("11.22.33.45"), 0 })
		time.Sleep(100 * time.Millisecond)
		s.event(func(*gatewayState) {})
		time.Sleep(time.Hour)
		s.expect(t, slices.Concat(schedule, shifted(time.Hour, copies)))
	})
}

// TestEventCoveredByTheLastCopy sends a copy of the start after the state has changed
// and before the change is reported.
func TestEventCoveredByTheLastCopy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newAnnouncerRig(t)
		time.Sleep(240 * time.Millisecond)
		s.state.Store(&gatewayState{netip.MustParseAddr("11.22.33.45"), 0})
		time.Sleep(20 * time.Millisecond)
		s.event(func(*gatewayState) {})
		time.Sleep(time.Hour)
		s.expect(t, slices.Concat(schedule[:1], shifted(250*time.Millisecond, copies)))
	})
}

func TestFurtherChangeRestartsAtOnce(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*gatewayState){
		"other address": func(n *gatewayState) { n.external = netip.MustParseAddr("11.22.33.46") },
		"epoch reset":   func(n *gatewayState) { n.epoch = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newAnnouncerRig(t)
				time.Sleep(100 * time.Millisecond)
				s.event(change)
				time.Sleep(time.Hour)
				s.expect(t, slices.Concat(schedule[:1], shifted(100*time.Millisecond, copies)))
			})
		})
	}
}

func TestTriggerNeverBlocks(t *testing.T) {
	t.Parallel()
	a := announcer{triggered: make(chan struct{}, 1)}
	for range 3 {
		a.trigger()
	}
}

// TestChangeBetweenTwoReads changes the address right after a copy has read it: the
// copy has the old address, and the new one is announced by further copies.
func TestChangeBetweenTwoReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newAnnouncerRig(t)
		synctest.Wait()
		old := *s.state.Load()
		moved := gatewayState{old.external.Next(), 0}
		s.next.Store(&moved)
		time.Sleep(schedule[1])
		synctest.Wait()
		s.trigger()
		time.Sleep(schedule[1])
		synctest.Wait()
		if want := []gatewayState{old, old, moved, moved}; !slices.Equal(s.states, want) {
			t.Errorf("sent %v, want %v", s.states, want)
		}
	})
}
