package identity

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"igdd/pkg/hosts"
	"igdd/pkg/portmap"
	"igdd/pkg/portmap/portmaptest"
)

// nowhere is an interface that no kernel has: whoever is asked for there does
// not answer.
const nowhere = 1 << 30

var (
	lan  = netip.MustParsePrefix("192.168.50.1/24")
	lan6 = netip.MustParsePrefix("2001:db8:50::1/64")
)

// six returns the i-th host's IPv6 address.
func six(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("2001:db8:50::%x", 0x10+i)) }

// newDesk returns a desk whose rules let one host have the ports from 4000 on,
// and everybody those below.
func newDesk(t *testing.T) *Resolver {
	t.Helper()
	all := portmap.PortRange{Last: 65535}
	policy := &portmap.Policy{Rules: []portmap.Rule{
		{Allow: true, External: all, Network: netip.MustParseAddr("192.168.50.10"), Mask: ^uint32(0), Internal: portmap.PortRange{First: 4000, Last: 65535}},
		{External: all, Network: netip.IPv4Unspecified(), Internal: portmap.PortRange{First: 4000, Last: 65535}},
	}}
	log := slog.New(slog.DiscardHandler)
	table := portmap.NewTable(portmap.Options{
		Policy: policy, Firewall: new(portmaptest.Firewall), Store: new(portmaptest.Store),
		Network:   portmap.NetworkState{External: netip.MustParseAddr("11.22.33.44"), LANs: []netip.Prefix{lan, lan6}},
		Listening: func(portmap.Protocol, uint16) bool { return false },
		Committed: func([]portmap.Change, bool) {},
		Log:       log,
	})
	run(t, table.Run)
	<-table.Started()
	return New(Options{
		Table: table, Finder: &hosts.Finder{Log: log},
		Policy: func() *portmap.Policy { return policy },
		LAN: func(a netip.Addr) (hosts.LAN, bool) {
			return hosts.LAN{Index: nowhere, Networks: []netip.Prefix{lan.Masked()}}, lan.Contains(a) || lan6.Contains(a)
		},
	})
}

// run runs something until the test ends.
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

// told is an answer and whose it is.
type told struct {
	port uint16
	portmap.Refusal
}

// inbox takes answers.
type inbox chan told

// submit asks and returns whether that was heard.
func (in inbox) submit(d *Resolver, req portmap.Request) bool {
	return d.Submit(req, func(a portmap.Answer) { in <- told{req.Internal.Port(), a.Refusal} })
}

// next returns the next answer.
func (in inbox) next(t *testing.T) told {
	t.Helper()
	select {
	case got := <-in:
		return got
	case <-time.After(15 * time.Second):
		t.Fatal("waited in vain for an answer")
		return told{}
	}
}

// three returns the next three answers, by port and refusal: what needs no
// firewall is answered before what does.
func (in inbox) three(t *testing.T) []told {
	t.Helper()
	list := []told{in.next(t), in.next(t), in.next(t)}
	slices.SortFunc(list, func(a, b told) int {
		return cmp.Or(cmp.Compare(a.port, b.port), cmp.Compare(a.Refusal, b.Refusal))
	})
	return list
}

// TestOthersDoNotWait asks for hosts that are looked for while nobody looks:
// whoever need not wait for that does not.
func TestOthersDoNotWait(t *testing.T) {
	d, in := newDesk(t), make(inbox, 100)
	closing := open(six(0), 4000)
	closing.Op = portmap.Close
	for _, req := range []portmap.Request{open(six(0), 4000), closing, open(six(0), 80)} {
		if !in.submit(d, req) {
			t.Fatal("a request is dropped")
		}
	}
	for _, req := range []portmap.Request{open(six(1), 80), open(netip.MustParseAddr("192.168.50.10"), 4000), open(netip.MustParseAddr("2001:db8:60::1"), 4000)} {
		if !in.submit(d, req) {
			t.Fatal("a request is dropped")
		}
	}
	got := in.three(t)
	if want := []told{{80, portmap.Granted}, {4000, portmap.Granted}, {4000, portmap.BadTarget}}; !slices.Equal(got, want) {
		t.Errorf("answers %v, want %v", got, want)
	}

	run(t, d.Run)
	got = in.three(t)
	if want := []told{{80, portmap.Granted}, {4000, portmap.Granted}, {4000, portmap.UnknownHost}}; !slices.Equal(got, want) {
		t.Errorf("after the host was asked for in vain: %v, want %v", got, want)
	}
	if in.submit(d, open(six(0), 4000)); in.next(t).Refusal != portmap.UnknownHost {
		t.Error("granted to a host that does not answer")
	}
}

