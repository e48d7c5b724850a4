package portmap

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// byHardware returns a rule for a hardware address, byPrefix one for IPv6
// addresses, both for all ports.
func byHardware(allow bool, hardware string) Rule {
	all := Ports{{0, 65535}}
	return Rule{Allow: allow, External: all, Hardware: hardware, Internal: all}
}

func byPrefix(allow bool, prefix string) Rule {
	all := Ports{{0, 65535}}
	return Rule{Allow: allow, External: all, Prefix: netip.MustParsePrefix(prefix), Internal: all}
}

// TestHardwareAndPrefix checks destinations of both families by one rule,
// followed by the opposite rule for all hosts.
func TestHardwareAndPrefix(t *testing.T) {
	four, six := netip.AddrPortFrom(host, 4000), netip.AddrPortFrom(inside, 4000)
	lan4 := prefixes("192.168.50.0/24")
	for _, tt := range []struct {
		what        string
		rule        Rule
		to          Destination
		allow, deny bool // whether such a rule matches
	}{
		{"the host over IPv4", byHardware(true, named), Destination{AddrPort: four, Host: Host{Hardware: named}}, true, true},
		{"the host over IPv6", byHardware(true, named), Destination{AddrPort: six, Host: Host{Hardware: named}, Networks: lan4}, true, true},
		{"the host over IPv6, with its address of IPv4", byHardware(true, named), Destination{AddrPort: six, Host: Host{Hardware: named, IPv4: addrs("192.168.50.10")}, Networks: lan4}, true, true},
		{"another over IPv4", byHardware(true, named), Destination{AddrPort: four, Host: Host{Hardware: otherHardware}}, false, false},
		{"another over IPv6", byHardware(true, named), Destination{AddrPort: six, Host: Host{Hardware: otherHardware}, Networks: lan4}, false, false},
		{"an unknown host over IPv4", byHardware(true, named), Destination{AddrPort: four}, false, true},
		{"an unknown host over IPv6", byHardware(true, named), Destination{AddrPort: six, Networks: lan4}, false, true},
		{"the prefix", byPrefix(true, "2001:db8:50::/64"), Destination{AddrPort: six, Networks: lan4}, true, true},
		{"the address", byPrefix(true, inside.String()+"/128"), Destination{AddrPort: six}, true, true},
		{"another address", byPrefix(true, "2001:db8:50::77/128"), Destination{AddrPort: six, Networks: lan4}, false, false},
		{"another prefix", byPrefix(true, "2001:db8:60::/64"), Destination{AddrPort: six, Host: Host{Hardware: named}}, false, false},
		{"every IPv6 address, of IPv4", byPrefix(true, "::/0"), Destination{AddrPort: four, Host: Host{Hardware: named}}, false, false},
		{"every IPv6 address", byPrefix(true, "::/0"), Destination{AddrPort: six}, true, true},
	} {
		for allow, want := range map[bool]bool{true: tt.allow, false: tt.deny} {
			tt.rule.Allow = allow
			p := Policy{Rules: []Rule{tt.rule, rule(!allow, "0.0.0.0", "0.0.0.0")}}
			if got := p.Permits(4000, tt.to, "") == allow; got != want {
				t.Errorf("%s, allow %v: the rule matches %v, want %v", tt.what, allow, got, want)
			}
		}
	}
}

// oracle evaluates rules as the manual describes them, for a host whose IPv4
// addresses are known if to is IPv6.
func oracle(rules []Rule, external uint16, to Destination) bool {
	for _, r := range rules {
		isListed := func(list Ports, port uint16) bool {
			return list == nil || port >= list[0].First && port <= list[0].Last || port == list[len(list)-1].First
		}
		switch {
		case !isListed(r.External, external) || !isListed(r.Internal, to.Port()):
			continue
		case r.Origins != nil && r.Origins[0] != to.Origin && r.Origins[len(r.Origins)-1] != to.Origin:
			continue
		case r.Interfaces != nil && r.Interfaces[0] != to.Interface && r.Interfaces[len(r.Interfaces)-1] != to.Interface && (r.Allow || to.Interface != ""):
			continue
		}
		matches := false
		switch {
		case r.Hardware != "" && to.Hardware == "":
			matches = !r.Allow
		case r.Hardware != "":
			matches = r.Hardware == to.Hardware
		case r.Prefix.IsValid():
			matches = to.Addr().Is6() && r.Prefix.Contains(to.Addr())
		case to.Addr().Is4():
			matches = uint32Of(to.Addr())&r.Mask == uint32Of(r.Network)&r.Mask
		default:
			n := 0
			for _, a := range to.IPv4 {
				if uint32Of(a)&r.Mask == uint32Of(r.Network)&r.Mask {
					n++
				}
			}
			matches = n == len(to.IPv4) || !r.Allow && n > 0
		}
		if matches {
			return r.Allow
		}
	}
	return true
}

