package portmap_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"igdd/pkg/portmap"
)

// TestWaited demands the time of each request from the queue to its answer: none for
// what needs no kernel, else the time that the kernel needs.
func TestWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeldRig(t) // after one request
		refused := make(chan portmap.Answer, 1)
		other := open(client(1), 40000, time.Hour)
		other.Exact = true
		h.Submit(other, func(a portmap.Answer) { refused <- a })
		if a := <-refused; a.Refusal != portmap.Conflict {
			t.Errorf("another host's port: %v", a.Refusal)
		}
		time.Sleep(3 * time.Second)
		close(h.hold)
		<-h.blocked
		h.await()
		if want := []time.Duration{0, 0, 3 * time.Second}; !slices.Equal(h.waited, want) {
			t.Errorf("requests waited %v, want %v", h.waited, want)
		}
	})
}
