package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"igdd/pkg/portmap"
	"igdd/pkg/upnp"
)

// web is what most tests ask for.
var web = ask{protocol: portmap.TCP, port: 8080, suggested: 80, lifetime: time.Hour, description: "web <server>"}

// found returns the router as its description says that it is.
func found(t *testing.T, f *fakeIGD) *igd {
	t.Helper()
	c, err := onLoopback.describe(t.Context(), f.http)
	if err != nil {
		t.Fatal(err)
	}
	return newIGD(c)
}

// demandGrant compares what was granted.
func demandGrant(t *testing.T, r *igd, a ask, port uint16, lifetime time.Duration) {
	t.Helper()
	want := grant{external: netip.AddrPortFrom(netip.MustParseAddr("203.0.113.9"), port), lifetime: lifetime}
	if g, err := r.open(t.Context(), a); err != nil || g != want {
		t.Errorf("granted %v, %v, want %v", g, err, want)
	}
}

// demandRefusal compares cause and reason of an error.
func demandRefusal(t *testing.T, err error, c cause, words string) {
	t.Helper()
	if e, ok := errors.AsType[*routerError](err); !ok || e.cause != c || !strings.Contains(e.reason, words) {
		t.Errorf("got %v, want cause %d and %q", err, c, words)
	}
}

func demandTable(t *testing.T, f *fakeIGD, want string) {
	t.Helper()
	if got := f.table(); got != want {
		t.Errorf("the router has %s, want %s", got, want)
	}
}

// TestLifeOfForwarding is the life of a forwarding, call by call, on both versions.
func TestLifeOfForwarding(t *testing.T) {
	for version, action := range map[upnp.Version]string{upnp.V1: "AddPortMapping", upnp.V2: "AddAnyPortMapping"} {
		f := newFakeIGD(t, version)
		r := found(t, f)
		steps := []struct {
			do    func()
			calls string
			table string
		}{
			{func() { demandGrant(t, r, web, 80, time.Hour) },
				"GetExternalIPAddress GetSpecificPortMappingEntry " + action + " GetSpecificPortMappingEntry", "TCP 80 > 127.0.0.2:8080 3600s"},
			{func() { demandGrant(t, r, web, 80, time.Hour) }, "AddPortMapping", "TCP 80 > 127.0.0.2:8080 3600s"},
			{func() {
				if s, err := r.check(t.Context()); err != nil || s != (state{external: netip.MustParseAddr("203.0.113.9")}) {
					t.Errorf("state %+v, %v", s, err)
				}
			}, "GetExternalIPAddress GetSpecificPortMappingEntry", "TCP 80 > 127.0.0.2:8080 3600s"},
			{func() {
				if err := r.close(t.Context(), web); err != nil {
					t.Error(err)
				}
			}, "GetSpecificPortMappingEntry DeletePortMapping", ""},
			{func() {
				if err := r.close(t.Context(), web); err != nil {
					t.Error(err)
				}
			}, "GetSpecificPortMappingEntry", ""},
		}
		for i, step := range steps {
			step.do()
			if calls := f.called(); calls != step.calls {
				t.Errorf("version %d, step %d: called %s, want %s", version, i, calls, step.calls)
			}
			demandTable(t, f, step.table)
		}
	}
}

// TestIGDGivesAnotherPort has the wanted port with another host.
func TestIGDGivesAnotherPort(t *testing.T) {
	for _, version := range []upnp.Version{upnp.V1, upnp.V2} {
		f := newFakeIGD(t, version)
		f.put(80, 80, "127.0.0.7")
		f.change(func() { f.overwrites = true })
		r := found(t, f)
		exact := web
		exact.exact = true
		_, err := r.open(t.Context(), exact)
		demandRefusal(t, err, taken, "port 80 elsewhere")
		demandTable(t, f, "TCP 80 > 127.0.0.7:80 0s")
		g, err := r.open(t.Context(), web)
		if err != nil || g.external.Port() == 80 || g.external.Port() == 0 {
			t.Fatalf("version %d: granted %v, %v", version, g, err)
		}
		if table := f.table(); !strings.Contains(table, "TCP 80 > 127.0.0.7:80 0s") ||
			!strings.Contains(table, fmt.Sprintf("TCP %d > 127.0.0.2:8080 3600s", g.external.Port())) {
			t.Errorf("version %d: the router has %s", version, table)
		}
		demandGrant(t, r, web, g.external.Port(), time.Hour) // renewed, not another one
	}
}

