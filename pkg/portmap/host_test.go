package portmap

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// rule returns the rule "allow|deny ADDRESS/MASK" for all ports.
func rule(allow bool, network, mask string) Rule {
	all := Ports{{0, 65535}}
	return Rule{Allow: allow, External: all, Network: netip.MustParseAddr(network), Mask: uint32Of(netip.MustParseAddr(mask)), Internal: all}
}

func prefixes(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, t := range texts {
		list = append(list, netip.MustParsePrefix(t))
	}
	return list
}

func addrs(texts ...string) []netip.Addr {
	var list []netip.Addr
	for _, t := range texts {
		list = append(list, netip.MustParseAddr(t))
	}
	return list
}

// TestRulesOverIPv6 checks hosts of a LAN by one rule, followed by the opposite
// rule for all hosts.
func TestRulesOverIPv6(t *testing.T) {
	const every, all24, half, single = "0.0.0.0", "255.255.255.0", "255.255.255.128", "255.255.255.255"
	one := prefixes("192.168.50.0/24")
	two := prefixes("192.168.50.0/24", "192.168.51.0/24")
	none := []netip.Addr(nil)
	for _, tt := range []struct {
		what          string
		network, mask string
		lan           []netip.Prefix
		host          []netip.Addr
		allow, deny   bool // whether such a rule matches
	}{
		{"all hosts", every, every, one, none, true, true},
		{"all hosts, without IPv4", every, every, nil, none, true, true},
		{"all hosts, by any address under an empty mask", "10.0.0.1", every, one, none, true, true},
		{"the LAN", "192.168.50.0", all24, one, none, true, true},
		{"the LAN, by the router's address", "192.168.50.1", all24, one, none, true, true},
		{"more than the LAN", "192.168.0.0", "255.255.0.0", one, none, true, true},
		{"both networks of a LAN", "192.168.50.0", "255.255.254.0", two, none, true, true},
		{"one of two networks", "192.168.50.0", all24, two, none, false, true},
		{"one of two networks, of a host in it", "192.168.50.0", all24, two, addrs("192.168.50.10"), true, true},
		{"one of two networks, of a host in the other", "192.168.50.0", all24, two, addrs("192.168.51.10"), false, false},
		{"a LAN without IPv4", "192.168.50.0", all24, nil, none, false, true},
		{"another LAN", "192.168.60.0", all24, one, addrs("192.168.50.10"), false, false},
		{"another LAN, of a host without IPv4", "192.168.60.0", all24, one, none, false, false},
		{"another LAN, without IPv4 here", "192.168.60.0", all24, nil, none, false, true},
		{"the host alone", "192.168.50.10", single, one, addrs("192.168.50.10"), true, true},
		{"another host", "192.168.50.11", single, one, addrs("192.168.50.10"), false, false},
		{"one host, of a host without IPv4", "192.168.50.10", single, one, none, false, true},
		{"one of the host's addresses", "192.168.50.10", single, one, addrs("192.168.50.11", "192.168.50.10"), false, true},
		{"all of the host's addresses", "192.168.50.10", "255.255.255.254", one, addrs("192.168.50.11", "192.168.50.10"), true, true},
		{"the host's half", "192.168.50.0", half, one, addrs("192.168.50.10"), true, true},
		{"the other half", "192.168.50.128", half, one, addrs("192.168.50.10"), false, false},
		{"half, of a host in both", "192.168.50.0", half, one, addrs("192.168.50.10", "192.168.50.200"), false, true},
		{"a mask that is not contiguous, but covers the LAN", "192.0.50.0", "255.0.255.0", one, none, true, true},
		{"every second address", "192.168.50.0", "255.255.255.1", one, addrs("192.168.50.10"), true, true},
		{"every second address, the others", "192.168.50.1", "255.255.255.1", one, addrs("192.168.50.10"), false, false},
		{"every second address, of a host without IPv4", "192.168.50.0", "255.255.255.1", one, none, false, true},
	} {
		to := Destination{AddrPort: netip.AddrPortFrom(inside, 4000), Host: Host{IPv4: tt.host}, Networks: tt.lan}
		for _, allow := range []bool{true, false} {
			p := Policy{Rules: []Rule{rule(allow, tt.network, tt.mask), rule(!allow, every, every)}}
			want := tt.allow
			if !allow {
				want = tt.deny
			}
			if got := p.Permits(4000, to, "") == allow; got != want {
				t.Errorf("%s, allow %v: the rule matches %v, want %v", tt.what, allow, got, want)
			}
		}
	}
}

