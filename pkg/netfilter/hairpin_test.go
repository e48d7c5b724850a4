package netfilter_test

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"igdd/pkg/netfilter"
	"igdd/pkg/netlab"
	"igdd/pkg/portmap"
)

// hairpinLab is a router with two LANs whose hosts use the external address.
type hairpinLab struct {
	*netlab.Lab
	r       *router
	network atomic.Pointer[netfilter.Network]
}

// hairpinNetwork is the network of the lab, as the daemon knows it.
func hairpinNetwork() *netfilter.Network {
	wan := netlab.RouterWAN.Addr()
	return &netfilter.Network{
		Uplink: netfilter.Uplink{Device: "wan0", Addrs: []netip.Addr{wan}},
		LANs:   []string{"lan0", "lan1"},
		Hairpin: netfilter.Hairpin{External: []netip.Addr{wan}, LANs: []netfilter.HairpinLAN{
			{Device: "lan0", Networks: []netip.Prefix{netlab.RouterLAN.Masked()}},
			{Device: "lan1", Networks: []netip.Prefix{netlab.RouterLAN2.Masked()}},
		}},
	}
}

// newHairpinLab makes a router that forwards to the Internet only, with the
// administrator's rules in addition.
func newHairpinLab(t *testing.T, variant string, rules ...string) *hairpinLab {
	t.Helper()
	l := &hairpinLab{Lab: netlab.NewLab(t, netlab.Layout{Clients: 2, SecondLAN: true})}
	l.r = newRouterIn(t, l.Router, variant)
	l.network.Store(hairpinNetwork())
	l.r.iptables(t, "-P FORWARD DROP", "-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT", "-A FORWARD -i lan+ -o wan+ -j ACCEPT",
		"-t nat -A POSTROUTING -o wan+ -j MASQUERADE")
	l.r.iptables(t, rules...)
	for i, address := range [...]string{"192.168.50.10:4000", "192.168.50.11:4000"} {
		for _, network := range [...]string{"tcp", "udp"} {
			l.Clients[i].Echo(t, network, address)
		}
	}
	return l
}

// options are those of the daemon in the lab.
func (l *hairpinLab) options(t *testing.T) netfilter.Options {
	o := ipv4(t)
	o.Hairpin = true
	o.Network = func() netfilter.Network { return *l.network.Load() }
	return o
}

// start starts the daemon's part with mappings.
func (l *hairpinLab) start(t *testing.T, mappings ...*portmap.Mapping) nsFirewall {
	t.Helper()
	f := l.r.firewall(t, l.options(t))
	must(t, f.Setup())
	must(t, f.Sync(nil))
	must(t, f.Apply(open(mappings...)))
	wantHealthy(t, f)
	return f
}

// from is a probe of a host to a port of the external address.
func (l *hairpinLab) from(host *netlab.Namespace, network string, port uint16) netlab.Probe {
	return netlab.Probe{Network: network, From: host, To: netip.AddrPortFrom(netlab.RouterWAN.Addr(), port)}
}

// eachHairpinLab runs a test in a lab of each kind.
func eachHairpinLab(t *testing.T, test func(t *testing.T, l *hairpinLab), rules ...string) {
	t.Helper()
	for _, variant := range netlab.Variants {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			test(t, newHairpinLab(t, variant, rules...))
		})
	}
}

// ofTheClient are mappings of both protocols to the first client.
func ofTheClient(filters ...portmap.Filter) []*portmap.Mapping {
	udp := mapping(portmap.UDP, 40000, "192.168.50.10:4000", filters...)
	udp.Serial++
	return []*portmap.Mapping{mapping(portmap.TCP, 40000, "192.168.50.10:4000", filters...), udp}
}

