package identity

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"igdd/pkg/fair"
	"igdd/pkg/hosts"
	"igdd/pkg/lan"
	"igdd/pkg/portmap"
	"igdd/pkg/portmap/portmaptest"
)

// noInterface is the index of no interface: probes there get no answer.
const noInterface = 1 << 30

var (
	lan4 = netip.MustParsePrefix("192.168.50.1/24")
	lan6 = netip.MustParsePrefix("2001:db8:50::1/64")
)

// addr6 returns the i-th host's IPv6 address.
func addr6(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("2001:db8:50::%x", 0x10+i)) }

// newResolver returns a Resolver whose rules allow one host all ports and the
// others the ports below 4000.
func newResolver(t *testing.T) *Resolver {
	t.Helper()
	all := portmap.Ports{{Last: 65535}}
	policy := &portmap.Policy{Rules: []portmap.Rule{
		{Allow: true, External: all, Network: netip.MustParseAddr("192.168.50.10"), Mask: ^uint32(0), Internal: portmap.Ports{{First: 4000, Last: 65535}}},
		{External: all, Network: netip.IPv4Unspecified(), Internal: portmap.Ports{{First: 4000, Last: 65535}}},
	}}
	log := slog.New(slog.DiscardHandler)
	var r *Resolver
	table := portmap.NewTable(portmap.Options{
		Policy: policy, Firewall: new(portmaptest.Firewall), Store: new(portmaptest.Store),
		Network:   portmap.NetworkState{External: netip.MustParseAddr("11.22.33.44"), LANs: []netip.Prefix{lan4, lan6}},
		Listening: func(portmap.Protocol, uint16) bool { return false },
		Committed: func([]portmap.Change, bool) {},
		Decided:   func(_ portmap.Request, a portmap.Answer) { r.Decided(a) },
		Log:       log,
	})
	run(t, table.Run)
	<-table.Started()
	finder := &hosts.Finder{Log: log}
	r = New(Options{
		Table: table, Finder: finder, Hosts: lan.NewHosts(finder, log),
		Policy: func() *portmap.Policy { return policy },
		LAN: func(a netip.Addr) (hosts.LAN, bool) {
			return hosts.LAN{Index: noInterface, Networks: []netip.Prefix{lan4.Masked()}}, lan4.Contains(a) || lan6.Contains(a)
		},
	})
	return r
}