// TestWhatDependsOnTheHost checks which rules depend on the host of an IPv6
// address.
func TestWhatDependsOnTheHost(t *testing.T) {
	one, two := prefixes("192.168.50.0/24"), prefixes("192.168.50.0/24", "192.168.51.0/24")
	for _, tt := range []struct {
		network, mask string
		lan           []netip.Prefix
		want          bool
	}{
		{"0.0.0.0", "0.0.0.0", one, false},
		{"0.0.0.0", "0.0.0.0", nil, false},
		{"192.168.50.0", "255.255.255.0", one, false},
		{"192.168.50.0", "255.255.255.0", two, true},
		{"192.168.50.0", "255.255.254.0", two, false},
		{"192.168.50.0", "255.255.255.0", nil, true},
		{"192.168.60.0", "255.255.255.0", two, false},
		{"192.168.50.10", "255.255.255.255", one, true},
		{"192.168.60.10", "255.255.255.255", one, false},
		{"192.168.50.128", "255.255.255.128", one, true},
		{"192.168.50.1", "255.255.255.1", one, true},
		{"192.0.50.0", "255.0.255.0", one, false},
	} {
		p := Policy{Rules: []Rule{rule(true, "0.0.0.0", "0.0.0.0"), rule(true, tt.network, tt.mask)}}
		if got := p.DependsOnHost(4000, tt.lan); got != tt.want {
			t.Errorf("%s/%s on %v: %v, want %v", tt.network, tt.mask, tt.lan, got, tt.want)
		}
	}
	p := Policy{Rules: []Rule{rule(true, "192.168.50.10", "255.255.255.255")}}
	if p.Rules[0].Internal = (Ports{{22, 22}}); p.DependsOnHost(4000, one) || !p.DependsOnHost(22, one) {
		t.Error("rules for other ports count")
	}
}

// TestNetworksThatRulesCoverTogether has a host that can be in either of two
// networks: it gets a port if both may.
func TestNetworksThatRulesCoverTogether(t *testing.T) {
	to := Destination{AddrPort: netip.AddrPortFrom(inside, 4000), Networks: prefixes("192.168.50.0/24", "192.168.51.0/24")}
	p := Policy{Rules: []Rule{
		rule(true, "192.168.50.0", "255.255.255.0"), rule(true, "192.168.51.0", "255.255.255.0"), rule(false, "0.0.0.0", "0.0.0.0"),
	}}
	if !p.Permits(4000, to, "") {
		t.Error("refused, though both networks may")
	}
	p.Rules[0].Allow = false
	if i, decided := p.Decides(4000, to, ""); p.Permits(4000, to, "") || !decided || i != 0 {
		t.Errorf("one of the networks may not, and rule %d decides, %v", i, decided)
	}
}

