package daemon_test

import (
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
)

// hairpin is a probe of the second client to a port of an external address.
func (r *rig) hairpin(network, to string) netlab.Probe {
	return netlab.Probe{Network: network, From: r.Clients[1], To: netip.MustParseAddrPort(to)}
}

// demandHairpin demands that the second client reaches the first one by an external
// address, and sees replies from there.
func (r *rig) demandHairpin(t testing.TB, to string) {
	t.Helper()
	for _, network := range [...]string{"tcp", "udp"} {
		if seen := r.hairpin(network, to).Arrives(t); seen.Addr() != netlab.RouterLAN.Addr() {
			t.Errorf("%s to %s comes from %v, not from the router", network, to, seen)
		}
	}
}

// demandNoHairpin demands that nothing of it is in the firewall.
func (r *rig) demandNoHairpin(t testing.TB, when string) {
	t.Helper()
	if chains := r.chains(t); strings.Contains(chains, "HAIRPIN") {
		t.Errorf("%s:\n%s", when, chains)
	}
}

// hairpinRules returns the rules that the setting adds, and the jumps to them.
func (r *rig) hairpinRules(t testing.TB) []string {
	t.Helper()
	return slices.DeleteFunc(strings.Split(r.chains(t), "\n"), func(line string) bool { return !strings.Contains(line, "HAIRPIN") })
}

// switchHairpin has the daemon read settings again that switch it on or off.
func (r *rig) switchHairpin(t testing.TB, on bool) {
	t.Helper()
	setting := "hairpin=no"
	if on {
		setting = "hairpin=yes"
	}
	r.configure(t, setting)
	r.kill(syscall.SIGHUP)
	await(t, setting, func() bool {
		chains := r.chains(t)
		return on && strings.Contains(chains, "-j MINIUPNPD-HAIRPIN-MASQ") || !on && !strings.Contains(chains, "HAIRPIN")
	})
}

// newHairpinRig is a rig with a service on the first client that is mapped to port
// 40000, a neighbour, a second LAN and a second uplink.
func newHairpinRig(t testing.TB, variant string, more ...string) *rig {
	t.Helper()
	r := newRig(t, variant, netlab.Layout{Clients: 2, SecondLAN: true, SecondWAN: true})
	r.installed()
	for _, network := range [...]string{"tcp", "udp"} {
		r.Clients[0].Echo(t, network, "192.168.50.10:4000")
	}
	r.foreground(t, more...)
	r.grant(t, mapping(natpmp.MapTCP, 4000, 40000, time.Hour))
	r.grant(t, mapping(natpmp.MapUDP, 4000, 40000, time.Hour))
	return r
}

// TestHairpin switches the setting on and off, moves the external address, and kills
// and stops the daemon.
func TestHairpin(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		const before, after = "11.22.33.44:40000", "11.22.33.55:40000"
		r := newHairpinRig(t, variant)
		r.hairpin("tcp", before).Blocked(t)
		r.demandNoHairpin(t, "by default")

		r.switchHairpin(t, true)
		r.demandHairpin(t, before)
		r.Router.IP(t, "address", "del", "11.22.33.44/24", "dev", "wan0")
		r.Router.IP(t, "address", "add", "11.22.33.55/24", "dev", "wan0")
		r.awaitExternalAddr(t, netip.MustParseAddr("11.22.33.55"))
		await(t, "the rules for the new address", func() bool { return !strings.Contains(r.chains(t), "11.22.33.44") })
		r.demandHairpin(t, after)

		r.stop(t, syscall.SIGKILL)
		r.start(t)
		r.demandNoHairpin(t, "switched off after a crash")
		r.switchHairpin(t, true)
		r.demandHairpin(t, after)
		r.switchHairpin(t, false)
		r.awaitServed(t)
		netlab.Probe{Network: "tcp", From: r.WAN, To: netip.MustParseAddrPort(after)}.Arrives(t)

		r.switchHairpin(t, true)
		r.stop(t, syscall.SIGTERM)
		r.demandNoHairpin(t, "stopped")
		r.wantClosed(t, "stopped", false)
	})
}