// drawPorts returns random ports: every port, a range, or a range and a port behind it.
func drawPorts(r *rand.Rand) Ports {
	list := Ports{{0, uint16(3998 + r.IntN(3))}, {4000, 4000}, {4001, 4001}}
	switch r.IntN(4) {
	case 0:
		return nil
	case 1:
		return Ports{list[0], list[1+r.IntN(2)]}
	}
	return list[:1]
}

// draw returns a random rule of any kind.
func draw(r *rand.Rand) Rule {
	drawn := Rule{Allow: r.IntN(2) == 0, External: drawPorts(r), Internal: drawPorts(r)}
	switch r.IntN(4) {
	case 0:
		drawn.Origins = []Origin{NATPMP, PCP, UPnP}[r.IntN(3):][:1]
	case 1:
		drawn.Origins = []Origin{NATPMP, UPnP}
	}
	if r.IntN(4) == 0 {
		drawn.Interfaces = []string{"lan0", "lan1"}[r.IntN(2):]
	}
	switch r.IntN(3) {
	case 0:
		drawn.Hardware = []string{named, otherHardware}[r.IntN(2)]
	case 1:
		a := [...]netip.Addr{inside, netip.MustParseAddr("2001:db8:60::1")}[r.IntN(2)]
		drawn.Prefix = netip.PrefixFrom(a, []int{0, 32, 64, 128}[r.IntN(4)]).Masked()
	default:
		drawn.Network = netip.AddrFrom4([4]byte{192, 168, 50, byte(10 + r.IntN(2))})
		drawn.Mask = []uint32{0, 0xffffff00, 0xfffffffe, 0xffffffff}[r.IntN(4)]
	}
	return drawn
}

// TestRulesOfAllKinds compares the decisions of random rules with those of
// oracle, and decisions on an unknown host with those on every host that it can
// be.
func TestRulesOfAllKinds(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 6000 {
		var p Policy
		for range r.IntN(6) {
			p.Rules = append(p.Rules, draw(r))
		}
		own := netip.AddrFrom4([4]byte{192, 168, 50, byte(10 + r.IntN(2))})
		four := Destination{AddrPort: netip.AddrPortFrom(own, 4000)}
		six := Destination{AddrPort: netip.AddrPortFrom(inside, 4000), Host: Host{IPv4: []netip.Addr{own}}, Networks: prefixes("192.168.50.0/24")}
		for _, to := range []Destination{four, six} {
			to.Interface, to.Origin = "lan0", []Origin{NATPMP, PCP, UPnP}[r.IntN(3)]
			sure, perhaps := true, false
			for _, hardware := range []string{"", named, otherHardware, "02:00:00:00:00:12"} {
				to.Hardware = hardware
				permits := p.Permits(4000, to, "")
				if want := oracle(p.Rules, 4000, to); permits != want {
					t.Fatalf("%+v: %+v may %v, want %v", p.Rules, to, permits, want)
				}
				if hardware != "" {
					sure, perhaps = sure && permits, perhaps || permits
				}
				if to.Addr().Is4() && p.Ports(to, "").Has(4000) != permits {
					t.Fatalf("%+v: %+v may %v, but not by the set of ports", p.Rules, to, permits)
				}
			}
			to.Hardware = ""
			switch unknown, may := p.Permits(4000, to, ""), p.mayPermit(4000, to, ""); {
			case unknown && !sure:
				t.Fatalf("%+v: %+v may without being known", p.Rules, to)
			case perhaps && !may:
				t.Fatalf("%+v: an unknown host never may, but some host may as %+v", p.Rules, to)
			case !p.DependsOnHardware(4000) && (may != unknown || sure != perhaps):
				t.Fatalf("%+v: it matters who %+v is", p.Rules, to)
			}
		}
	}
}

