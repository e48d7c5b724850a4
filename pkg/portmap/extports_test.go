package portmap

import (
	"fmt"
	"net/netip"
	"testing"
)

// providing returns an allocator whose provider forwards the ports of ranges only.
func providing(list ...PortRange) *allocator {
	al := testAllocator()
	al.policy.ExternalPorts = portsOf(list...)
	return al
}

// TestPortsOfTheProvider asks for ports, some of which the provider does not forward.
func TestPortsOfTheProvider(t *testing.T) {
	low := func(al *allocator) { // a policy that allows them
		for i := range al.policy.Rules[:2] {
			al.policy.Rules[i].External = nil
		}
	}
	flow := func(port uint16) func(*allocator) {
		return func(al *allocator) {
			al.flowPort = func(Protocol, netip.AddrPort, netip.AddrPort) (uint16, bool) { return port, true }
		}
	}
	forward := func(al *allocator) {
		al.network.Forwards = []Forward{
			{Protocol: TCP, External: PortRange{5000, 5000}, Target: netip.AddrPortFrom(host, 5000)},
			{Protocol: TCP, External: PortRange{1234, 1234}},
		}
	}
	peerTo := toward("9.9.9.9:443")
	for _, tt := range []struct {
		what string
		set  func(*allocator)
		ask  Request
		want outcome
	}{
		{"one that the rules forbid to the host", nil, ask(NATPMP, host, TCP, 80, 1240), outcome{Refusal: NotAuthorized}},
		{"one of them", nil, ask(NATPMP, host, TCP, 4000, 1240), outcome{External: 1240}},
		{"another one", nil, ask(NATPMP, host, TCP, 4000, 4000), outcome{External: 5000}},
		{"none, from one of them", nil, ask(NATPMP, host, UDP, 1250, 0), outcome{External: 1250}},
		{"none, from another one", nil, ask(PCP, host, UDP, 60000, 0), outcome{External: 1234}},
		{"none, from a low one", nil, ask(PCP, host, UDP, 9, 0), outcome{External: 1234}},
		{"one in a gap", nil, ask(PCP, host, UDP, 1300, 1300), outcome{External: 5000}},
		{"any, by UPnP", nil, ask(UPnP, host, TCP, 4000, 4000, anyPort), outcome{External: 5000}},
		{"exactly one of them, by UPnP", nil, ask(UPnP, host, TCP, 4000, 5001), outcome{External: 5001}},
		{"exactly another one, by UPnP", nil, ask(UPnP, host, TCP, 4000, 4000), outcome{Refusal: NotProvided}},
		{"exactly another one, by PCP", nil, ask(PCP, host, TCP, 4000, 4000, exactly), outcome{Refusal: NotProvided}},
		{"exactly one that the rules forbid", nil, ask(UPnP, host, TCP, 80, 80), outcome{Refusal: NotAuthorized}},
		{"a flow's", nil, ask(PCP, host, TCP, 4000, 0, peerTo), outcome{External: 5000}},
		{"exactly one of them for a flow", nil, ask(PCP, host, TCP, 4000, 1250, peerTo), outcome{External: 1250}},
		{"exactly another one for a flow", nil, ask(PCP, host, TCP, 4000, 1300, peerTo), outcome{Refusal: NotProvided}},
		{"the one that a flow has", flow(1250), ask(PCP, host, TCP, 4000, 0, peerTo), outcome{External: 1250}},
		{"another one that a flow has", flow(1300), ask(PCP, host, TCP, 4000, 0, peerTo), outcome{Refusal: NotProvided}},
		{"a pinhole", nil, ask(PCP, inside, TCP, 4000, 0), outcome{}},
		{"a static forward outside", forward, ask(PCP, host, TCP, 5000, 0), outcome{External: 5000}},
		{"one with a static forward", forward, ask(NATPMP, host, TCP, 1234, 1234), outcome{External: 1235}},
		{"exactly one with a static forward", forward, ask(UPnP, host, TCP, 1234, 1234), outcome{Refusal: Forwarded}},
		{"any, of low ones that the rules forbid", func(al *allocator) { al.policy.ExternalPorts = portsOf(PortRange{80, 90}) },
			ask(NATPMP, host, TCP, 4000, 0), outcome{Refusal: NoPorts}},
		{"any, of low ones that the rules allow", func(al *allocator) { al.policy.ExternalPorts = portsOf(PortRange{80, 90}); low(al) },
			ask(NATPMP, host, TCP, 4000, 0), outcome{External: 80}},
		{"any, of low ones without a list", low, ask(NATPMP, host, TCP, 9, 0), outcome{External: 1234}},
		{"any of none", func(al *allocator) { al.policy.ExternalPorts = new(PortSet) }, ask(NATPMP, host, TCP, 4000, 0), outcome{Refusal: NoPorts}},
		{"exactly one, of none", func(al *allocator) { al.policy.ExternalPorts = new(PortSet) }, ask(UPnP, host, TCP, 4000, 4000), outcome{Refusal: NoPorts}},
		{"exactly another one, of some that are all blocked", func(al *allocator) {
			al.block(blockOf(Selector{External: PortRange{1234, 5063}}))
		}, ask(UPnP, host, TCP, 4000, 1200), outcome{Refusal: Blocked}},
		{"any of some that are all blocked", func(al *allocator) {
			al.block(blockOf(Selector{External: PortRange{1, 6000}}))
		}, ask(NATPMP, host, TCP, 4000, 0), outcome{Refusal: Blocked}},
	} {
		al := providing(PortRange{1234, 1299}, PortRange{5000, 5063})
		if tt.set != nil {
			tt.set(al)
		}
		a := al.do(tt.ask)
		got := outcome{Refusal: a.Refusal}
		if a.Refusal == Granted && tt.want.External != 0 {
			got.External = a.Mapping.External
		}
		if got != tt.want {
			t.Errorf("%s: %+v (%v), want %+v (%v)", tt.what, got, got.Refusal, tt.want, tt.want.Refusal)
		}
		al.check(t)
	}
}

