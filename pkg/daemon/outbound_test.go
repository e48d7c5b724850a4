package daemon_test

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"igdd/pkg/netlab"
	"igdd/pkg/netlab/stunlab"
)

// gamePort is the UDP port that every console uses.
const gamePort = 3074

// The hosts of the Internet beside the provider's ends: a second address of each STUN
// server, and a player that the consoles have never sent anything to.
var (
	stunHosts   = [2]netip.Addr{at("11.22.33.1"), at("11.22.33.2")}
	stunHosts2  = [2]netip.Addr{at("22.33.44.1"), at("22.33.44.2")} // by the second uplink
	tunnelHosts = [2]netip.Addr{at("10.9.0.1"), at("10.9.0.2")}     // behind a tunnel, beyond the first
	playerHost  = at("11.22.33.3")
	playerHost2 = at("22.33.44.3")
)

// masquerade is the rule of a plain router.
const masquerade = "-A POSTROUTING -o wan+ -j MASQUERADE"

// newConsolesRig makes a lab of two consoles whose router has these rules in table nat.
func newConsolesRig(t testing.TB, variant string, layout netlab.Layout, nat ...string) *rig {
	t.Helper()
	layout.Clients = 2
	r := newRig(t, variant, layout)
	r.setNAT(t, nat...)
	for _, a := range []netip.Addr{playerHost, tunnelHosts[0], tunnelHosts[1]} {
		r.WAN.Address(t, "eth0", netip.PrefixFrom(a, 24))
	}
	r.WAN.IP(t, "route", "add", "192.168.50.0/24", "via", netlab.RouterWAN.Addr().String())
	r.Router.IP(t, "route", "add", "10.9.0.0/16", "via", "11.22.33.1")
	if layout.SecondWAN {
		r.WAN2.Address(t, "eth0", netip.PrefixFrom(stunHosts2[1], 24))
		r.WAN2.Address(t, "eth0", netip.PrefixFrom(playerHost2, 24))
	}
	return r
}

// setNAT has the administrator make all of table nat anew.
func (r *rig) setNAT(t testing.TB, rules ...string) {
	t.Helper()
	r.atOnce(t, "nat", strings.Join(append([]string{"-F", "-X"}, rules...), "\n"))
}

// consoles opens the consoles' sockets.
func (r *rig) consoles(t testing.TB) (list []*stunlab.Client) {
	t.Helper()
	for i, host := range r.Clients {
		list = append(list, stunlab.Listen(t, host, netip.AddrPortFrom(addressOf(i), gamePort)))
	}
	return list
}

// mapGame has a console ask for a port as games do, and returns what it gets: by UPnP,
// where the gateway does not choose, it tries one after the other.
func (r *rig) mapGame(t testing.TB, client int, origin string, wish uint16) uint16 {
	t.Helper()
	for range 3 {
		e := r.request(t, question{client, origin, "udp", wish, gamePort})
		if e.Granted {
			return e.ExternalPort
		}
		wish++
	}
	t.Fatalf("console %d gets no port by %s", client, origin)
	return 0
}

// demandOpenNAT demands that a console's port is the external port for the whole
// Internet, in both directions: what games call "open", or type 1.
func (r *rig) demandOpenNAT(t testing.TB, c *stunlab.Client, external netip.AddrPort) {
	t.Helper()
	host, servers, from := r.WAN, stunHosts, playerHost
	if external.Addr() == netlab.RouterWAN2.Addr() {
		host, servers, from = r.WAN2, stunHosts2, playerHost2
	}
	want := stunlab.NAT{External: external, Mapping: stunlab.EndpointIndependent, Filtering: stunlab.EndpointIndependent}
	if got := c.Discover(t, stunlab.Serve(t, host, servers)); got != want {
		t.Errorf("a console finds out %+v, want %+v", got, want)
	}
	player, text := stunlab.Listen(t, host, netip.AddrPortFrom(from, 0)), rand.Text()
	await(t, fmt.Sprintf("a player's datagrams to %v", external), func() bool {
		player.Say(t, text, external)
		return c.Hears(t, text, hush)
	})
}

// byUplink returns the first uplink's address with a port.
func byUplink(port uint16) netip.AddrPort { return netip.AddrPortFrom(netlab.RouterWAN.Addr(), port) }

// outboundRules returns the rules that give packets a mapping's external port.
func (r *rig) outboundRules(t testing.TB) (list []string) {
	t.Helper()
	for line := range strings.Lines(r.ipt(t, "-t", "nat", "-S")) {
		if strings.Contains(line, " -s ") && strings.Contains(line, "MASQUERADE --to-ports") { // not one for other hosts
			list = append(list, strings.TrimSpace(line))
		}
	}
	return list
}

// The chains of outbound rules: the one that the daemon makes, and the one that the
// firewall may have.
const outboundChain, postroutingChain = "MINIUPNPD-OUTBOUND", "MINIUPNPD-POSTROUTING"