// TestPortOfAnotherForwarding has routers that let a host overwrite its own entries.
func TestPortOfAnotherForwarding(t *testing.T) {
	for _, version := range []upnp.Version{upnp.V1, upnp.V2} {
		for _, suggested := range []uint16{2000, 80} {
			f := newFakeIGD(t, version)
			f.change(func() { f.lowest = 2000 })
			r := found(t, f)
			first, second := web, web
			first.suggested, second.suggested, second.port = 2000, suggested, 9090
			demandGrant(t, r, first, 2000, time.Hour)
			g, err := r.open(t.Context(), second)
			if err != nil || g.external.Port() == 2000 {
				t.Errorf("version %d: granted %v, %v", version, g, err)
			}
			if table := f.table(); !strings.Contains(table, "TCP 2000 > 127.0.0.2:8080 3600s") ||
				!strings.Contains(table, fmt.Sprintf("TCP %d > 127.0.0.2:9090 3600s", g.external.Port())) {
				t.Errorf("version %d, %d suggested: the router has %s", version, suggested, table)
			}
			demandGrant(t, r, first, 2000, time.Hour)
		}
	}
}

// TestForeignEntries are never removed, also not where they lead to another port of ours.
func TestForeignEntries(t *testing.T) {
	const entries = "TCP 80 > 127.0.0.2:9090 0s, TCP 8080 > 127.0.0.7:80 0s"
	f := newFakeIGD(t, upnp.V1)
	f.put(80, 9090, "127.0.0.2")
	f.put(8080, 80, "127.0.0.7")
	f.change(func() { f.overwrites = true })
	r := found(t, f)
	for _, port := range []uint16{80, 8080} {
		a := web
		a.suggested, a.exact = port, true
		if err := r.close(t.Context(), a); err != nil {
			t.Error(err)
		}
		_, err := r.open(t.Context(), a)
		demandRefusal(t, err, taken, "elsewhere")
	}
	demandTable(t, f, entries)

	// An entry that was ours is somebody else's by now.
	demandGrant(t, r, ask{protocol: portmap.TCP, port: 443, lifetime: time.Hour}, 443, time.Hour)
	f.put(443, 443, "127.0.0.7")
	if err := r.close(t.Context(), ask{protocol: portmap.TCP, port: 443}); err != nil {
		t.Error(err)
	}
	demandTable(t, f, "TCP 443 > 127.0.0.7:443 0s, "+entries)
}

// TestOwnEntryOfEarlierLife takes over what is left of the program's last run.
func TestOwnEntryOfEarlierLife(t *testing.T) {
	for _, version := range []upnp.Version{upnp.V1, upnp.V2} {
		f := newFakeIGD(t, version)
		f.put(80, 8080, "127.0.0.2")
		r := found(t, f)
		demandGrant(t, r, web, 80, time.Hour)
		demandTable(t, f, "TCP 80 > 127.0.0.2:8080 3600s")
	}
}

// refusing returns a fakeIGD's refuse that gives the calls of an action, or of those that
// begin like it, a fault if such returns true.
func refusing(action string, fault upnp.Fault, such func(*upnp.Call) bool) func(*upnp.Call) upnp.Fault {
	return func(c *upnp.Call) upnp.Fault {
		if strings.HasPrefix(c.Name, action) && such(c) {
			return fault
		}
		return 0
	}
}

