package lan

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
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
	late      netip.Addr   // known from when it is to be resolved, without a notice
	resolving []netip.Addr // neither resolved nor forgotten
	most      int          // the greatest number of these
	watch     func(int, netip.Addr)
	watches   int // not stopped
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
	if a == f.late {
		f.known[a] = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	}
}

func (f *fakeNeighbours) Forget(_ int, a netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.resolving = slices.DeleteFunc(f.resolving, func(o netip.Addr) bool { return o == a })
}

func (f *fakeNeighbours) Watch(resolved func(int, netip.Addr)) (func(), error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watch = resolved
	f.watches++
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.watch = nil
		f.watches--
	}, nil
}

// unresolved returns the neighbours that are being resolved, and the greatest number of
// these so far.
func (f *fakeNeighbours) unresolved() ([]netip.Addr, int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.resolving), f.most
}

// enter enters a neighbour on interface 3, and gives notice of it.
func (f *fakeNeighbours) enter(a string, n byte) { f.enterOn(3, a, n) }

// enterOn does so on any interface.
func (f *fakeNeighbours) enterOn(index int, a string, n byte) {
	f.enterSilently(a, n)
	f.mu.Lock()
	watch := f.watch
	f.mu.Unlock()
	if watch != nil {
		watch(index, netip.MustParseAddr(a))
	}
}

// enterSilently enters a neighbour without a notice.
func (f *fakeNeighbours) enterSilently(a string, n byte) {
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
		synctest.Wait()
		if list, _ := f.unresolved(); len(r.queues) > 0 || len(list) > 0 || f.watches > 0 || r.timer != nil && r.timer.Stop() {
			t.Errorf("at the end %d neighbours are waited for, %d resolved, and %d watches left", len(r.queues), len(list), f.watches)
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

// demand compares what has been delivered.
func (r *waitingRig) demand(t *testing.T, when string, want ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.delivered, want) {
		t.Errorf("%s %v, want %v", when, r.delivered, want)
	}
}

// count returns how many requests have been delivered.
func (r *waitingRig) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.delivered)
}

const (
	first  = "first of 02:00:00:00:00:01"
	second = "second of 02:00:00:00:00:01"
	third  = "third of 02:00:00:00:00:01"
)

// TestRequestWaitsForItsSender resolves one sender and not the other.
func TestRequestWaitsForItsSender(t *testing.T) {
	inBubble(t, func(t *testing.T, r *waitingRig) {
		const known = "known of 02:00:00:00:00:02"
		r.arrive(3, "192.168.50.10", "first")
		r.arrive(3, "192.168.50.99", "lost")
		r.arrive(3, "192.168.50.10", "second")
		r.enter("192.168.50.20", 2)
		r.arrive(3, "192.168.50.20", "known")
		r.demand(t, "at once", known)
		r.enter("192.168.50.10", 1)
		r.demand(t, "when the sender is resolved", known, first, second)
		r.arrive(3, "192.168.50.10", "third")
		r.demand(t, "then", known, first, second, third)
		absent := netip.MustParseAddr("192.168.50.99")
		if list, most := r.unresolved(); most != 2 || !slices.Equal(list, []netip.Addr{absent}) {
			t.Errorf("%v are being resolved, at most %d at a time", list, most)
		}
		time.Sleep(waitAtMost + time.Millisecond)
		if list, _ := r.unresolved(); len(list) > 0 {
			t.Errorf("after %v %v are being resolved", waitAtMost, list)
		}
		r.enter("192.168.50.99", 9)
		r.demand(t, "in the end", known, first, second, third)
	})
}

// TestEachWaitsItsTime has two senders that do not answer, one later than the other.
func TestEachWaitsItsTime(t *testing.T) {
	inBubble(t, func(t *testing.T, r *waitingRig) {
		r.arrive(3, "192.168.50.98", "early")
		time.Sleep(waitAtMost / 2)
		r.arrive(3, "192.168.50.99", "late")
		for i, want := range []int{1, 0} {
			time.Sleep(waitAtMost/2 + time.Millisecond)
			if list, _ := r.unresolved(); len(list) != want {
				t.Errorf("in round %d %v are being resolved", i, list)
			}
		}
	})
}

// TestResolvedMeanwhile has the kernel learn of a sender after it was looked up and
// before it is watched, so that no notice follows.
func TestResolvedMeanwhile(t *testing.T) {
	inBubble(t, func(t *testing.T, r *waitingRig) {
		r.late = netip.MustParseAddr("192.168.50.10")
		r.arrive(3, "192.168.50.10", "first")
		r.demand(t, "at once", first)
		r.Forget(3, r.late) // the fake has it as unresolved
	})
}

// TestNoticeIsMissed has the kernel resolve senders without a notice, or with one that
// says that notices were lost.
func TestNoticeIsMissed(t *testing.T) {
	inBubble(t, func(t *testing.T, r *waitingRig) {
		r.arrive(3, "192.168.50.10", "first")
		r.enterSilently("192.168.50.10", 1)
		r.demand(t, "without a notice")
		r.arrive(3, "192.168.50.10", "second") // repeated by the client
		r.demand(t, "when it repeats the request", first, second)
		r.arrive(3, "192.168.50.11", "third")
		r.enterSilently("192.168.50.11", 1)
		r.fakeNeighbours.watch(0, netip.Addr{})
		r.demand(t, "after notices were lost", first, second, third)
	})
}