// outboundRule returns the rule of a console's mapping for what leaves by a device.
func outboundRule(device string, client int, external uint16) string {
	return fmt.Sprintf("-A %s -s %v/32 -o %s -p udp -m udp --sport %d -j MASQUERADE --to-ports %d", outboundChain, addressOf(client), device, gamePort, external)
}

// postroutingRule returns the rule of a console's mapping in the firewall's own chain.
func postroutingRule(client int, external uint16) string {
	return fmt.Sprintf("-A %s -s %v/32 -p udp -m udp --sport %d -j MASQUERADE --to-ports %d", postroutingChain, addressOf(client), gamePort, external)
}

// TestTwoConsoles has two consoles use the same port, by each protocol.
func TestTwoConsoles(t *testing.T) {
	t.Parallel()
	for _, origin := range []string{"upnp", "natpmp", "pcp"} {
		t.Run(origin, func(t *testing.T) {
			t.Parallel()
			bothVariants(t, func(t *testing.T, variant string) {
				r := newConsolesRig(t, variant, netlab.Layout{}, masquerade)
				r.installed()
				r.start(t, "enable_upnp=yes")
				r.awaitServed(t)
				consoles := r.consoles(t)
				first, second := r.mapGame(t, 0, origin, gamePort), r.mapGame(t, 1, origin, gamePort)
				if first != gamePort || second == gamePort {
					t.Fatalf("the consoles get ports %d and %d", first, second)
				}
				if got, want := r.outboundRules(t), outboundRule("wan0", 1, second); len(got) != 1 || got[0] != want {
					t.Errorf("rules: %q, want %q", got, want)
				}
				r.demandOpenNAT(t, consoles[0], byUplink(first))
				r.demandOpenNAT(t, consoles[1], byUplink(second))
			})
		})
	}
}

// TestTwoConsolesElsewhere gives both consoles other ports than their own.
func TestTwoConsolesElsewhere(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newConsolesRig(t, variant, netlab.Layout{}, masquerade)
		r.start(t)
		consoles := r.consoles(t)
		for i, wish := range []uint16{5000, 6000} {
			if got := r.mapGame(t, i, "natpmp", wish); got != wish {
				t.Fatalf("console %d gets port %d", i, got)
			}
		}
		r.demandOpenNAT(t, consoles[0], byUplink(5000))
		r.demandOpenNAT(t, consoles[1], byUplink(6000))
	})
}

// TestOutboundTCP has a host's connections leave by the port that it has mapped.
func TestOutboundTCP(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newConsolesRig(t, variant, netlab.Layout{}, masquerade)
		r.start(t)
		if e := r.request(t, question{0, "natpmp", "tcp", 5000, gamePort}); e.ExternalPort != 5000 {
			t.Fatalf("port %d", e.ExternalPort)
		}
		for _, far := range stunHosts {
			to := netip.AddrPortFrom(far, 7)
			r.WAN.Echo(t, "tcp", to.String())
			seen := netlab.Probe{Network: "tcp", From: r.Clients[0], Source: netip.AddrPortFrom(client1, gamePort), To: to}.Arrives(t)
			if seen != byUplink(5000) {
				t.Errorf("%v sees %v", far, seen)
			}
		}
	})
}

// natFirewall is an administrator's table nat.
type natFirewall struct {
	what        string
	rules       []string
	exempted    bool // packets to tunnelHosts are not translated
	postrouting bool // it has miniupnpd's chain
}

// rulesFor returns the outbound rules of both consoles' mappings. miniupnpd's chain has
// had those of all mappings always.
func (f natFirewall) rulesFor(first, second uint16) []string {
	if f.postrouting {
		return []string{postroutingRule(0, first), postroutingRule(1, second)}
	}
	return []string{outboundRule("wan0", 1, second)}
}

// natFirewalls are those that the daemon finds a place in.
var natFirewalls = []natFirewall{
	{"each LAN", []string{"-A POSTROUTING -s 192.168.50.0/24 ! -d 192.168.50.0/24 -o wan0 -j MASQUERADE"}, false, false},
	{"IPsec is exempted", []string{"-A POSTROUTING -m policy --dir out --pol ipsec -j ACCEPT", "-A POSTROUTING -o wan0 -j MASQUERADE"}, false, false},
	{"but for IPsec", []string{"-A POSTROUTING -o wan0 -m policy --dir out --pol none -j MASQUERADE"}, false, false},
	{"a network is exempted", []string{"-A POSTROUTING -d 10.9.0.0/16 -j ACCEPT", "-A POSTROUTING -s 192.168.50.0/24 -o wan0 -j MASQUERADE"}, true, false},
	{"but for a network", []string{"-A POSTROUTING ! -d 10.9.0.0/16 -o wan0 -j MASQUERADE"}, true, false},
	{"SNAT", []string{"-A POSTROUTING -s 192.168.50.0/24 -o wan0 -j SNAT --to-source 11.22.33.44"}, false, false},
	{"a chain", []string{"-N LAN", "-A POSTROUTING -o wan0 -j LAN", "-A LAN -d 10.9.0.0/16 -j RETURN", "-A LAN -j MASQUERADE"}, true, false},
	{"miniupnpd's chain", []string{"-N MINIUPNPD-POSTROUTING", "-A POSTROUTING -o wan0 -j MINIUPNPD-POSTROUTING", masquerade}, false, true},
}