// TestPeculiarities are those of routers that take only some entries.
func TestPeculiarities(t *testing.T) {
	permanent := refusing("Add", upnp.OnlyPermanentLeases, func(c *upnp.Call) bool { return c.Number("NewLeaseDuration") != 0 })
	anyPeer := refusing("Add", upnp.RemoteHostOnlyWildcard, func(c *upnp.Call) bool { return c.Text("NewRemoteHost") != "" })
	samePort := refusing("Add", upnp.SamePortValuesRequired, func(c *upnp.Call) bool { return c.Port("NewExternalPort") != c.Port("NewInternalPort") })
	both := func(c *upnp.Call) upnp.Fault { return max(permanent(c), anyPeer(c)) }
	always := func(*upnp.Call) bool { return true }
	mute := refusing("GetSpecificPortMappingEntry", upnp.InvalidAction, always)
	noAny := refusing("AddAnyPortMapping", upnp.InvalidAction, always)
	tests := []struct {
		name     string
		refuse   func(*upnp.Call) upnp.Fault
		port     uint16
		lifetime time.Duration
		table    string
	}{
		{"leases for ever", permanent, 80, 0, "TCP 80 > 127.0.0.2:8080 0s from 198.51.100.7"},
		{"every peer", anyPeer, 80, time.Hour, "TCP 80 > 127.0.0.2:8080 3600s"},
		{"both", both, 80, 0, "TCP 80 > 127.0.0.2:8080 0s"},
		{"the same port", samePort, 8080, time.Hour, "TCP 8080 > 127.0.0.2:8080 3600s from 198.51.100.7"},
		{"no look at entries", mute, 80, time.Hour, "TCP 80 > 127.0.0.2:8080 3600s from 198.51.100.7"},
		{"no AddAnyPortMapping", noAny, 80, time.Hour, "TCP 80 > 127.0.0.2:8080 3600s from 198.51.100.7"},
	}
	a := web
	a.filters = []portmap.Filter{{Prefix: netip.MustParsePrefix("198.51.100.7/32")}}
	for _, tt := range tests {
		for _, version := range []upnp.Version{upnp.V1, upnp.V2} {
			t.Run(fmt.Sprintf("%s, version %d", tt.name, version), func(t *testing.T) {
				f := newFakeIGD(t, version)
				f.change(func() { f.refuse = tt.refuse })
				r := found(t, f)
				demandGrant(t, r, a, tt.port, tt.lifetime)
				demandTable(t, f, tt.table)
				f.called()
				demandGrant(t, r, a, tt.port, tt.lifetime)
				if calls := f.called(); calls != "AddPortMapping" {
					t.Errorf("renewed by %s", calls)
				}
				if err := r.close(t.Context(), a); err != nil {
					t.Error(err)
				}
				demandTable(t, f, "")
			})
		}
	}
}

// TestLease takes a lease that is shorter than the one asked for, and one that never ends.
func TestLease(t *testing.T) {
	f := newFakeIGD(t, upnp.V1)
	f.change(func() { f.mostLease = 600 })
	demandGrant(t, found(t, f), web, 80, 10*time.Minute)
	forEver := web
	forEver.lifetime = 0
	demandGrant(t, found(t, f), forEver, 80, 10*time.Minute)
}

// TestFilters has the router renew an entry for other peers: the old one is removed.
func TestFilters(t *testing.T) {
	f := newFakeIGD(t, upnp.V1)
	r := found(t, f)
	for _, step := range []struct {
		prefixes []string
		table    string
	}{
		{[]string{"198.51.100.7/32"}, "TCP 80 > 127.0.0.2:8080 3600s from 198.51.100.7"},
		{[]string{"198.51.100.8/32"}, "TCP 80 > 127.0.0.2:8080 3600s from 198.51.100.8"},
		{[]string{"198.51.100.0/24"}, "TCP 80 > 127.0.0.2:8080 3600s"},
		{[]string{"198.51.100.7/32", "198.51.100.8/32"}, "TCP 80 > 127.0.0.2:8080 3600s"},
		{nil, "TCP 80 > 127.0.0.2:8080 3600s"},
	} {
		a := web
		for _, p := range step.prefixes {
			a.filters = append(a.filters, portmap.Filter{Prefix: netip.MustParsePrefix(p)})
		}
		demandGrant(t, r, a, 80, time.Hour)
		demandTable(t, f, step.table)
	}
}