// TestHairpinWithinALAN has a neighbour use the external address. A reply from another
// address would not arrive.
func TestHairpinWithinALAN(t *testing.T) {
	t.Parallel()
	eachHairpinLab(t, func(t *testing.T, l *hairpinLab) {
		before := l.r.rules(t)
		mappings := ofTheClient()
		f := l.start(t, mappings...)
		for _, network := range [...]string{"tcp", "udp"} {
			if seen := l.from(l.Clients[1], network, 40000).Arrives(t); seen.Addr() != netlab.RouterLAN.Addr() {
				t.Errorf("%s: the mapped host sees %v, not the router", network, seen)
			}
			if seen := l.from(l.WAN, network, 40000).Arrives(t); seen.Addr() != netip.MustParseAddr("11.22.33.1") {
				t.Errorf("%s: the mapped host sees %v instead of the host in the Internet", network, seen)
			}
			l.from(l.Clients[1], network, 40001).Blocked(t)
			l.from(l.Client2, network, 40000).Blocked(t)
		}
		must(t, f.Apply(closing(mappings...)))
		l.from(l.Clients[1], "tcp", 40000).Blocked(t)
		must(t, f.Teardown())
		if after := l.r.rules(t); after != before {
			t.Errorf("left behind:\n%s", after)
		}
	})
}

// TestHairpinToItself has a host reach itself by the external address. Its LAN is no
// bridge: one whose frames pass iptables sends nothing back by the port it came from.
func TestHairpinToItself(t *testing.T) {
	t.Parallel()
	eachHairpinLab(t, func(t *testing.T, l *hairpinLab) {
		udp := mapping(portmap.UDP, 40002, "192.168.60.10:4000")
		udp.Serial++
		l.start(t, mapping(portmap.TCP, 40002, "192.168.60.10:4000"), udp)
		for _, network := range [...]string{"tcp", "udp"} {
			l.Client2.Echo(t, network, "192.168.60.10:4000")
			if seen := l.from(l.Client2, network, 40002).Arrives(t); seen.Addr() != netlab.RouterLAN2.Addr() {
				t.Errorf("%s: the host sees %v, not the router", network, seen)
			}
		}
	})
}

// TestHairpinBetweenLANs has the administrator's rules decide between two LANs. What is
// translated keeps its source.
func TestHairpinBetweenLANs(t *testing.T) {
	t.Parallel()
	eachHairpinLab(t, func(t *testing.T, l *hairpinLab) {
		l.start(t, ofTheClient()...)
		for _, network := range [...]string{"tcp", "udp"} {
			if seen := l.from(l.Client2, network, 40000).Arrives(t); seen.Addr() != netip.MustParseAddr("192.168.60.10") {
				t.Errorf("%s: the mapped host sees %v", network, seen)
			}
		}
	}, "-A FORWARD -i lan1 -o lan0 -j ACCEPT")
}

// TestHairpinKeepsFilters has a mapping for one host in the Internet.
func TestHairpinKeepsFilters(t *testing.T) {
	t.Parallel()
	eachHairpinLab(t, func(t *testing.T, l *hairpinLab) {
		l.start(t, ofTheClient(filter("11.22.33.1/32", 0))...)
		l.from(l.WAN, "tcp", 40000).Arrives(t)
		l.from(l.Clients[1], "tcp", 40000).Blocked(t)
		l.from(l.Clients[1], "udp", 40000).Blocked(t)
	})
}

