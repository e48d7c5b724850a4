package daemon_test

import (
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
)

// awaitListed waits until the operator's list shows the words.
func (r *rig) awaitListed(t testing.TB, words string) {
	t.Helper()
	await(t, words+" in the list", func() bool {
		out, _ := r.ctl(t, "list")
		return strings.Contains(strings.Join(strings.Fields(out), " "), words)
	})
}

// demandDormant demands that a port mapping of lan1's client has no rule and
// that the lease file lists it.
func (r *rig) demandDormant(t testing.TB) {
	t.Helper()
	r.awaitListed(t, "NAT-PMP(dormant)")
	if ours := r.chains(t); strings.Contains(ours, "--dport 5000 ") {
		t.Errorf("a dormant mapping has rules:\n%s", ours)
	}
	if file := strings.Join(r.leases(t), "\n"); !strings.Contains(file, "TCP:5000:192.168.60.10:4000:") {
		t.Errorf("the lease file lacks a dormant mapping:\n%s", file)
	}
}

// epoch returns the seconds since mappings were last lost, as clients are told.
func (r *rig) epoch(t testing.TB) uint32 {
	t.Helper()
	return r.grant(t, natpmp.Request{Opcode: natpmp.Address}).Epoch
}

// TestLateLAN restarts the daemon while one of two LANs has no address, and
// takes that away from it while the daemon runs: the mapping of its client
// returns with the address, and the other LAN's stays in force.
func TestLateLAN(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) { testLateLAN(t, variant, "lan1") })
}

// TestLateNetwork is TestLateLAN for a LAN that the settings give by network.
func TestLateNetwork(t *testing.T) {
	t.Parallel()
	testLateLAN(t, "legacy", "192.168.60.0/24")
}

func testLateLAN(t *testing.T, variant, second string) {
	r := newRig(t, variant, netlab.Layout{Clients: 1, SecondLAN: true})
	conf := []string{"listening_ip=" + second, "allow 1024-65535 0.0.0.0/0 1024-65535"}
	r.start(t, conf...)
	r.Clients[0].Echo(t, "tcp", ":4000")
	r.Client2.Echo(t, "tcp", ":4000")
	r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
	r.natpmpMap(t, r.Client2, netip.MustParseAddr("192.168.60.10"), mapping(natpmp.MapTCP, 4000, 5000, time.Hour))
	r.dial("tcp", 5000).Arrives(t)
	leave := func() { r.Router.IP(t, "address", "del", netlab.RouterLAN2.String(), "dev", "lan1") }
	comeBack := func() {
		r.Router.Address(t, "lan1", netlab.RouterLAN2)
		await(t, "the rule of lan1's client", func() bool { return strings.Contains(r.chains(t), "--dport 5000 -j DNAT") })
		r.dial("tcp", 5000).Arrives(t)
		r.dial("tcp", 4000).Arrives(t)
	}

	r.stop(t, syscall.SIGTERM)
	leave()
	r.start(t, conf...)
	r.demandDormant(t)
	comeBack()

	epoch := r.epoch(t)
	leave()
	r.demandDormant(t)
	r.dial("tcp", 4000).Arrives(t)
	comeBack()
	if e := r.epoch(t); e < epoch {
		t.Errorf("the epoch went from %d to %d", epoch, e)
	}
}

// TestLatePrefix restarts the daemon while the LAN has a local IPv6 network
// alone, and the delegated one comes later.
func TestLatePrefix(t *testing.T) {
	t.Parallel()
	r := newClientsRig(t, "legacy")
	delegated := netip.MustParsePrefix("2001:db8:50::1/64")
	r.demandMapped(t, pcpMap(addr6, 6, 4000, 4000), 4000)
	r.stop(t, syscall.SIGTERM)
	r.Router.IP(t, "address", "del", delegated.String(), "dev", "lan0")
	r.Router.Address(t, "lan0", netip.MustParsePrefix("fd00:db8:50::1/64"))
	r.start(t, clientsConf()...)
	r.awaitListed(t, "PCP(dormant)")
	r.Router.Address(t, "lan0", delegated)
	await(t, "the pinhole", func() bool {
		return strings.Contains(r.Router.Run(t, "/usr/sbin/ip6tables-legacy-save"), "--dport 4000 ")
	})
	r.dial6("tcp", "2001:db8:33::1", 4000).Arrives(t)
}

// TestIPv6OffAndOn disables IPv6 while there is a pinhole: IPv4 does not notice,
// and the pinhole returns with IPv6.
func TestIPv6OffAndOn(t *testing.T) {
	t.Parallel()
	r := newClientsRig(t, "legacy")
	r.demandMapped(t, pcpMap(addr6, 6, 4000, 4000), 4000)
	r.stop(t, syscall.SIGTERM)
	r.start(t, "enable_upnp=yes", "ipv6=no")
	r.grant(t, mapping(natpmp.MapTCP, 4000, 4001, time.Hour))
	r.grant(t, mapping(natpmp.MapTCP, 4000, 4001, time.Hour))
	r.dial("tcp", 4001).Arrives(t)
	r.says(t, "list", 0, "[there is no IPv6 firewall]")
	r.configure(t, clientsConf()...)
	r.kill(syscall.SIGHUP)
	await(t, "the pinhole", func() bool {
		return strings.Contains(r.Router.Run(t, "/usr/sbin/ip6tables-legacy-save"), "--dport 4000 ")
	})
	r.dial6("tcp", "2001:db8:33::1", 4000).Arrives(t)
	r.dial("tcp", 4001).Arrives(t)
}