// TestUnrenewableEntry is a router that changes no entry: one that ends is made anew, one
// that does not is left.
func TestUnrenewableEntry(t *testing.T) {
	for lease, calls := range map[uint32]string{
		600: "AddPortMapping GetSpecificPortMappingEntry GetSpecificPortMappingEntry DeletePortMapping GetSpecificPortMappingEntry AddPortMapping GetSpecificPortMappingEntry",
		0:   "AddPortMapping GetSpecificPortMappingEntry",
	} {
		f := newFakeIGD(t, upnp.V1)
		f.change(func() {
			f.refuse = func(c *upnp.Call) upnp.Fault {
				if _, there := f.entries[entryKey{"", c.Port("NewExternalPort"), "TCP"}]; c.Name == "AddPortMapping" && there {
					return upnp.ConflictInMapping
				}
				return 0
			}
		})
		r := found(t, f)
		a := web
		a.lifetime = time.Duration(lease) * time.Second
		demandGrant(t, r, a, 80, a.lifetime)
		f.called()
		demandGrant(t, r, a, 80, a.lifetime)
		if got := f.called(); got != calls {
			t.Errorf("lease of %d s: called %s, want %s", lease, got, calls)
		}
		demandTable(t, f, fmt.Sprintf("TCP 80 > 127.0.0.2:8080 %ds", lease))
	}
}

// TestExactRenewal moves a forwarding to the port that alone will do.
func TestExactRenewal(t *testing.T) {
	f := newFakeIGD(t, upnp.V2)
	r := found(t, f)
	demandGrant(t, r, web, 80, time.Hour)
	exact := web
	exact.suggested, exact.exact = 443, true
	demandGrant(t, r, exact, 443, time.Hour)
	demandTable(t, f, "TCP 443 > 127.0.0.2:8080 3600s")
}

// TestRefusals are told with their reason, and leave nothing.
func TestRefusals(t *testing.T) {
	tests := []struct {
		name  string
		setUp func(*fakeIGD)
		cause cause
		words string
		tries int // AddPortMapping
	}{
		{"switched off", func(f *fakeIGD) { f.refuses(map[string]upnp.Fault{"AddPortMapping": upnp.NotAuthorized}) },
			denied, "refuses: 606 Action not authorized (UPnP may be switched off in its settings)", 1},
		{"nothing left", func(f *fakeIGD) { f.refuses(map[string]upnp.Fault{"AddPortMapping": upnp.NoPortsLeft}) },
			denied, "728", 1},
		{"all ports taken", func(f *fakeIGD) { f.refuses(map[string]upnp.Fault{"AddPortMapping": upnp.ConflictInMapping}) },
			taken, "718", maxTries},
		{"says yes and does nothing", func(f *fakeIGD) { f.idle = true },
			denied, "says that it forwards port 80, but does not", 1},
		{"no external address", func(f *fakeIGD) { f.external = "0.0.0.0" },
			denied, "no external address", 0},
		{"no address at all", func(f *fakeIGD) { f.external = "" },
			denied, "no external address", 0},
		{"nonsense as address", func(f *fakeIGD) { f.external = "fe80::1" },
			denied, "no external address", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeIGD(t, upnp.V1)
			r := found(t, f)
			tt.setUp(f)
			_, err := r.open(t.Context(), web)
			demandRefusal(t, err, tt.cause, tt.words)
			demandTable(t, f, "")
			if n := strings.Count(f.called(), "AddPortMapping"); n != tt.tries {
				t.Errorf("%d tries, want %d", n, tt.tries)
			}
		})
	}
}

