package lan

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeNeighbours is a neighbour table.
type fakeNeighbours struct {
	mu        sync.Mutex
	known     map[netip.Addr]net.HardwareAddr
	shared    bool
	lookups   int
	resolving []netip.Addr // neither resolved nor forgotten
	most      int          // the greatest number of these
}

func newFakeNeighbours() *fakeNeighbours {
	return &fakeNeighbours{known: make(map[netip.Addr]net.HardwareAddr)}
}

// hosts returns Hosts with this table.
func (f *fakeNeighbours) hosts() *Hosts { return NewHosts(f, slog.New(slog.DiscardHandler)) }

func (f *fakeNeighbours) Lookup(_ int, a netip.Addr) (net.HardwareAddr, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lookups++
	hardware, known := f.known[a]
	return hardware, known
}

func (f *fakeNeighbours) IsShared(int, netip.Addr, net.HardwareAddr) bool { return f.shared }

func (f *fakeNeighbours) Resolve(_ int, a netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.resolving = append(f.resolving, a)
	f.most = max(f.most, len(f.resolving))
}

func (f *fakeNeighbours) Forget(_ int, a netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.resolving = slices.DeleteFunc(f.resolving, func(o netip.Addr) bool { return o == a })
}

// unresolved returns the neighbours that are being resolved, and the greatest number of
// these so far.
func (f *fakeNeighbours) unresolved() ([]netip.Addr, int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.resolving), f.most
}

// enter enters a neighbour.
func (f *fakeNeighbours) enter(a string, n byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known[netip.MustParseAddr(a)] = net.HardwareAddr{2, 0, 0, 0, 0, n}
	f.resolving = slices.DeleteFunc(f.resolving, func(o netip.Addr) bool { return o.String() == a })
}

// TestWhoIsWho names the hosts of addresses.
func TestWhoIsWho(t *testing.T) {
	f := newFakeNeighbours()
	for _, a := range []string{"192.168.50.10", "192.168.50.11", "2001:db8:50::10", "fe80::10"} {
		f.enter(a, 1)
	}
	f.enter("192.168.50.20", 2)
	f.known[netip.MustParseAddr("10.8.0.2")], f.known[netip.MustParseAddr("fd00::2:3")] = nil, nil // without hardware addresses
	h := f.hosts()
	for a, want := range map[string]Host{
		"192.168.50.10": "02:00:00:00:00:01", "192.168.50.11": "02:00:00:00:00:01", "2001:db8:50::10": "02:00:00:00:00:01",
		"fe80::10%lan0": "02:00:00:00:00:01", "192.168.50.20": "02:00:00:00:00:02",
		"10.8.0.2": "10.8.0.2", "fd00::2:3": "fd00::/64",
		"192.168.50.99": "unknown on 3", "2001:db8:50::99": "unknown on 3",
	} {
		if got := h.Of(3, netip.MustParseAddr(a)); got != want {
			t.Errorf("%s is of %q, want %q", a, got, want)
		}
	}
	f.shared = true
	if got, want := h.Of(4, netip.MustParseAddr("192.168.50.10")), Host("02:00:00:00:00:01 192.168.50.10"); got != want {
		t.Errorf("behind a repeater %q, want %q", got, want)
	}
	before := f.lookups
	for range 100 {
		h.Of(3, netip.MustParseAddr("192.168.50.10"))
	}
	if f.lookups != before {
		t.Errorf("%d lookups of a host that is known", f.lookups-before)
	}
}

// waitingRig is a Hosts whose requests are noted when they are delivered, in a time
// that passes at once.
type waitingRig struct {
	*fakeNeighbours
	*Hosts

	mu        sync.Mutex
	delivered []string
}

func inBubble(t *testing.T, test func(*testing.T, *waitingRig)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFakeNeighbours()
		r := &waitingRig{fakeNeighbours: f, Hosts: f.hosts()}
		test(t, r)
		time.Sleep(2 * waitAtMost)
		synctest.Wait() // serveWaiting has ended, or the bubble would not
		if list, _ := f.unresolved(); len(r.awaited()) > 0 || len(list) > 0 {
			t.Errorf("at the end %d neighbours are waited for, and %d resolved", len(r.awaited()), len(list))
		}
	})
}