// TestOrderIsKept has requests arrive while earlier ones of the same sender are served.
func TestOrderIsKept(t *testing.T) {
	inBubble(t, func(t *testing.T, r *waitingRig) {
		n := neighbour{3, netip.MustParseAddr("192.168.50.10")}
		r.Hosts.await(n, func(Host) {
			r.arrive(3, "192.168.50.10", "second")
			r.demand(t, "while the first is served")
			r.arrive(3, "192.168.50.10", "third")
		})
		r.enter("192.168.50.10", 1)
		r.demand(t, "then", second, third)
	})
}

// invented returns the n-th of many addresses.
func invented(n int) string { return fmt.Sprintf("10.%d.%d.%d", n>>16, n>>8&255, n&255) }

// TestFloodOfInventedSenders has 2,000 requests a second from senders that do not
// exist, and in between a few whose senders answer after some milliseconds.
func TestFloodOfInventedSenders(t *testing.T) {
	inBubble(t, func(t *testing.T, r *waitingRig) {
		const honest = 50
		r.enter("192.168.50.200", 2)
		for n := range 2000 {
			r.arrive(3, invented(n), "forged")
			if n%(2000/honest) == 0 {
				a := fmt.Sprintf("192.168.50.%d", 10+n/(2000/honest))
				r.arrive(3, a, "honest")
				time.AfterFunc(waitAtLeast-time.Millisecond, func() { r.enter(a, 1) })
			}
			before := r.count()
			if r.arrive(3, "192.168.50.200", "known"); r.count() != before+1 {
				t.Fatal("a known host is not served at once")
			}
			time.Sleep(time.Second / 2000)
		}
		if n := r.count() - 2000; n != honest {
			t.Errorf("%d of %d are served", n, honest)
		}
		if _, most := r.unresolved(); most > maxWaiting {
			t.Errorf("%d neighbours at a time", most)
		}
	})
}

// TestFloodOfSleepySenders has 2,000 requests a second from senders that answer late, and in
// between a few whose senders answer soon.
func TestFloodOfSleepySenders(t *testing.T) {
	inBubble(t, func(t *testing.T, r *waitingRig) {
		const honest = 50
		for n := range 2000 {
			a := invented(n)
			r.arrive(3, a, "late")
			time.AfterFunc(150*time.Millisecond, func() { r.enter(a, 9) })
			if n%(2000/honest) == 0 {
				a := fmt.Sprintf("192.168.50.%d", 10+n/(2000/honest))
				r.arrive(3, a, "honest")
				time.AfterFunc(waitAtLeast-time.Millisecond, func() { r.enter(a, 1) })
			}
			time.Sleep(time.Second / 2000)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if n := len(slices.DeleteFunc(slices.Clone(r.delivered), func(s string) bool { return !strings.HasPrefix(s, "honest") })); n != honest {
			t.Errorf("%d of %d are served", n, honest)
		}
	})
}

// TestFloodOfOneSender has one sender that does not answer send as much as it can.
func TestFloodOfOneSender(t *testing.T) {
	inBubble(t, func(t *testing.T, r *waitingRig) {
		for range 1000 {
			r.arrive(3, "192.168.50.99", "forged")
		}
		r.arrive(3, "192.168.50.10", "first")
		r.enter("192.168.50.10", 1)
		r.demand(t, "beside it", first)
		r.enter("192.168.50.99", 9)
		if n := r.count() - 1; n != maxRequests {
			t.Errorf("%d requests waited for one neighbour", n)
		}
	})
}

// TestOldestGivesWay fills the places of a LAN, and shows that none gives way before it
// has had its time.
func TestOldestGivesWay(t *testing.T) {
	inBubble(t, func(t *testing.T, r *waitingRig) {
		r.arrive(3, "192.168.50.10", "first")
		time.Sleep(waitAtLeast - time.Millisecond)
		for n := range 2 * maxWaiting {
			r.arrive(3, invented(n), "forged")
		}
		r.arrive(3, "192.168.50.11", "refused")
		if list, _ := r.unresolved(); len(list) != maxWaiting || list[0].String() != "192.168.50.10" {
			t.Fatalf("%v are being resolved", list)
		}
		time.Sleep(time.Millisecond)
		r.arrive(3, "192.168.50.12", "second")
		if list, _ := r.unresolved(); len(list) != maxWaiting || list[0].String() != invented(0) {
			t.Errorf("then %v are being resolved", list)
		}
		for _, a := range []string{"192.168.50.10", "192.168.50.11", "192.168.50.12"} {
			r.enter(a, 1)
		}
		r.demand(t, "served", second)
	})
}

// TestLANsShareTheTable floods many LANs at a time.
func TestLANsShareTheTable(t *testing.T) {
	for _, limit := range []int{1, 2, 128} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *waitingRig) {
				r.Hosts.maxWaiting = limit
				for n := range 1000 {
					for _, lan := range []int{4, 5, 6} {
						r.arrive(lan, invented(n), "forged")
					}
				}
				if _, most := r.unresolved(); most != limit {
					t.Errorf("%d neighbours at a time, want %d", most, limit)
				}
				time.Sleep(waitAtLeast)
				r.arrive(3, "192.168.50.10", "first")
				r.enter("192.168.50.10", 1)
				r.demand(t, "beside them", first)
			})
		})
	}
}