// TestTwoConsolesBesideFirewalls has administrators translate what leaves in their ways.
// What one exempts keeps its source.
func TestTwoConsolesBesideFirewalls(t *testing.T) {
	t.Parallel()
	for _, f := range natFirewalls {
		t.Run(f.what, func(t *testing.T) {
			t.Parallel()
			bothVariants(t, func(t *testing.T, variant string) {
				r := newConsolesRig(t, variant, netlab.Layout{}, f.rules...)
				before := r.ipt(t, "-t", "nat", "-S")
				r.start(t)
				consoles := r.consoles(t)
				first, second := r.mapGame(t, 0, "natpmp", gamePort), r.mapGame(t, 1, "natpmp", gamePort)
				if got, want := r.outboundRules(t), f.rulesFor(first, second); !slices.Equal(got, want) {
					t.Errorf("rules: %q, want %q", got, want)
				}
				if !f.postrouting {
					r.awaitInFront(t, "with the mapping", f.rules[len(f.rules)-1])
				}
				r.demandOpenNAT(t, consoles[0], byUplink(first))
				r.demandOpenNAT(t, consoles[1], byUplink(second))
				if f.exempted {
					seen, own := consoles[1].Seen(t, stunlab.Serve(t, r.WAN, tunnelHosts)), netip.AddrPortFrom(client2, gamePort)
					if seen != own {
						t.Errorf("what the administrator exempts comes from %v, want %v", seen, own)
					}
				}
				r.stop(t, syscall.SIGTERM)
				if after := r.ipt(t, "-t", "nat", "-S"); after != before {
					t.Errorf("after the end:\n%s\nwant\n%s", after, before)
				}
			})
		})
	}
}

// TestTwoConsolesByTwoUplinks sends packets by both uplinks, each of which has its own
// address.
func TestTwoConsolesByTwoUplinks(t *testing.T) {
	t.Parallel()
	for what, nat := range map[string][]string{
		"one rule":  {masquerade},
		"two rules": {"-A POSTROUTING -o wan0 -j MASQUERADE", "-A POSTROUTING -o wan1 -j MASQUERADE"},
		"SNAT": {"-A POSTROUTING -s 192.168.50.0/24 -o wan0 -j SNAT --to-source 11.22.33.44",
			"-A POSTROUTING -s 192.168.50.0/24 -o wan1 -j SNAT --to-source 22.33.44.55"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			bothVariants(t, func(t *testing.T, variant string) {
				r := newConsolesRig(t, variant, netlab.Layout{SecondWAN: true}, nat...)
				r.start(t, "ext_ifname2=wan1")
				consoles := r.consoles(t)
				for i, wish := range []uint16{gamePort, 5000} {
					if got := r.mapGame(t, i, "natpmp", wish); got != wish {
						t.Fatalf("console %d gets port %d", i, got)
					}
					r.demandOpenNAT(t, consoles[i], byUplink(wish))
					r.demandOpenNAT(t, consoles[i], netip.AddrPortFrom(netlab.RouterWAN2.Addr(), wish))
				}
				if got, want := slices.Sorted(slices.Values(r.outboundRules(t))), []string{outboundRule("wan0", 1, 5000), outboundRule("wan1", 1, 5000)}; !slices.Equal(got, want) {
					t.Errorf("rules: %q, want %q", got, want)
				}
			})
		})
	}
}

// TestTwoConsolesBesideArno restarts Arno's firewall meanwhile.
func TestTwoConsolesBesideArno(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newConsolesRig(t, variant, netlab.Layout{})
		r.installed()
		arno := netlab.NewArno(t, r.Router, variant)
		arno.Do(t, "start")
		r.start(t)
		consoles := r.consoles(t)
		first, second := r.mapGame(t, 0, "natpmp", gamePort), r.mapGame(t, 1, "natpmp", gamePort)
		want := outboundRule("wan0", 1, second)
		for _, verbs := range [][]string{nil, {"restart"}, {"stop", "start"}} {
			for _, verb := range verbs {
				arno.Do(t, verb)
			}
			r.awaitState(t, 4, 2)
			await(t, "the outbound rule", func() bool { return slices.Equal(r.outboundRules(t), []string{want}) })
			r.demandOpenNAT(t, consoles[0], byUplink(first))
			r.demandOpenNAT(t, consoles[1], byUplink(second))
		}
	})
}