// TestIPv6NeverAllowsMore compares what a host gets by IPv6 with what each of
// its addresses gets by IPv4, under random rules.
func TestIPv6NeverAllowsMore(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	lans := [][]netip.Prefix{prefixes("192.168.50.0/29"), prefixes("192.168.50.0/30", "192.168.50.4/30"), nil}
	addr := func() netip.Addr { return netip.AddrFrom4([4]byte{192, 168, 50, byte(r.IntN(8))}) }
	masks := []uint32{0, 0xffffff00, 0xfffffff8, 0xfffffff9, 0xfffffffc, 0xfffffffe, 0xffffffff, 0xfffffffd, 0xff00fff9}
	for i := range 30000 {
		var p Policy
		lan := lans[i%len(lans)]
		for range r.IntN(5) {
			p.Rules = append(p.Rules, Rule{
				Allow: r.IntN(2) == 0, External: Ports{{0, uint16(4000 + r.IntN(2))}}, Internal: Ports{{0, uint16(4000 + r.IntN(2))}},
				Network: addr(), Mask: masks[r.IntN(len(masks))],
			})
		}
		six := Destination{AddrPort: netip.AddrPortFrom(inside, 4000), Networks: lan}
		unknown := p.Permits(4000, six, "")
		for range 1 + r.IntN(3) {
			six.IPv4 = append(six.IPv4, addr())
		}
		permits := p.Permits(4000, six, "")
		for _, a := range six.IPv4 {
			four := p.Permits(4000, Destination{AddrPort: netip.AddrPortFrom(a, 4000)}, "")
			if permits && !four {
				t.Fatalf("%+v: %v may over IPv6, and %v may not", p.Rules, six.IPv4, a)
			}
			if len(six.IPv4) == 1 && permits != four {
				t.Fatalf("%+v: %v may %v over IPv6, %v over IPv4", p.Rules, a, permits, four)
			}
		}
		switch {
		case unknown && !permits && len(lan) < 2:
			t.Fatalf("%+v: an unknown host may, and %v may not", p.Rules, six.IPv4)
		case permits && !p.mayPermit(4000, six, ""):
			t.Fatalf("%+v: no host may, and %v may", p.Rules, six.IPv4)
		case !p.DependsOnHost(4000, lan) && unknown != permits:
			t.Fatalf("%+v: %v may %v, others %v", p.Rules, six.IPv4, permits, unknown)
		}
	}
}

func TestNamed(t *testing.T) {
	p := Policy{Rules: []Rule{
		rule(true, "192.168.50.10", "255.255.255.255"), rule(false, "192.168.50.10", "255.255.255.255"), rule(true, "192.168.50.11", "255.255.255.254"),
		rule(true, "192.168.60.10", "255.255.255.255"), rule(false, "192.168.50.12", "255.255.255.255"),
	}}
	if got, want := p.Named(prefixes("192.168.50.0/24")), addrs("192.168.50.10", "192.168.50.12"); !slices.Equal(got, want) {
		t.Errorf("named %v, want %v", got, want)
	}
}

// TestNetworks asks for the IPv4 networks of one of two LANs.
func TestNetworks(t *testing.T) {
	first := prefixes("192.168.50.1/24", "10.0.0.1/32", "2001:db8:50::1/64")
	second := prefixes("192.168.60.1/24", "2001:db8:60::1/64")
	s := NetworkState{LANs: slices.Concat(first, second), Interfaces: [][]netip.Prefix{first, second}}
	for a, want := range map[string][]netip.Prefix{
		"2001:db8:50::10": prefixes("192.168.50.0/24"), "2001:db8:60::10": prefixes("192.168.60.0/24"), "2001:db8:70::10": nil,
	} {
		if got := s.Networks(netip.MustParseAddr(a)); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", a, got, want)
		}
	}
}

// namedOnly sets rules that allow one host of the LAN only.
func namedOnly(al *allocator) {
	al.policy = &Policy{Secure: true, Rules: []Rule{rule(true, host.String(), "255.255.255.255"), rule(false, "0.0.0.0", "0.0.0.0")}}
}

// of sets the host of a request's target.
func of(hardware string, ipv4 ...netip.Addr) func(*Request) {
	return func(r *Request) { r.Host = Host{Hardware: hardware, IPv4: ipv4} }
}

const (
	named         = "02:00:00:00:00:10"
	otherHardware = "02:00:00:00:00:11"
)