// TestRouterWithoutPorts refuses every port: after three mappings it is not asked for more
// until it has rested, and then for one.
func TestRouterWithoutPorts(t *testing.T) {
	f := newFakeIGD(t, upnp.V1)
	r := found(t, f)
	f.refuses(map[string]upnp.Fault{"AddPortMapping": upnp.ConflictInMapping})
	open := func(port uint16) error {
		_, err := r.open(t.Context(), ask{protocol: portmap.TCP, port: port, lifetime: time.Hour})
		return err
	}
	demandTries := func(want int) {
		t.Helper()
		if n := strings.Count(f.called(), "AddPortMapping"); n != want {
			t.Errorf("%d tries, want %d", n, want)
		}
	}
	asked := time.Now()
	for port := range uint16(100) {
		c, words := denied, "has refused every port"
		if port < maxFull {
			c, words = taken, "718"
		}
		demandRefusal(t, open(port+3000), c, words)
	}
	demandTries(maxFull * maxTries)
	for _, rest := range []time.Duration{firstRetry, 2 * firstRetry, 4 * firstRetry} {
		e, _ := errors.AsType[*routerError](open(4000))
		if e.retry > rest || r.rest.Sub(asked) < rest {
			t.Errorf("it rests for %v, want %v", e.retry, rest)
		}
		asked = time.Now()
		r.rest = asked
		demandRefusal(t, open(4000), taken, "718")
		demandTries(maxTries)
	}
	f.refuses(nil)
	r.rest = time.Now()
	demandGrant(t, r, ask{protocol: portmap.TCP, port: 4000, lifetime: time.Hour}, 4000, time.Hour)
	f.refuses(map[string]upnp.Fault{"AddPortMapping": upnp.ConflictInMapping})
	for range maxFull {
		demandRefusal(t, open(4001), taken, "718")
	}
}

// TestCallsArePaced has each call taken out of the bucket.
func TestCallsArePaced(t *testing.T) {
	f := newFakeIGD(t, upnp.V1)
	r := found(t, f)
	began := time.Now()
	demandGrant(t, r, web, 80, time.Hour)
	n := time.Duration(strings.Count(f.called(), " ") + 1)
	if took := r.calls.full.Sub(began); took < n*time.Second/rate {
		t.Errorf("%d calls have taken what refills in %v", n, took)
	}
}

// TestNoPortLeft is the same each time, whichever ports were tried.
func TestNoPortLeft(t *testing.T) {
	f := newFakeIGD(t, upnp.V1)
	r := found(t, f)
	for port := range uint16(1<<16 - 1) {
		f.put(port+1, 80, "127.0.0.7")
	}
	_, err := r.open(t.Context(), web)
	demandRefusal(t, err, taken, "port 80 elsewhere")
}

// TestNonsense are answers that have the right form and make no sense.
func TestNonsense(t *testing.T) {
	f := newFakeIGD(t, upnp.V2)
	f.put(80, 0, "127.0.0.7")
	f.change(func() { f.overwrites = true })
	r := found(t, f)
	_, err := r.open(t.Context(), web)
	demandRefusal(t, err, foreign, "no number")
	demandRefusal(t, r.close(t.Context(), web), foreign, "no number")
	demandTable(t, f, "TCP 80 > 127.0.0.7:0 0s")

	f.change(func() { f.anyPort = "0" })
	other := web
	other.suggested = 81
	_, err = r.open(t.Context(), other)
	demandRefusal(t, err, foreign, `"0" is no port`)
}