// TestUnknownInterface compares the decisions of random rules on a host whose interface
// is not known with those on hosts behind each interface.
func TestUnknownInterface(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 6000 {
		var p Policy
		for range r.IntN(6) {
			p.Rules = append(p.Rules, draw(r))
		}
		to := Destination{AddrPort: netip.MustParseAddrPort("192.168.50.10:4000"), Host: Host{Hardware: named}, Origin: NATPMP}
		unknown, may := p.Permits(4000, to, ""), p.mayPermit(4000, to, "")
		sure, perhaps := true, false
		for _, to.Interface = range []string{"lan0", "lan1", "lan2"} {
			permits := p.Permits(4000, to, "")
			sure, perhaps = sure && permits, perhaps || permits
		}
		if unknown && !sure || perhaps && !may {
			t.Fatalf("%+v: behind an unknown interface: %v, perhaps %v; behind each %v, behind one %v", p.Rules, unknown, may, sure, perhaps)
		}
	}
}

// TestDependsOnHardware checks for which ports rules depend on hardware
// addresses.
func TestDependsOnHardware(t *testing.T) {
	lan4 := prefixes("192.168.50.0/24")
	p := Policy{Rules: []Rule{byHardware(true, named), byPrefix(true, "2001:db8::/32"), rule(false, "0.0.0.0", "0.0.0.0")}}
	p.Rules[0].Internal = Ports{{22, 22}}
	if !p.NamesHardware() || !p.DependsOnHardware(22) || p.DependsOnHardware(23) || !p.DependsOnHost(22, lan4) || p.DependsOnHost(23, lan4) {
		t.Error("want only the rules' own port to depend on the host")
	}
	if p.Rules = p.Rules[1:]; p.NamesHardware() || p.DependsOnHardware(22) || p.DependsOnHost(22, lan4) {
		t.Error("rules for IPv6 addresses depend on the host")
	}
	if p.Rules = append(p.Rules, rule(true, "192.168.50.10", "255.255.255.255")); p.DependsOnHardware(22) || !p.DependsOnHost(22, lan4) {
		t.Error("rules for IPv4 addresses are not about IPv4 addresses")
	}
	if list := p.Named(lan4); !slices.Equal(list, addrs("192.168.50.10")) {
		t.Errorf("named %v", list)
	}
}

// hardwareOnly sets rules that allow the host of one hardware address only.
func hardwareOnly(al *allocator) {
	al.policy = &Policy{Secure: true, Rules: []Rule{byHardware(true, named), rule(false, "0.0.0.0", "0.0.0.0")}}
}

// TestMappingsOfNamedHardware opens and renews IPv4 mappings where rules allow
// one hardware address.
func TestMappingsOfNamedHardware(t *testing.T) {
	al := testAllocator()
	hardwareOnly(al)
	for _, tt := range []struct {
		what string
		req  Request
		want Refusal
	}{
		{"an unknown host", ask(PCP, host, TCP, 4000, 4000), NotAuthorized},
		{"another host", ask(PCP, host, TCP, 4000, 4000, of(otherHardware)), NotAuthorized},
		{"the host", ask(PCP, host, TCP, 4000, 4000, of(named)), Granted},
		{"any port, as another host", ask(NATPMP, host, TCP, 5000, 0, of(otherHardware)), NotAuthorized},
		{"any port", ask(NATPMP, host, TCP, 5000, 0, of(named)), Granted},
		{"again, while nothing is known", ask(PCP, host, TCP, 4000, 4000), Granted},
		{"again, as another host", ask(PCP, host, TCP, 4000, 4000, of(otherHardware)), NotAuthorized},
		{"by UPnP, as another host", ask(UPnP, host, TCP, 4000, 4000, of(otherHardware)), NotAuthorized},
		{"by UPnP to another port, as another host", ask(UPnP, host, TCP, 4001, 4000, of(otherHardware)), Conflict},
		{"by UPnP", ask(UPnP, host, TCP, 4000, 4000, of(named)), Granted},
		{"by UPnP again, while nothing is known", ask(UPnP, host, TCP, 4000, 4000), Granted},
		{"a flow of another host", ask(PCP, host, TCP, 6000, 0, toward("198.51.100.1:443"), of(otherHardware)), NotAuthorized},
		{"a flow", ask(PCP, host, TCP, 6000, 0, toward("198.51.100.1:443"), of(named)), Granted},
		{"a flow again, as another host", ask(PCP, host, TCP, 6000, 0, toward("198.51.100.1:443"), of(otherHardware)), NotAuthorized},
	} {
		if a := al.do(tt.req); a.Refusal != tt.want {
			t.Errorf("%s: %v, want %v", tt.what, a.Refusal, tt.want)
		}
	}
	if m := al.index.byKey[Key{Protocol: TCP, External: 4000}]; m == nil || m.Host.Hardware != named {
		t.Errorf("the mapping is %+v", m)
	}
	al.check(t)
}