// arrive is a request that arrives from an address of a LAN.
func (r *waitingRig) arrive(index int, a, name string) {
	n := neighbour{index, netip.MustParseAddr(a)}
	deliver := func(host Host) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.delivered = append(r.delivered, fmt.Sprintf("%s of %s", name, host))
	}
	if host, known := r.Hosts.known(n); known {
		deliver(host)
		return
	}
	r.Hosts.await(n, deliver)
}

// log returns what has been delivered.
func (r *waitingRig) log() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.delivered)
}

// TestRequestWaitsForItsSender resolves one sender and not the other.
func TestRequestWaitsForItsSender(t *testing.T) {
	inBubble(t, func(t *testing.T, r *waitingRig) {
		r.arrive(3, "192.168.50.10", "first")
		r.arrive(3, "192.168.50.99", "lost")
		r.arrive(3, "192.168.50.10", "second")
		r.enter("192.168.50.20", 2)
		r.arrive(3, "192.168.50.20", "known")
		if got, want := r.log(), []string{"known of 02:00:00:00:00:02"}; !slices.Equal(got, want) {
			t.Errorf("at once %v, want %v", got, want)
		}
		r.enter("192.168.50.10", 1)
		r.arrive(3, "192.168.50.10", "third")
		time.Sleep(waitAtMost / 2)
		want := []string{"known of 02:00:00:00:00:02", "first of 02:00:00:00:00:01", "second of 02:00:00:00:00:01", "third of 02:00:00:00:00:01"}
		if got := r.log(); !slices.Equal(got, want) {
			t.Errorf("then %v, want %v", got, want)
		}
		if list, most := r.unresolved(); most != 2 || !slices.Equal(list, []netip.Addr{netip.MustParseAddr("192.168.50.99")}) {
			t.Errorf("%v are being resolved, at most %d at a time", list, most)
		}
		time.Sleep(waitAtMost)
		r.enter("192.168.50.99", 9)
		time.Sleep(waitAtMost)
		if got := r.log(); !slices.Equal(got, want) {
			t.Errorf("in the end %v, want %v", got, want)
		}
	})
}

// invented returns the n-th of many addresses.
func invented(n int) string { return fmt.Sprintf("10.%d.%d.%d", n>>16, n>>8&255, n&255) }

// TestFloodOfInventedSenders has 2,000 requests a second from senders that do not
// exist, and in between a few whose senders answer after some milliseconds.
func TestFloodOfInventedSenders(t *testing.T) {
	inBubble(t, func(t *testing.T, r *waitingRig) {
		const honest = 50
		for n := range 2000 {
			r.arrive(3, invented(n), "forged")
			if n%(2000/honest) == 0 {
				a := fmt.Sprintf("192.168.50.%d", 10+n/(2000/honest))
				r.arrive(3, a, "honest")
				time.AfterFunc(10*time.Millisecond, func() { r.enter(a, 1) })
			}
			time.Sleep(time.Second / 2000)
		}
		time.Sleep(waitAtMost)
		if n := len(r.log()); n != honest {
			t.Errorf("%d of %d are served", n, honest)
		}
		if _, most := r.unresolved(); most > maxWaiting {
			t.Errorf("%d neighbours at a time", most)
		}
	})
}

// TestFloodOfOneSender has one sender that does not answer use all places.
func TestFloodOfOneSender(t *testing.T) {
	inBubble(t, func(t *testing.T, r *waitingRig) {
		for range 1000 {
			r.arrive(3, "192.168.50.99", "forged")
		}
		time.Sleep(waitAtLeast)
		r.arrive(3, "192.168.50.10", "honest")
		r.enter("192.168.50.10", 1)
		time.Sleep(waitAtMost)
		if got := r.log(); len(got) != 1 {
			t.Errorf("served %v", got)
		}
	})
}

// TestLANsShareTheTable floods many LANs at a time.
func TestLANsShareTheTable(t *testing.T) {
	inBubble(t, func(t *testing.T, r *waitingRig) {
		for n := range 1000 {
			for lan := range 3 {
				r.arrive(lan, invented(n), "forged")
			}
		}
		if _, most := r.unresolved(); most != r.Hosts.maxWaiting {
			t.Errorf("%d neighbours at a time, want %d", most, r.Hosts.maxWaiting)
		}
		time.Sleep(waitAtLeast)
		r.arrive(7, "192.168.50.10", "honest")
		r.enter("192.168.50.10", 1)
		time.Sleep(waitAtMost)
		if got := r.log(); len(got) != 1 {
			t.Errorf("served %v", got)
		}
	})
}