// TestHairpinOfTheAdministratorWins has rules of the administrator, before the daemon
// starts and after that, for the same port of the external address.
func TestHairpinOfTheAdministratorWins(t *testing.T) {
	t.Parallel()
	own := []string{
		"-t nat -A PREROUTING -d 11.22.33.44/32 -i lan0 -p tcp -m tcp --dport 40000 -j DNAT --to-destination 192.168.50.11:4000",
		"-t nat -A POSTROUTING -d 192.168.50.11/32 -o lan0 -p tcp -m tcp --dport 4000 -j SNAT --to-source 192.168.50.1",
		"-A FORWARD -i lan0 -o lan0 -j ACCEPT",
	}
	eachHairpinLab(t, func(t *testing.T, l *hairpinLab) {
		l.Clients[0].Address(t, "eth0", netip.MustParsePrefix("192.168.50.20/24")) // tells them apart
		f := l.start(t, ofTheClient()...)
		l.demandOrder(t, "PREROUTING", own[0], "-A PREROUTING -i lan0 -j MINIUPNPD-HAIRPIN")
		if rules := l.r.rules(t); strings.Contains(rules, "-A FORWARD -i lan0 -o lan0 -j MINIUPNPD-HAIRPIN") {
			t.Errorf("a jump that nothing needs:\n%s", rules)
		}
		l.r.iptables(t, "-t nat -D"+strings.TrimPrefix(own[0], "-t nat -A"), own[0])
		wantUnhealthy(t, f)
		f.look()
		wantHealthy(t, f)
		l.demandOrder(t, "PREROUTING", own[0], "-A PREROUTING -i lan0 -j MINIUPNPD-HAIRPIN")
	}, own...)
}

// demandOrder demands that one rule of table nat is in front of another one.
func (l *hairpinLab) demandOrder(t *testing.T, chain, first, second string) {
	t.Helper()
	saved := l.r.saved(t, "iptables", "nat")
	i, j := slices.Index(saved, strings.TrimPrefix(first, "-t nat ")), slices.Index(saved, second)
	if i < 0 || j < i {
		t.Errorf("%s: rule %d, %d of\n%s", chain, i, j, strings.Join(saved, "\n"))
	}
}

// TestHairpinYieldsToIsolation has the administrator forbid what stays in the LAN,
// before the daemon starts and after that.
func TestHairpinYieldsToIsolation(t *testing.T) {
	t.Parallel()
	const isolation = "-A FORWARD -i lan0 -o lan0 -j DROP"
	eachHairpinLab(t, func(t *testing.T, l *hairpinLab) {
		f := l.start(t, ofTheClient()...)
		l.from(l.Clients[1], "tcp", 40000).Blocked(t)
		l.r.iptables(t, "-D"+strings.TrimPrefix(isolation, "-A"))
		f.look()
		l.from(l.Clients[1], "tcp", 40000).Arrives(t)
		l.r.iptables(t, isolation)
		f.look()
		l.from(l.Clients[1], "tcp", 40000).Blocked(t)
		wantHealthy(t, f)
		if dead := f.Dead(portmap.IPv4); len(dead) > 0 {
			t.Errorf("that is no fault of the firewall: %q", dead)
		}
	}, isolation)
}

// TestHairpinMayBeThere has the administrator lead the LAN to the chains for mappings.
func TestHairpinMayBeThere(t *testing.T) {
	t.Parallel()
	eachHairpinLab(t, func(t *testing.T, l *hairpinLab) {
		f := l.start(t, ofTheClient()...)
		for _, jump := range [...]string{"-A PREROUTING -i lan0 -j MINIUPNPD-HAIRPIN", "-A FORWARD -i lan0 -o lan0 -j MINIUPNPD-HAIRPIN"} {
			if rules := l.r.rules(t); strings.Contains(rules, jump) {
				t.Errorf("%s is there twice:\n%s", jump, rules)
			}
		}
		l.from(l.Clients[1], "tcp", 40000).Arrives(t)
		must(t, f.Teardown())
	}, "-N MINIUPNPD", "-A FORWARD -j MINIUPNPD", "-t nat -N MINIUPNPD", "-t nat -A PREROUTING -d 11.22.33.44/32 -j MINIUPNPD")
}