// TestRetriesOfUPnPEnd has a client try the next port after each conflict, as many do: it
// gets one of the provider's, or hears that none is left.
func TestRetriesOfUPnPEnd(t *testing.T) {
	for _, tt := range []struct {
		what  string
		taken int // of ten ports
		first uint16
		want  Refusal
		tries int
	}{
		{"from below", 0, 4990, Granted, 11},
		{"from below, one left", 9, 4990, Granted, 20},
		{"none left", 10, 4990, NoPorts, 1},
		{"none left, from the middle", 10, 5005, NoPorts, 6},
	} {
		al := providing(PortRange{5000, 5009})
		for i := range tt.taken {
			al.do(ask(NATPMP, netip.AddrFrom4([4]byte{192, 168, 50, byte(100 + i)}), TCP, 40000, uint16(5000+i)))
		}
		a, tries := Answer{Refusal: Conflict}, 0
		for port := tt.first; a.Refusal == Conflict || a.Refusal == NotProvided; port++ {
			a = al.do(ask(UPnP, host, TCP, 4000, port))
			tries++
		}
		if a.Refusal != tt.want || tries != tt.tries {
			t.Errorf("%s: %v after %d tries, want %v after %d", tt.what, a.Refusal, tries, tt.want, tt.tries)
		}
	}
}

// grab has the n-th host take all the ports that it can, each in one protocol, and
// returns how many they are.
func grab(al *allocator, n int, o Origin) (got int) {
	a := netip.AddrFrom4([4]byte{192, 168, 50, byte(100 + n)})
	for i := range 400 {
		p := []Protocol{TCP, UDP}[i%2]
		if al.do(ask(o, a, p, uint16(20000+i), 0, owned(fmt.Sprint(n)))).Refusal == Granted {
			got++
		}
	}
	return got
}