// TestRestart is a router that has lost its entries: check tells so, once.
func TestRestart(t *testing.T) {
	f := newFakeIGD(t, upnp.V1)
	r := found(t, f)
	demandGrant(t, r, web, 80, time.Hour)
	f.change(func() {
		clear(f.entries)
		f.external = "203.0.113.10"
	})
	for _, lost := range []bool{true, false} {
		want := state{external: netip.MustParseAddr("203.0.113.10"), lost: lost}
		if s, err := r.check(t.Context()); err != nil || s != want {
			t.Errorf("state %+v, %v, want %+v", s, err, want)
		}
	}
	f.put(80, 80, "127.0.0.7") // somebody was faster
	f.change(func() { f.overwrites = true })
	exact := web
	exact.exact = true
	_, err := r.open(t.Context(), exact)
	demandRefusal(t, err, taken, "elsewhere")
	demandTable(t, f, "TCP 80 > 127.0.0.7:80 0s")
}

// TestCheckWithoutAddress asks for the address anew once the router has one again.
func TestCheckWithoutAddress(t *testing.T) {
	f := newFakeIGD(t, upnp.V1)
	r := found(t, f)
	demandGrant(t, r, web, 80, time.Hour)
	f.change(func() { f.external = "" })
	_, err := r.check(t.Context())
	demandRefusal(t, err, denied, "no external address")
	_, err = r.open(t.Context(), web)
	demandRefusal(t, err, denied, "no external address")
	f.change(func() { f.external = "203.0.113.9" })
	demandGrant(t, r, web, 80, time.Hour)
}

// TestOneCallAtATime asks for much at once.
func TestOneCallAtATime(t *testing.T) {
	f := newFakeIGD(t, upnp.V2)
	r := found(t, f)
	var all sync.WaitGroup
	for i := range uint16(6) {
		all.Go(func() {
			a := ask{protocol: portmap.UDP, port: 5000 + i, lifetime: time.Hour}
			if _, err := r.open(t.Context(), a); err != nil {
				t.Error(err)
			}
			if _, err := r.check(t.Context()); err != nil {
				t.Error(err)
			}
			if err := r.close(t.Context(), a); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	demandTable(t, f, "")
	f.change(func() {
		if f.overlap {
			t.Error("two calls at the same time")
		}
	})
}

// TestWaitingEndsWithContext waits for its turn no longer than it may.
func TestWaitingEndsWithContext(t *testing.T) {
	r := found(t, newFakeIGD(t, upnp.V1))
	r.turn <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.open(ctx, web); err != context.Canceled {
		t.Errorf("got %v", err)
	}
}

// TestGoneRouter names a router that is no longer there, and one that is another by now.
func TestGoneRouter(t *testing.T) {
	f := newFakeIGD(t, upnp.V1)
	r := found(t, f)
	r.control.path = "/elsewhere"
	_, err := r.check(t.Context())
	demandRefusal(t, err, foreign, "HTTP status 404")
	r.control.at = netip.MustParseAddrPort("127.0.0.1:1")
	_, err = r.check(t.Context())
	demandRefusal(t, err, silent, "connection refused")
}

// TestBucket waits for requests as the bucket fills.
func TestBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bucket
		began := time.Now()
		for range burst + 2*rate {
			if err := b.wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("%v for %d requests", took, burst+2*rate)
		}
	})
}

// TestHurryByIGD gives back what could not be asked for in a long time otherwise.
func TestHurryByIGD(t *testing.T) {
	f := newFakeIGD(t, upnp.V1)
	r := found(t, f)
	demandGrant(t, r, web, 80, time.Hour)
	r.calls.full = time.Now().Add(time.Hour)
	r.hurry()
	if err := r.close(t.Context(), web); err != nil {
		t.Error(err)
	}
	demandTable(t, f, "")
}

// TestExactPortOfARestingIGD asks a router that has refused every port for one that a
// client insists on: the client is told so.
func TestExactPortOfARestingIGD(t *testing.T) {
	f := newFakeIGD(t, upnp.V1)
	r := found(t, f)
	r.rest = time.Now().Add(time.Hour)
	exact := web
	exact.exact = true
	for a, c := range map[*ask]cause{&web: denied, &exact: taken} {
		_, err := r.open(t.Context(), *a)
		demandRefusal(t, err, c, "every port")
	}
}