// TestHairpinFollowsTheNetwork moves the external address, and removes a LAN. That is
// no repair.
func TestHairpinFollowsTheNetwork(t *testing.T) {
	t.Parallel()
	eachHairpinLab(t, func(t *testing.T, l *hairpinLab) {
		f := l.start(t, ofTheClient()...)
		moved := hairpinNetwork()
		moved.Hairpin.External = []netip.Addr{netip.MustParseAddr("11.22.33.99"), netlab.RouterWAN.Addr()}
		moved.Hairpin.LANs = moved.Hairpin.LANs[:1]
		l.network.Store(moved)
		f.look()
		p := l.from(l.Clients[1], "tcp", 40000)
		p.Arrives(t)
		p.To = netip.MustParseAddrPort("11.22.33.99:40000") // not the router's
		p.Arrives(t)
		if rules := l.r.rules(t); strings.Contains(rules, "lan1") {
			t.Errorf("jumps for a LAN that is gone:\n%s", rules)
		}
		moved = hairpinNetwork()
		moved.Hairpin.External = moved.Hairpin.External[:0]
		l.network.Store(moved)
		f.look()
		l.from(l.Clients[1], "tcp", 40000).Blocked(t)
		if n := f.Repairs(portmap.IPv4); n != 0 {
			t.Errorf("%d repairs", n)
		}
	})
}

// TestHairpinIsSwitchedOff starts another process after one that was killed.
func TestHairpinIsSwitchedOff(t *testing.T) {
	t.Parallel()
	eachHairpinLab(t, func(t *testing.T, l *hairpinLab) {
		for _, on := range [...]bool{true, false} {
			o := l.options(t)
			o.OwnershipFile = recorded(t).OwnershipFile
			f := l.r.firewall(t, o)
			must(t, f.Setup())
			must(t, f.Sync(ofTheClient()))
			l.from(l.Clients[1], "tcp", 40000).Arrives(t)
			moved := hairpinNetwork()
			moved.Hairpin.External[0] = netip.MustParseAddr("11.22.33.99")
			moved.Hairpin.LANs[1].Device = "lan2"
			l.network.Store(moved)
			o.Hairpin = on
			f = l.r.firewall(t, o)
			must(t, f.Setup())
			must(t, f.Sync(ofTheClient()))
			rules := l.r.rules(t)
			if strings.Contains(rules, "HAIRPIN") != on || strings.Contains(rules, "-i lan1") || strings.Contains(rules, "11.22.33.44") {
				t.Errorf("switched on: %v\n%s", on, rules)
			}
			must(t, f.Teardown())
			l.network.Store(hairpinNetwork())
		}
	})
}

// TestHairpinRulesAreRestored has another program remove them.
func TestHairpinRulesAreRestored(t *testing.T) {
	t.Parallel()
	eachHairpinLab(t, func(t *testing.T, l *hairpinLab) {
		f := l.start(t, ofTheClient()...)
		before := l.r.rules(t)
		for _, command := range [...]string{
			"-t nat -F MINIUPNPD-HAIRPIN", "-F MINIUPNPD-HAIRPIN", "-t nat -F MINIUPNPD-HAIRPIN-MASQ", "-D FORWARD -i lan0 -o lan0 -j MINIUPNPD-HAIRPIN",
			"-t nat -D PREROUTING -i lan0 -j MINIUPNPD-HAIRPIN", "-t nat -D POSTROUTING -o lan0 -m conntrack --ctstate DNAT -j MINIUPNPD-HAIRPIN-MASQ",
		} {
			l.r.iptables(t, command)
			wantUnhealthy(t, f)
			f.look()
			wantRules(t, l.r, before)
		}
		l.from(l.Clients[1], "udp", 40000).Arrives(t)
	})
}