// TestGreedyHostLeavesPorts has hosts take all the ports that they can, one after
// another: the first ones leave some to others.
func TestGreedyHostLeavesPorts(t *testing.T) {
	for _, tt := range []struct {
		ports     uint16
		forwarded uint16 // of these by static port forwards
		want      []int  // port numbers of each host, each used in both protocols
	}{
		{64, 56, []int{6, 1, 1, 0}},
		{240, 0, []int{180, 30, 15, 8, 4, 2, 1, 0}},
		{64, 0, []int{48, 8, 4, 2, 1, 1, 0}},
		{16, 0, []int{12, 2, 1, 1, 0}},
		{8, 0, []int{6, 1, 1, 0}},
		{3, 0, []int{3, 0}}, // too few to divide
		{1, 0, []int{1, 0}},
	} {
		al := providing(PortRange{5000, 5000 + tt.ports - 1})
		for _, p := range []Protocol{TCP, UDP} {
			if last := 5000 + tt.forwarded - 1; tt.forwarded > 0 {
				al.network.Forwards = append(al.network.Forwards, Forward{Protocol: p, External: PortRange{5000, last}})
			}
		}
		for i, want := range tt.want {
			got := 0
			a := netip.AddrFrom4([4]byte{192, 168, 50, byte(100 + i)})
			for port := range tt.ports {
				one := al.do(ask(UPnP, a, TCP, 5000+port, 5000+port)).Refusal
				two := al.do(ask(UPnP, a, UDP, 5000+port, 5000+port)).Refusal
				if one != two {
					t.Errorf("of %d: port %d: TCP %v, UDP %v", tt.ports, 5000+port, one, two)
				}
				if one == Granted {
					got++
				}
			}
			if got != want {
				t.Errorf("of %d: host %d has %d, want %d", tt.ports, i, got, want)
			}
		}
	}
}

// TestGreedyHostCannotReserve has a host spread over both protocols, and open and close
// ports to have them held down: others still get some by each protocol.
func TestGreedyHostCannotReserve(t *testing.T) {
	for _, by := range []Origin{NATPMP, PCP, UPnP} {
		for _, closes := range []bool{false, true} {
			al := providing(PortRange{5000, 5063})
			greedy := netip.AddrFrom4([4]byte{192, 168, 50, 200})
			for port := range uint16(64) {
				p := []Protocol{TCP, UDP}[port/32]
				al.do(ask(by, greedy, p, 5000+port, 5000+port))
				if closes {
					al.do(ask(by, greedy, p, 5000+port, 5000+port, closing))
				}
			}
			for i, o := range []Origin{NATPMP, PCP, UPnP} {
				if n := grab(al, i, o); n < 2 {
					t.Errorf("%v, closing %v: the host by %v gets %d ports", by, closes, o, n)
				}
			}
		}
	}
}

// TestShareOfWhatCanBeGranted has the rules deny some of the ports that the provider
// forwards: the kept quarter is one of the others.
func TestShareOfWhatCanBeGranted(t *testing.T) {
	al := providing(PortRange{1000, 1023 + 64})
	al.network.Forwards = []Forward{{Protocol: TCP, External: PortRange{1024, 1039}}, {Protocol: UDP, External: PortRange{1024, 1039}}}
	if n := grab(al, 0, PCP); n != 36+36 {
		t.Errorf("a host gets %d ports, want 36 of 48 in each protocol", n)
	}
}