// TestPinholesOfNamedHosts opens and renews pinholes where rules allow one
// host.
func TestPinholesOfNamedHosts(t *testing.T) {
	al := testAllocator()
	namedOnly(al)
	pcp := func(more ...func(*Request)) Request { return ask(PCP, inside, TCP, 4000, 0, more...) }
	for _, tt := range []struct {
		what string
		req  Request
		want Refusal
	}{
		{"an unknown host", pcp(), UnknownHost},
		{"a host without IPv4", pcp(of(otherHardware)), UnknownHost},
		{"another host", pcp(of(otherHardware, peer)), NotAuthorized},
		{"the host and another in one", pcp(of(otherHardware, host, peer)), NotAuthorized},
		{"the host", pcp(of(named, host)), Granted},
		{"again, while its addresses are not known", pcp(of(named)), Granted},
		{"again, while nothing is known", pcp(), Granted},
		{"again, as another host", pcp(of(otherHardware)), UnknownHost},
		{"again, with another address", pcp(of(named, host, peer)), NotAuthorized},
		{"again by UPnP, as another host", ask(UPnP, inside, TCP, 4000, 0, of(otherHardware, peer)), NotAuthorized},
		{"by UPnP", ask(UPnP, inside, TCP, 4000, 0, of(named, host)), Granted},
		{"a flow of another host", ask(PCP, inside, TCP, 5000, 0, toward("[2001:db8::1]:443"), of(otherHardware, peer)), NotAuthorized},
		{"a flow", ask(PCP, inside, TCP, 5000, 0, toward("[2001:db8::1]:443"), of(named, host)), Granted},
	} {
		if a := al.do(tt.req); a.Refusal != tt.want {
			t.Errorf("%s: %v, want %v", tt.what, a.Refusal, tt.want)
		}
	}
	m := al.index.byKey[Key{Protocol: TCP, Pinhole: netip.AddrPortFrom(inside, 4000)}]
	if m.Host.Hardware != named || !slices.Equal(m.Host.IPv4, []netip.Addr{host}) {
		t.Errorf("the pinhole's host is %+v", m.Host)
	}
	id := m.Claims[1].ID
	if a := al.do(Request{Origin: UPnP, Client: inside, ID: id, Lifetime: time.Hour, Host: Host{Hardware: otherHardware, IPv4: addrs("192.168.50.11")}}); a.Refusal != NotAuthorized {
		t.Errorf("renewed by its number, as another host: %v", a.Refusal)
	}
	if a := al.do(Request{Origin: UPnP, Client: inside, ID: id, Lifetime: time.Hour}); a.Refusal != Granted {
		t.Errorf("renewed by its number: %v", a.Refusal)
	}
}

// TestDenyOfOneHost checks that a rule denies one host only.
func TestDenyOfOneHost(t *testing.T) {
	al := testAllocator()
	al.policy = &Policy{Rules: []Rule{rule(false, host.String(), "255.255.255.255"), rule(true, lan.Addr().String(), "255.255.255.0"), rule(false, "0.0.0.0", "0.0.0.0")}}
	for port, tt := range map[uint16]struct {
		who  func(*Request)
		want Refusal
	}{
		4000: {of(otherHardware, peer), Granted},
		4001: {of(named, host), NotAuthorized},
		4002: {of(otherHardware), UnknownHost},
	} {
		if a := al.do(ask(PCP, inside, TCP, port, 0, tt.who)); a.Refusal != tt.want {
			t.Errorf("port %d: %v, want %v", port, a.Refusal, tt.want)
		}
	}
}

// stored is a pinhole as the Store returns it.
func stored(port uint16, hardware string) *Mapping {
	to := netip.AddrPortFrom(inside, port)
	return &Mapping{
		Key: Key{Protocol: TCP, Pinhole: to}, Internal: to, Host: Host{Hardware: hardware},
		Claims: []Claim{{Origin: PCP, Expires: time.Now().Add(time.Hour)}, {Origin: UPnP, ID: port, Expires: time.Now().Add(time.Hour)}},
	}
}