// run calls f with a context that ends with the test.
func run(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// open is a request of a host for itself.
func open(client netip.Addr, port uint16) portmap.Request {
	return portmap.Request{
		Origin: portmap.PCP, Client: client, Protocol: portmap.TCP, Lifetime: time.Hour,
		Internal: netip.AddrPortFrom(client, port), External: port,
	}
}

// answer is the refusal of an answer and the internal port of its request.
type answer struct {
	port uint16
	portmap.Refusal
}

// answers receives answers.
type answers chan answer

// submit submits a request and returns what Submit does.
func (in answers) submit(r *Resolver, req portmap.Request) bool {
	return r.Submit(req, func(a portmap.Answer) { in <- answer{req.Internal.Port(), a.Refusal} })
}

// next returns the next answer.
func (in answers) next(t *testing.T) answer {
	t.Helper()
	select {
	case got := <-in:
		return got
	case <-time.After(15 * time.Second):
		t.Fatal("no answer in 15 seconds")
		return answer{}
	}
}

// three returns the next three answers, sorted by port and refusal, since those
// that need no new rules come first.
func (in answers) three(t *testing.T) []answer {
	t.Helper()
	list := []answer{in.next(t), in.next(t), in.next(t)}
	slices.SortFunc(list, func(a, b answer) int {
		return cmp.Or(cmp.Compare(a.port, b.port), cmp.Compare(a.Refusal, b.Refusal))
	})
	return list
}

// TestOtherRequestsDoNotWait submits requests that need a lookup before Run
// does any: requests that need none are answered at once.
func TestOtherRequestsDoNotWait(t *testing.T) {
	r, in := newResolver(t), make(answers, 100)
	closing := open(addr6(0), 4000)
	closing.Op = portmap.Close
	for _, req := range []portmap.Request{open(addr6(0), 4000), closing, open(addr6(0), 80)} {
		if !in.submit(r, req) {
			t.Fatal("a request is dropped")
		}
	}
	for _, req := range []portmap.Request{open(addr6(1), 80), open(netip.MustParseAddr("192.168.50.10"), 4000), open(netip.MustParseAddr("2001:db8:60::1"), 4000)} {
		if !in.submit(r, req) {
			t.Fatal("a request is dropped")
		}
	}
	got := in.three(t)
	if want := []answer{{80, portmap.Granted}, {4000, portmap.Granted}, {4000, portmap.BadTarget}}; !slices.Equal(got, want) {
		t.Errorf("answers %v, want %v", got, want)
	}

	run(t, r.Run)
	got = in.three(t)
	if want := []answer{{80, portmap.Granted}, {4000, portmap.Granted}, {4000, portmap.UnknownHost}}; !slices.Equal(got, want) {
		t.Errorf("after a lookup without answer: %v, want %v", got, want)
	}
	if in.submit(r, open(addr6(0), 4000)); in.next(t).Refusal != portmap.UnknownHost {
		t.Error("granted to a host that does not answer")
	}
}

// TestOnlyUnknownHostsAreLookedUp makes a mapping dormant for another reason
// than its host: nothing is looked up, so nothing is looked up again.
func TestOnlyUnknownHostsAreLookedUp(t *testing.T) {
	r := newResolver(t)
	if a, err := r.Table.Do(t.Context(), open(addr6(0), 80)); err != nil || a.Refusal != portmap.Granted {
		t.Fatalf("a mapping: %v, %v", a.Refusal, err)
	}
	if err := r.SetNetworkState(t.Context(), portmap.NetworkState{LANs: []netip.Prefix{lan4}}); err != nil {
		t.Fatal(err)
	}
	list := r.List()
	if len(list) != 1 || !list[0].Dormant {
		t.Fatalf("without their network, the mappings are %+v", list)
	}
	r.Committed([]portmap.Change{{After: list[0]}})
	if more := r.lookUpDormant(t.Context()); more || len(r.wake) > 0 {
		t.Error("the host of a mapping without a network is looked up")
	}
}

// underWay returns how many lookups a limiter counts.
func underWay(l *fair.Counts[string]) int {
	free := 0
	for l.Acquire(fmt.Sprint("other ", free)) {
		free++
	}
	for i := range free {
		l.Release(fmt.Sprint("other ", i))
	}
	return maxLookups - free
}

// TestFloodOfUnknownHosts submits requests for made up hosts: the lookups are
// bounded, other clients are served, also those that need a lookup, and the limiter
// is empty in the end.
func TestFloodOfUnknownHosts(t *testing.T) {
	r, in := newResolver(t), make(answers, 2000)
	accepted := 0
	for i := range 500 {
		if in.submit(r, open(addr6(i), 4000)) {
			accepted++
		}
	}
	waits := 1
	for in.submit(r, open(addr6(0), 4000)) {
		waits++
	}
	if accepted != maxPerClient || waits != maxWaiting {
		t.Errorf("%d hosts are looked up, %d requests wait for one", accepted, waits)
	}
	if !in.submit(r, open(netip.MustParseAddr("192.168.50.10"), 4000)) || in.next(t).Refusal != portmap.Granted {
		t.Error("a client that is known is not served")
	}
	known := open(addr6(999), 4000)
	known.ClientHost = "02:00:00:00:00:10"
	if !in.submit(r, known) {
		t.Error("no lookup for a client that is known")
	}
	run(t, r.Run)
	for range maxPerClient + maxWaiting {
		if got := in.next(t); got.Refusal != portmap.UnknownHost {
			t.Errorf("a made up host is answered %v", got)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := underWay(r.limiter); len(r.lookups) > 0 || n > 0 {
		t.Errorf("left: %d lookups, %d in the limiter", len(r.lookups), n)
	}
}

// TestDoAndExplainWait looks up hosts that do not answer through Do and
// Explain.
func TestDoAndExplainWait(t *testing.T) {
	r := newResolver(t)
	if a, err := r.Do(t.Context(), open(addr6(0), 4000)); err != nil || a.Refusal != portmap.UnknownHost {
		t.Errorf("%v, %v", a.Refusal, err)
	}
	if e, err := r.Explain(t.Context(), open(addr6(1), 4000)); err != nil || e.Refusal != portmap.UnknownHost || e.Rule != &r.policy().Rules[1] {
		t.Errorf("%v by rule %+v, %v", e.Refusal, e.Rule, err)
	}
	if a, err := r.Do(t.Context(), open(addr6(2), 80)); err != nil || a.Refusal != portmap.Granted {
		t.Errorf("%v, %v", a.Refusal, err)
	}
}

// TestIPv4WaitsWhereRulesNameHardware submits IPv4 requests under rules for a
// hardware address: those that need no lookup do not wait, and later ones for
// the same host keep their order.
func TestIPv4WaitsWhereRulesNameHardware(t *testing.T) {
	r, in := newResolver(t), make(answers, 100)
	r.policy().Rules[0].Network, r.policy().Rules[0].Mask, r.policy().Rules[0].Hardware = netip.Addr{}, 0, "02:00:00:00:00:10"
	host, other := netip.MustParseAddr("192.168.50.10"), netip.MustParseAddr("192.168.50.11")
	third := open(other, 5000)
	third.Internal, third.ThirdParty = netip.AddrPortFrom(host, 5000), true
	closing := open(host, 4000)
	closing.Op, closing.External = portmap.Close, 0
	for _, req := range []portmap.Request{open(host, 4000), closing, third, open(other, 80)} {
		if !in.submit(r, req) {
			t.Fatal("a request is dropped")
		}
	}
	if got := in.next(t); got != (answer{80, portmap.Granted}) || len(in) > 0 {
		t.Errorf("answered %v, and %d more", got, len(in))
	}
	run(t, r.Run)
	got := in.three(t)
	if want := []answer{{4000, portmap.Granted}, {4000, portmap.NotAuthorized}, {5000, portmap.NotAuthorized}}; !slices.Equal(got, want) {
		t.Errorf("after a lookup without answer: %v, want %v", got, want)
	}
	if e, err := r.Explain(t.Context(), open(netip.MustParseAddr("192.168.50.12"), 4000)); err != nil || e.Refusal != portmap.NotAuthorized || !e.HostUnknown {
		t.Errorf("explained as %+v, %v", e, err)
	}
}

// TestHostOfTooManyAddresses checks that none of them are kept, so that no rule
// for some of them allows the host.
func TestHostOfTooManyAddresses(t *testing.T) {
	var id hosts.Identity
	for i := range maxAddresses + 1 {
		if got := host(id).IPv4; len(got) != i {
			t.Fatalf("of %d addresses %d are kept", i, len(got))
		}
		id.IPv4 = append(id.IPv4, netip.AddrFrom4([4]byte{192, 168, 50, byte(i)}))
	}
	if got := host(id).IPv4; len(got) != 0 {
		t.Errorf("of too many addresses %d are kept", len(got))
	}
}