// TestExplainNoPorts has the rules deny, and static forwards have, all ports that the
// provider forwards: the first of those is told.
func TestExplainNoPorts(t *testing.T) {
	forwards := []Forward{{Protocol: TCP, External: PortRange{1024, 1030}}, {Protocol: UDP, External: PortRange{1024, 1029}}}
	for _, tt := range []struct {
		what     string
		ports    []PortRange
		protocol Protocol
		want     Refusal
		rule     bool
		forward  *Forward
	}{
		{"denied", []PortRange{{1000, 1023}}, TCP, NoPorts, true, nil},
		{"forwarded", []PortRange{{1025, 1030}}, TCP, NoPorts, false, &forwards[0]},
		{"denied or forwarded", []PortRange{{1000, 1030}}, TCP, NoPorts, false, &forwards[0]},
		{"one is left", []PortRange{{1000, 1030}}, UDP, Granted, true, nil},
		{"none", nil, TCP, NoPorts, false, nil},
	} {
		al := providing(tt.ports...)
		al.network.Forwards = forwards
		for _, req := range []Request{ask(NATPMP, host, tt.protocol, 4000, 0), ask(UPnP, host, tt.protocol, 4000, 4000, anyPort)} {
			e := al.explain(&req)
			gotForward := e.Forward != nil && tt.forward != nil && *e.Forward == *tt.forward || e.Forward == nil && tt.forward == nil
			if e.Refusal != tt.want || (e.Rule != nil) != tt.rule || !gotForward {
				t.Errorf("%s: %v by rule %+v, forward %v", tt.what, e.Refusal, e.Rule, e.Forward)
			}
		}
	}
}

// TestRoutedNetworkIsOneHost has a host behind another router invent addresses: all of them
// have the share of one host, whatever they are called.
func TestRoutedNetworkIsOneHost(t *testing.T) {
	for _, named := range []bool{false, true} {
		al := routedAllocator()
		al.policy.ExternalPorts, al.policy.Rules = portsOf(PortRange{5000, 5063}), nil
		got := 0
		for i := range 64 {
			a := netip.AddrFrom4([4]byte{10, 1, 0, byte(1 + i)})
			req := ask(NATPMP, a, UDP, 4000, 0)
			if !named {
				req.ClientHost = ""
			}
			if al.do(req).Refusal == Granted {
				got++
			}
		}
		if got != 48 {
			t.Errorf("named %v: the routed network has %d ports, want 48", named, got)
		}
		for _, a := range []netip.Addr{host, routed1.Addr()} {
			if r := al.do(ask(NATPMP, a, UDP, 4000, 0)).Refusal; r != Granted {
				t.Errorf("named %v: %v gets %v", named, a, r)
			}
		}
		al.setNetwork(NetworkState{External: wan4, LANs: al.network.LANs})
		al.check(t)
	}
}