// TestExplainUnknownHardware explains the refusal of a host that is not known.
func TestExplainUnknownHardware(t *testing.T) {
	al := testAllocator()
	hardwareOnly(al)
	for hardware, want := range map[string]Refusal{"": NotAuthorized, otherHardware: NotAuthorized, named: Granted} {
		req := ask(PCP, host, TCP, 4000, 4000, of(hardware))
		if e := al.explain(&req); e.Refusal != want || e.HostUnknown != (hardware == "") {
			t.Errorf("of %q: %+v, want %v", hardware, e, want)
		}
	}
	al.policy.Rules = al.policy.Rules[1:]
	if req := ask(PCP, host, TCP, 4000, 4000); al.explain(&req).HostUnknown {
		t.Error("explained as dependent on the host, though no host may")
	}
}

// TestDormantMapping restores an IPv4 mapping whose host is not known, or is
// saved with it, and then makes the host known.
func TestDormantMapping(t *testing.T) {
	key := Key{Protocol: TCP, External: 4000}
	found := func(h Host) func(*allocator) {
		return func(al *allocator) { al.recheck(func(a netip.Addr) (Host, bool) { return h, a == host }) }
	}
	reload := func(rules ...Rule) func(*allocator) {
		return func(al *allocator) { al.policy = &Policy{Rules: rules}; al.recheck(noHost) }
	}
	for _, tt := range []struct {
		what          string
		before        string
		happen        func(*allocator)
		held, dormant bool
	}{
		{"nothing", "", func(*allocator) {}, true, true},
		{"nothing, known from before", named, func(*allocator) {}, true, false},
		{"the host is found", "", found(Host{Hardware: named}), true, false},
		{"another host is found", "", found(Host{Hardware: otherHardware}), false, false},
		{"it asks", "", func(al *allocator) { al.do(ask(PCP, host, TCP, 4000, 4000, of(named))) }, true, false},
		{"another asks", "", func(al *allocator) { al.do(ask(PCP, host, TCP, 4000, 4000, of(otherHardware))) }, true, true},
		{"the rule goes", "", reload(rule(true, "0.0.0.0", "0.0.0.0")), true, false},
		{"all may nothing", named, reload(rule(false, "0.0.0.0", "0.0.0.0")), false, false},
		{"a rule for another", named, reload(byHardware(true, otherHardware), rule(false, "0.0.0.0", "0.0.0.0")), false, false},
		{"a rule against another", "", reload(byHardware(false, otherHardware)), true, true},
		{"a rule against another, known from before", named, reload(byHardware(false, otherHardware)), true, false},
	} {
		al := testAllocator()
		hardwareOnly(al)
		m := &Mapping{
			Key: key, Internal: netip.AddrPortFrom(host, 4000), Host: Host{Hardware: tt.before},
			Claims: []Claim{{Origin: PCP, Expires: time.Now().Add(time.Hour)}},
		}
		if d := al.restore([]*Mapping{m}, true); len(d.closed) > 0 {
			t.Fatalf("%s: a saved mapping is not taken over: %v", tt.what, d.closed)
		}
		tt.happen(al)
		m, held := al.index.byKey[key]
		if dormant := held && m.Dormant; held != tt.held || dormant != tt.dormant {
			t.Errorf("%s: held %v, dormant %v", tt.what, held, dormant)
		}
		al.check(t)
	}
}