// TestHairpinWithoutARecord closes all after the ownership record was damaged.
func TestHairpinWithoutARecord(t *testing.T) {
	t.Parallel()
	eachHairpinLab(t, func(t *testing.T, l *hairpinLab) {
		l.start(t, ofTheClient()...)
		o := l.options(t)
		o.OwnershipFile = recorded(t).OwnershipFile
		must(t, os.WriteFile(o.OwnershipFile, nil, 0o644))
		if err := l.r.takeDown(t.Context(), o); err == nil || !strings.Contains(err.Error(), "iptables -t filter -X MINIUPNPD-HAIRPIN") {
			t.Errorf("the error does not name the chains: %v", err)
		}
		l.from(l.Clients[1], "tcp", 40000).Blocked(t)
		if rules := l.r.rules(t); strings.Contains(rules, "-A MINIUPNPD") {
			t.Errorf("rules are left:\n%s", rules)
		}
	})
}

// TestHairpinJumpsStayTheDaemons loads the firewall after the daemon: no firewall makes
// such jumps, so those that are there go with the daemon.
func TestHairpinJumpsStayTheDaemons(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		o := ipv4(t)
		o.Hairpin = true
		o.Network = func() netfilter.Network { return *hairpinNetwork() }
		f := r.firewall(t, o)
		must(t, f.Setup())
		must(t, f.Sync(ofTheClient()))
		must(t, f.Apply(closing(ofTheClient()...)))
		r.iptables(t, "-t nat -A POSTROUTING -o wan0 -j MASQUERADE", "-A FORWARD -i lan0 -o wan0 -j ACCEPT", "-A FORWARD -j DROP")
		f.look()
		must(t, f.Teardown())
		if rules := r.rules(t); strings.Contains(rules, "HAIRPIN") {
			t.Errorf("left behind:\n%s", rules)
		}
	})
}

// TestHairpinWhileAIFIsStopped has nothing to restore: the firewall counts as healthy.
func TestHairpinWhileAIFIsStopped(t *testing.T) {
	t.Parallel()
	r := newRouter(t, "legacy")
	r.iptables(t, aifStart...)
	o := ipv4(t)
	o.Hairpin = true
	o.Network = func() netfilter.Network { return *hairpinNetwork() }
	f := r.firewall(t, o)
	must(t, f.Setup())
	must(t, f.Sync(nil))
	r.iptables(t, aifStop...)
	must(t, f.Sync(nil))
	wantHealthy(t, f)
	wantRules(t, r, nothing)
}

// TestRefusedHairpinRules has a kernel that refuses them, and those of UPNP_OUTBOUND: what
// comes from the Internet is forwarded all the same.
func TestRefusedHairpinRules(t *testing.T) {
	t.Parallel()
	for _, row := range [...]struct {
		name, refused string // that, a pattern of grep
		hairpin       bool   // neighbours reach the mapping
		outbound      bool   // it has a rule for what leaves
	}{
		{"hairpin", "-A MINIUPNPD-HAIRPIN-MASQ", false, true},
		{"outbound", "-A MINIUPNPD-OUTBOUND .*MASQUERADE", true, false},
		{"both", "-A MINIUPNPD-.* MASQUERADE", false, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			eachHairpinLab(t, func(t *testing.T, l *hairpinLab) {
				l.r.refuses(t, row.refused)
				o, log := logged(t, l.options(t))
				f := l.r.firewall(t, o)
				must(t, f.Setup())
				must(t, f.Sync(nil))
				for _, m := range ofTheClient() {
					must(t, f.Apply(open(m)))
				}
				must(t, f.Sync(ofTheClient()))
				l.from(l.WAN, "tcp", 40000).Arrives(t)
				l.from(l.WAN, "udp", 40000).Arrives(t)
				if rules := l.r.rules(t); strings.Contains(rules, "-j MINIUPNPD-HAIRPIN") != row.hairpin || strings.Contains(rules, "OUTBOUND") != row.outbound {
					t.Errorf("the rules are\n%s", rules)
				}
				told := slices.DeleteFunc(log.all, func(line string) bool { return !strings.Contains(line, "the kernel refuses UPNP_HAIRPIN's rules") })
				if len(told) > 1 || len(told) == 1 == row.hairpin {
					t.Errorf("the log says %q", told)
				}
				must(t, f.Teardown())
			})
		})
	}
}