// TestOwnNumbers has a host ask for any of the ports of the provider: it gets a number
// that it has or had, first that of the same internal port.
func TestOwnNumbers(t *testing.T) {
	type step struct {
		ask  Request
		want outcome
	}
	used := func(n int) (steps []step) { // by the host, the first n ports, TCP
		for i := range n {
			port := 5000 + uint16(i)
			steps = append(steps, step{ask(PCP, host, TCP, port, port), outcome{External: port}})
		}
		return steps
	}
	for what, steps := range map[string][]step{
		"the number of the other protocol": {
			{ask(NATPMP, peer, TCP, 4000, 0), outcome{External: 5000}},
			{ask(NATPMP, host, TCP, 4001, 0), outcome{External: 5001}},
			{ask(NATPMP, host, UDP, 4001, 0), outcome{External: 5001}},
			{ask(NATPMP, peer, UDP, 4000, 0), outcome{External: 5000}},
			{ask(NATPMP, host, UDP, 4002, 0), outcome{External: 5002}},
			{ask(NATPMP, host, TCP, 4002, 0), outcome{External: 5002}},
		},
		"that of the same internal port before others": {
			{ask(NATPMP, host, TCP, 4001, 0), outcome{External: 5000}},
			{ask(NATPMP, host, TCP, 4002, 0), outcome{External: 5001}},
			{ask(NATPMP, host, UDP, 4002, 0), outcome{External: 5001}},
			{ask(UPnP, host, UDP, 4003, 0, anyPort), outcome{External: 5000}},
		},
		"one held down": {
			{ask(PCP, host, TCP, 4000, 0), outcome{External: 5000}},
			{ask(PCP, host, TCP, 4000, 0, closing), outcome{Closed: 1}},
			{ask(PCP, peer, TCP, 4000, 0), outcome{External: 5001}},
			{ask(PCP, host, TCP, 4000, 0), outcome{External: 5000}},
		},
		"the one held down of the same internal port": {
			{ask(PCP, host, TCP, 4000, 0), outcome{External: 5000}},
			{ask(PCP, host, TCP, 4001, 0), outcome{External: 5001}},
			{ask(PCP, host, TCP, 4000, 0, closing), outcome{Closed: 1}},
			{ask(PCP, host, TCP, 4001, 0, closing), outcome{Closed: 1}},
			{ask(PCP, host, TCP, 4001, 0), outcome{External: 5001}},
		},
		"the share in the other protocol": append(used(12), []step{
			{ask(NATPMP, host, TCP, 4000, 0), outcome{Refusal: ShareExceeded}},
			{ask(NATPMP, host, UDP, 4000, 0), outcome{External: 5000}},
			{ask(PCP, host, UDP, 5012, 0), outcome{External: 5001}},
			{ask(PCP, host, UDP, 5014, 5014, exactly), outcome{Refusal: ShareExceeded}},
			{ask(NATPMP, peer, UDP, 4000, 0), outcome{External: 5012}},
		}...),
		"the share held down": append(used(12), []step{
			{ask(PCP, host, TCP, 5003, 0, closing), outcome{Closed: 1}},
			{ask(PCP, host, TCP, 4000, 0), outcome{External: 5003}},
			{ask(PCP, host, TCP, 4001, 0), outcome{Refusal: ShareExceeded}},
		}...),
		"only ports of others are left": {
			{ask(NATPMP, peer, TCP, 5000, 5000), outcome{External: 5000}},
			{ask(UPnP, host, UDP, 5000, 5000), outcome{Refusal: Conflict}},
			{ask(UPnP, host, UDP, 5000, 5000, anyPort), outcome{External: 5001}},
		},
	} {
		al := providing(PortRange{5000, 5015})
		for i, s := range steps {
			a := al.do(s.ask)
			got := outcome{Refusal: a.Refusal, Closed: a.Closed}
			if a.Refusal == Granted && a.Mapping != nil {
				got.External = a.Mapping.External
			}
			if got != s.want {
				t.Errorf("%s: step %d: %+v, want %+v", what, i, got, s.want)
			}
		}
		al.check(t)
	}
}

// TestProgramThatMapsAnewKeepsItsPort maps any port and deletes it again and again, from
// the same internal port and from others: it never runs out of ports.
func TestProgramThatMapsAnewKeepsItsPort(t *testing.T) {
	for _, o := range []Origin{PCP, UPnP, NATPMP} {
		al := providing(PortRange{5000, 5015})
		for i := range uint16(64) {
			a := al.do(ask(o, host, UDP, 4000+i/2, 0, anyPort))
			if a.Refusal != Granted || a.Mapping.External != 5000 {
				t.Fatalf("%v, the %d-th time: %+v", o, i, a)
			}
			al.do(ask(o, host, UDP, 4000+i/2, 0, closing))
		}
	}
}

// TestPortsOfTheProviderAreRestored restores saved mappings, some outside the ports that
// the provider forwards now.
func TestPortsOfTheProviderAreRestored(t *testing.T) {
	before := testAllocator()
	for _, r := range []Request{ask(NATPMP, host, UDP, 5001, 5001), ask(NATPMP, host, UDP, 6000, 6000), ask(PCP, inside, TCP, 6000, 0)} {
		before.do(r)
	}
	al := providing(PortRange{5000, 5063})
	d := al.restore(before.index.order, false)
	if len(al.index.order) != 2 || len(d.closed) != 1 || d.closed[0].Reason != NotProvided || d.closed[0].Mapping.External != 6000 {
		t.Errorf("%d mappings are there, closed are %+v", len(al.index.order), d.closed)
	}
}