// TestFloodOfUnknownHosts makes up hosts: no more than so many are asked for,
// nobody else is refused, and all places are free again in the end.
func TestFloodOfUnknownHosts(t *testing.T) {
	d, in := newDesk(t), make(inbox, 2000)
	heard := 0
	for i := range 500 {
		if in.submit(d, open(six(i), 4000)) {
			heard++
		}
	}
	waits := 1
	for in.submit(d, open(six(0), 4000)) {
		waits++
	}
	if heard != perUnknown || waits != maxWaiting {
		t.Errorf("%d hosts are asked for, %d requests wait for one", heard, waits)
	}
	if !in.submit(d, open(netip.MustParseAddr("192.168.50.10"), 4000)) || in.next(t).Refusal != portmap.Granted {
		t.Error("a client that is known is not served")
	}
	run(t, d.Run)
	for range perUnknown + maxWaiting - 1 {
		if got := in.next(t); got.Refusal != portmap.UnknownHost {
			t.Errorf("a made up host is answered %v", got)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.lookups) > 0 || len(d.limiter.clients) > 0 || d.limiter.taken > 0 {
		t.Errorf("left: %d lookups of %d clients, %d places", len(d.lookups), len(d.limiter.clients), d.limiter.taken)
	}
}

// TestDoAndExplainWait asks for hosts that do not answer by the ways that wait.
func TestDoAndExplainWait(t *testing.T) {
	d := newDesk(t)
	if a, err := d.Do(t.Context(), open(six(0), 4000)); err != nil || a.Refusal != portmap.UnknownHost {
		t.Errorf("%v, %v", a.Refusal, err)
	}
	if e, err := d.Explain(t.Context(), open(six(1), 4000)); err != nil || e.Refusal != portmap.UnknownHost || e.Rule != 1 {
		t.Errorf("%v by rule %d, %v", e.Refusal, e.Rule, err)
	}
	if a, err := d.Do(t.Context(), open(six(2), 80)); err != nil || a.Refusal != portmap.Granted {
		t.Errorf("%v, %v", a.Refusal, err)
	}
}

// TestIPv4WaitsWhereRulesNameHardware asks over IPv4 where rules name a hardware
// address: whoever need not wait for that does not, and what comes later for the
// same port waits behind.
func TestIPv4WaitsWhereRulesNameHardware(t *testing.T) {
	d, in := newDesk(t), make(inbox, 100)
	d.policy().Rules[0].Network, d.policy().Rules[0].Mask, d.policy().Rules[0].Hardware = netip.Addr{}, 0, "02:00:00:00:00:10"
	host, other := netip.MustParseAddr("192.168.50.10"), netip.MustParseAddr("192.168.50.11")
	third := open(other, 5000)
	third.Internal, third.ThirdParty = netip.AddrPortFrom(host, 5000), true
	closing := open(host, 4000)
	closing.Op, closing.External = portmap.Close, 0
	for _, req := range []portmap.Request{open(host, 4000), closing, third, open(other, 80)} {
		if !in.submit(d, req) {
			t.Fatal("a request is dropped")
		}
	}
	if got := in.next(t); got != (told{80, portmap.Granted}) || len(in) > 0 {
		t.Errorf("answered %v, and %d more", got, len(in))
	}
	run(t, d.Run)
	got := in.three(t)
	if want := []told{{4000, portmap.Granted}, {4000, portmap.NotAuthorized}, {5000, portmap.NotAuthorized}}; !slices.Equal(got, want) {
		t.Errorf("after the host was asked for in vain: %v, want %v", got, want)
	}
	if e, err := d.Explain(t.Context(), open(netip.MustParseAddr("192.168.50.12"), 4000)); err != nil || e.Refusal != portmap.UnknownHost {
		t.Errorf("explained as %v, %v", e.Refusal, err)
	}
}

// TestHostOfTooManyAddresses keeps none of them, so that no rule for some allows it.
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

// TestPlaces takes and frees places at random: no client has more than its own,
// all of them no more than there are, and all are free again in the end.
func TestPlaces(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	p := lookupLimiter{clients: make(map[string]int), each: perClient}
	var held []string
	for range 20000 {
		if rnd.IntN(5) < 2 && len(held) > 0 {
			i := rnd.IntN(len(held))
			p.release(held[i])
			held = slices.Delete(held, i, i+1)
			continue
		}
		client := ""
		if n := rnd.IntN(12); n > 0 {
			client = fmt.Sprintf("02:00:00:00:00:%02x", n)
		}
		most, has := perClient, 0
		if client == "" {
			most = perUnknown
		}
		for _, h := range held {
			if h == client {
				has++
			}
		}
		if got, want := p.acquire(client), has < most && len(held) < maxLookups; got != want {
			t.Fatalf("%q has %d of %d places: %v", client, has, len(held), got)
		} else if got {
			held = append(held, client)
		}
	}
	for _, h := range held {
		p.release(h)
	}
	if p.taken != 0 || len(p.clients) != 0 {
		t.Errorf("left: %+v", p)
	}
}