// TestDormantUntilTheHostIsKnown restores a pinhole whose host is not known
// yet, and makes the host known in several ways.
func TestDormantUntilTheHostIsKnown(t *testing.T) {
	known := func(h Host) func(*allocator) Refusal {
		return func(al *allocator) Refusal {
			al.recheck(func(a netip.Addr) (Host, bool) { return h, a == inside })
			return Granted
		}
	}
	asks := func(req Request) func(*allocator) Refusal {
		return func(al *allocator) Refusal { return al.do(req).Refusal }
	}
	rules := func(rules ...Rule) func(*allocator) Refusal {
		return func(al *allocator) Refusal { al.policy = &Policy{Rules: rules}; al.recheck(noHost); return Granted }
	}
	byID := Request{Origin: UPnP, Client: inside, ID: 4000, Lifetime: time.Hour}
	type end struct{ held, dormant bool }
	for _, tt := range []struct {
		what   string
		happen func(*allocator) Refusal
		want   Refusal
		end    end
	}{
		{"nothing", func(*allocator) Refusal { return Granted }, Granted, end{true, true}},
		{"the host is still not known", func(al *allocator) Refusal {
			al.recheck(noHost)
			return Granted
		}, Granted, end{true, true}},
		{"the host is found", known(Host{Hardware: named, IPv4: addrs("192.168.50.10")}), Granted, end{true, false}},
		{"the host is found without its address", known(Host{Hardware: named}), Granted, end{true, true}},
		{"another host is found", known(Host{Hardware: otherHardware, IPv4: addrs("192.168.50.11")}), Granted, end{false, false}},
		{"a renewal by the host", asks(ask(PCP, inside, TCP, 4000, 0, of(named, host))), Granted, end{true, false}},
		{"a renewal by an unknown host", asks(ask(PCP, inside, TCP, 4000, 0)), UnknownHost, end{true, true}},
		{"a renewal by another host", asks(ask(PCP, inside, TCP, 4000, 0, of(otherHardware, peer))), NotAuthorized, end{true, true}},
		{"a renewal by number", asks(byID), UnknownHost, end{true, true}},
		{"a delete", asks(ask(PCP, inside, TCP, 4000, 0, closing)), Granted, end{true, true}}, // UPnP has a claim on it
		{"rules for all hosts", rules(rule(true, "0.0.0.0", "0.0.0.0")), Granted, end{true, false}},
		{"rules for no host", rules(rule(false, "0.0.0.0", "0.0.0.0")), Granted, end{false, false}},
		{"rules for the LAN", rules(rule(true, lan.Addr().String(), "255.255.255.0"), rule(false, "0.0.0.0", "0.0.0.0")), Granted, end{true, false}},
		{"rules for another", rules(rule(true, peer.String(), "255.255.255.255"), rule(false, "0.0.0.0", "0.0.0.0")), Granted, end{true, true}},
		{"rules against another", rules(rule(false, peer.String(), "255.255.255.255")), Granted, end{true, true}},
	} {
		al := testAllocator()
		namedOnly(al)
		if d := al.restore([]*Mapping{stored(4000, named)}, true); len(d.closed) > 0 {
			t.Fatalf("a saved pinhole is not taken over: %v", d.closed)
		}
		key := Key{Protocol: TCP, Pinhole: netip.AddrPortFrom(inside, 4000)}
		if m := al.index.byKey[key]; !m.Dormant || m.Host.Hardware != named {
			t.Fatalf("a saved pinhole is %+v", m)
		}
		if got := tt.happen(al); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.what, got, tt.want)
		}
		m, held := al.index.byKey[key]
		if got := (end{held, held && m.Dormant}); got != tt.end {
			t.Errorf("%s: held and dormant %v, want %v", tt.what, got, tt.end)
		}
		al.check(t)
	}
}

// TestReloadRemembersTheHost checks an open pinhole against new rules, with the
// host that it was granted to.
func TestReloadRemembersTheHost(t *testing.T) {
	for name, held := range map[string]bool{host.String(): true, peer.String(): false} {
		al := testAllocator()
		al.do(ask(PCP, inside, TCP, 4000, 0, of(named, host)))
		namedOnly(al)
		al.policy.Rules[0].Network = netip.MustParseAddr(name)
		al.recheck(noHost)
		if m := al.index.byKey[Key{Protocol: TCP, Pinhole: netip.AddrPortFrom(inside, 4000)}]; (m != nil) != held || held && m.Dormant {
			t.Errorf("rules for %s: %+v", name, m)
		}
	}
}