// TestHairpinByTheAnnouncedAddress has the settings name an address that the router
// does not have.
func TestHairpinByTheAnnouncedAddress(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newHairpinRig(t, variant, "hairpin=yes", "ext_ip=11.22.77.88")
		r.demandHairpin(t, "11.22.77.88:40000")
		r.demandHairpin(t, "11.22.33.44:40000") // the uplink's own
	})
}

// TestHairpinOfTwoLANsAndUplinks has the firewall decide between two LANs, and a second
// uplink, which is not announced.
func TestHairpinOfTwoLANsAndUplinks(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newHairpinRig(t, variant, "hairpin=yes", "listening_ip=lan1", "ext_ifname2=wan1")
		r.demandHairpin(t, "22.33.44.55:40000")
		other := r.hairpin("tcp", "11.22.33.44:40000")
		other.From = r.Client2
		other.Blocked(t)
		r.ipt(t, "-A", "FORWARD", "-i", "lan1", "-o", "lan0", "-j", "ACCEPT")
		if seen := other.Arrives(t); seen.Addr() != netip.MustParseAddr("192.168.60.10") {
			t.Errorf("the mapped host sees %v", seen)
		}
	})
}

// TestHairpinIsNotForUplinks has clients behind the uplink: a mapping is not open for the
// Internet by the way back there.
func TestHairpinIsNotForUplinks(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	r.installed()
	r.start(t, "hairpin=yes", "listening_ip=wan0")
	if chains := r.chains(t); strings.Contains(chains, "-o wan0 -j MINIUPNPD-HAIRPIN") || !strings.Contains(chains, "-o lan0 -j MINIUPNPD-HAIRPIN") {
		t.Errorf("the jumps are\n%s", chains)
	}
}

// TestHairpinBesideArno has the firewall's own plugin for the external address, or not.
// It knows the administrator's forwards, and no mappings.
func TestHairpinBesideArno(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{Clients: 2})
		r.installed()
		for _, address := range [...]string{"192.168.50.10:4000", "192.168.50.10:5000"} {
			r.Clients[0].Echo(t, "tcp", address)
		}
		r.Clients[0].Echo(t, "udp", "192.168.50.10:4000")
		arno := netlab.NewArno(t, r.Router, variant)
		arno.Configure(t, "NAT_FORWARD_TCP=\"50000>192.168.50.10~5000\"\n")
		arno.Do(t, "start")
		r.start(t, "hairpin=yes")
		r.grant(t, mapping(natpmp.MapTCP, 4000, 40000, time.Hour))
		r.grant(t, mapping(natpmp.MapUDP, 4000, 40000, time.Hour))
		r.hairpin("tcp", "11.22.33.44:50000").Blocked(t)
		r.demandHairpin(t, "11.22.33.44:40000")
		want := r.hairpinRules(t)
		arno.Loopback(t)
		for _, verbs := range [...][]string{{"restart"}, {"stop", "start"}} {
			for _, verb := range verbs {
				arno.Do(t, verb)
			}
			await(t, "the rules after "+strings.Join(verbs, " and "), func() bool { return slices.Equal(r.hairpinRules(t), want) })
			r.demandHairpin(t, "11.22.33.44:40000")
			seen := r.hairpin("tcp", "11.22.33.44:50000").Arrives(t)
			if seen.Addr() != netlab.RouterWAN.Addr() {
				t.Errorf("the firewall's forward is seen from %v, not from the address that it sets", seen)
			}
			if forward := r.rulesOf(t, "filter", "POST_FORWARD_CHAIN"); len(forward) != 1 {
				t.Errorf("the firewall accepts what stays in the LAN, and yet there is %q", forward)
			}
		}
		arno.Do(t, "stop")
		if resp := r.natpmpMap(t, r.Clients[0], client1, mapping(natpmp.MapTCP, 4002, 4002, time.Hour)); resp.Result == natpmp.Success {
			t.Error("a mapping is granted while the firewall is stopped")
		}
		r.demandNoHairpin(t, "the firewall is stopped")
	})
}
