package portmap

import (
	"math/rand/v2"
	"net/netip"
	"regexp"
	"testing"
)

// TestMayHavePorts asks it of hosts that some rules, or all, refuse everything.
func TestMayHavePorts(t *testing.T) {
	all := Ports{{0, 65535}}
	allow := func(external Ports, network string, internal Ports) Rule {
		n := netip.MustParsePrefix(network)
		return Rule{Allow: true, External: external, Network: n.Addr(), Mask: ^uint32(0) << (32 - n.Bits()), Internal: internal}
	}
	deny := func(external Ports, network string, internal Ports) Rule {
		r := allow(external, network, internal)
		r.Allow = false
		return r
	}
	described := allow(all, "0.0.0.0/0", all)
	described.Description = regexp.MustCompile("game")
	undescribed := deny(all, "0.0.0.0/0", all)
	undescribed.Description = described.Description
	hardware := Rule{Allow: true, External: Ports{{1024, 65535}}, Hardware: "02:00:00:00:00:01", Internal: all}
	home := []netip.Prefix{netip.MustParsePrefix("192.168.50.0/24")}
	destination := func(a, mac string, four ...netip.Addr) Destination {
		return Destination{AddrPort: netip.AddrPortFrom(netip.MustParseAddr(a), 0), Host: Host{Hardware: mac, IPv4: four}, Networks: home}
	}
	ten, eleven := netip.MustParseAddr("192.168.50.10"), netip.MustParseAddr("192.168.50.11")
	everything := deny(all, "0.0.0.0/0", all)
	for _, tt := range []struct {
		what     string
		rules    []Rule
		to       Destination
		may, any bool
	}{
		{"no rules", nil, destination("192.168.50.10", ""), true, true},
		{"all denied", []Rule{everything}, destination("192.168.50.10", ""), false, false},
		{"the last port", []Rule{deny(Ports{{0, 65534}}, "0.0.0.0/0", all)}, destination("192.168.50.10", ""), true, true},
		{"the last internal port", []Rule{deny(all, "0.0.0.0/0", Ports{{0, 65534}})}, destination("192.168.50.10", ""), true, true},
		{"port 0 alone", []Rule{deny(Ports{{1, 65535}}, "0.0.0.0/0", all)}, destination("192.168.50.10", ""), false, false},
		{"one host", []Rule{allow(Ports{{1024, 65535}}, "192.168.50.10/32", all), everything}, destination("192.168.50.10", ""), true, true},
		{"another host", []Rule{allow(Ports{{1024, 65535}}, "192.168.50.10/32", all), everything}, destination("192.168.50.11", ""), false, true},
		{"of another network", []Rule{allow(Ports{{1024, 65535}}, "192.168.60.0/24", all), everything}, destination("192.168.50.11", ""), false, false},
		{"allowed what is denied before", []Rule{deny(all, "192.168.50.10/32", Ports{{1, 2000}}), allow(Ports{{80, 90}}, "192.168.50.0/24", Ports{{1, 2000}}), everything}, destination("192.168.50.10", ""), false, true},
		{"allowed more than is denied", []Rule{deny(all, "192.168.50.10/32", Ports{{1, 2000}}), allow(Ports{{80, 90}}, "192.168.50.0/24", Ports{{1, 2001}}), everything}, destination("192.168.50.10", ""), true, true},
		{"allowed by a description", []Rule{described, everything}, destination("192.168.50.10", ""), true, true},
		{"denied by a description", []Rule{undescribed}, destination("192.168.50.10", ""), true, true},
		{"IPv6 of one host", []Rule{allow(all, "192.168.50.10/32", all), everything}, destination("2001:db8::10", "02:00:00:00:00:01", ten), true, true},
		{"IPv6 of another host", []Rule{allow(all, "192.168.50.10/32", all), everything}, destination("2001:db8::10", "02:00:00:00:00:02", eleven), false, true},
		{"IPv6 of an unknown host", []Rule{allow(all, "192.168.50.10/32", all), everything}, destination("2001:db8::10", ""), false, true},
		{"its hardware address", []Rule{hardware, everything}, destination("192.168.50.10", "02:00:00:00:00:01"), true, true},
		{"another hardware address", []Rule{hardware, everything}, destination("192.168.50.10", "02:00:00:00:00:02"), false, true},
	} {
		p := &Policy{Rules: tt.rules}
		if may, any := p.MayHavePorts(tt.to), p.AnyMayHavePorts("lan0", home); may != tt.may || any != tt.any {
			t.Errorf("%s: it may have ports %v, anyone may %v; want %v, %v", tt.what, may, any, tt.may, tt.any)
		}
	}
}

// TestPortsOfAnybody compares the ports that anybody may have with those of many
// destinations: none of them has others.
func TestPortsOfAnybody(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	ports := func() Ports {
		return []Ports{nil, {{0, 65535}}, {{1024, 65535}}, {{80, 90}, {5000, 5063}}, {{0, 1023}}}[rng.IntN(5)]
	}
	for range 400 {
		p, some := new(Policy), new(PortSet)
		for range rng.IntN(5) {
			r := Rule{Allow: rng.IntN(2) == 0, External: ports(), Network: netip.IPv4Unspecified(), Internal: ports()}
			switch rng.IntN(8) {
			case 0:
				r.Network, r.Mask = netip.MustParseAddr("192.168.50.10"), ^uint32(0)
			case 1:
				r.Hardware = "02:00:00:00:00:01"
			case 2:
				r.Interfaces = []string{"lan0"}
			case 3:
				r.Origins = []Origin{UPnP}
			case 4:
				r.Prefix = netip.MustParsePrefix("2001:db8::/32")
			}
			p.Rules = append(p.Rules, r)
		}
		for range 40 {
			to := Destination{
				AddrPort:  netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 168, 50, byte(10 + rng.IntN(2))}), []uint16{1, 80, 1024, 5000, 65535}[rng.IntN(5)]),
				Host:      Host{Hardware: []string{"", "02:00:00:00:00:01"}[rng.IntN(2)]},
				Interface: []string{"lan0", "lan1"}[rng.IntN(2)], Origin: []Origin{NATPMP, PCP, UPnP}[rng.IntN(3)],
			}
			some.unite(p.Ports(to, ""))
		}
		anybody := p.PortsOfAnybody()
		if some.subtract(anybody); !some.empty() {
			t.Fatalf("%+v: anybody may have %v, and somebody %v", p.Rules, anybody, some)
		}
	}
	rules := testPolicy().Rules
	if got := (&Policy{Rules: rules}).PortsOfAnybody(); got.Has(80) || !got.Has(1024) {
		t.Errorf("by the usual rules anybody may have %v", got)
	}
}

// TestMayHavePortsAgreesWithRules compares the answer with the decision about every pair
// of ports, of a policy with few ports.
func TestMayHavePortsAgreesWithRules(t *testing.T) {
	const last = 6
	random := rand.New(rand.NewPCG(1, 2))
	ports := func() Ports {
		a, b := uint16(random.IntN(last+1)), uint16(random.IntN(last+1))
		return Ports{{min(a, b), max(a, b)}}
	}
	to := Destination{AddrPort: netip.MustParseAddrPort("192.168.50.10:0"), Interface: "lan0"}
	for range 20000 {
		p := &Policy{}
		for range random.IntN(5) {
			r := Rule{Allow: random.IntN(2) == 0, External: ports(), Network: to.Addr(), Mask: ^uint32(0), Internal: ports()}
			switch random.IntN(4) {
			case 0:
				r.Origins = []Origin{NATPMP, PCP, UPnP}[random.IntN(3):]
			case 1:
				r.External = append(r.External, ports()...)
			case 2:
				r.Interfaces = []string{"lan0", "lan1"}[random.IntN(2):]
			}
			p.Rules = append(p.Rules, r)
		}
		p.Rules = append(p.Rules, Rule{External: Ports{{last + 1, 65535}}, Network: to.Addr(), Internal: Ports{{0, 65535}}},
			Rule{External: Ports{{0, 65535}}, Network: to.Addr(), Internal: Ports{{last + 1, 65535}}})
		want := false
		for external := uint16(1); external <= last; external++ {
			for internal := uint16(1); internal <= last; internal++ {
				pair := to
				pair.AddrPort = netip.AddrPortFrom(to.Addr(), internal)
				for _, pair.Origin = range []Origin{NATPMP, PCP, UPnP} {
					want = want || p.Permits(external, pair, "")
				}
			}
		}
		if got := p.MayHavePorts(to); got != want {
			t.Fatalf("%v, want %v, of rules %+v", got, want, p.Rules)
		}
	}
}
