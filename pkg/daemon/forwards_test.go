package daemon_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
)

// tool returns the path of the rig's own link to a program of iptables.
func (r *rig) tool(t testing.TB, name string) string {
	t.Helper()
	own := "PATH=" + filepath.Join(os.TempDir(), "Test")
	i := slices.IndexFunc(r.env, func(v string) bool { return strings.HasPrefix(v, own) })
	if i < 0 {
		t.Fatal("the rig has no programs of its own")
	}
	dir, _, _ := strings.Cut(strings.TrimPrefix(r.env[i], "PATH="), ":")
	return filepath.Join(dir, name)
}

// stub replaces a program of iptables by a shell script until the function that it
// returns is called.
func (r *rig) stub(t testing.TB, name, script string) (restore func()) {
	t.Helper()
	path := r.tool(t, name)
	was, err := os.Readlink(path)
	netlab.Script(t, path+".new", script+"\n")
	if err := errors.Join(err, os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := errors.Join(os.Symlink(was, path+".new"), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
}

// stubFailing makes a program of iptables fail until the function that it returns
// is called. A failing call leaves a line in the file.
func (r *rig) stubFailing(t testing.TB, name string) (failures func() int, restore func()) {
	t.Helper()
	calls := r.path(name + ".calls")
	failures = func() int {
		text, _ := os.ReadFile(calls)
		return strings.Count(string(text), "\n")
	}
	return failures, r.stub(t, name, "echo failed >> "+calls+"\nexit 1")
}

// forwarded makes the firewall forward a port itself.
func (r *rig) forwarded(t testing.TB, port int) {
	t.Helper()
	r.ipt(t, "-t", "nat", "-A", "PREROUTING", "-i", "wan0", "-p", "tcp", "--dport", fmt.Sprint(port), "-j", "DNAT", "--to-destination", "192.168.50.99:60")
}

// refusedPort demands that a client that requests a port of the administrator's is
// granted another one.
func (r *rig) refusedPort(t testing.TB, port uint16) {
	t.Helper()
	if got := r.grant(t, mapping(natpmp.MapTCP, port, port, time.Hour)).ExternalPort; got == port {
		t.Errorf("a client has port %d, which is the administrator's", port)
	}
	r.natpmpMap(t, r.Clients[0], client1, mapping(natpmp.MapTCP, port, 0, 0))
}

// freed waits until a client can have the port.
func (r *rig) freed(t testing.TB, port uint16) {
	t.Helper()
	await(t, "the port to be free", func() bool {
		out, _ := r.ctl(t, "explain", "192.168.50.10", "tcp", fmt.Sprint(port), fmt.Sprint(port))
		return strings.Contains(out, fmt.Sprintf("granted, external port %d\n", port))
	})
	if got := r.grant(t, mapping(natpmp.MapTCP, port, port, time.Hour)).ExternalPort; got != port {
		t.Errorf("external port %d", got)
	}
}

// TestForwardsOutlastAFailedRead has iptables-save fail after a change of the
// firewall.
func TestForwardsOutlastAFailedRead(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{})
		r.replacing()
		r.forwarded(t, 6000)
		r.start(t)
		failures, restore := r.stubFailing(t, "iptables-save")
		await(t, "a failed read of the firewall", func() bool {
			r.ipt(t, "-A", "INPUT", "-j", "ACCEPT")
			return failures() >= 3
		})
		restore()
		r.refusedPort(t, 6000)
	})
}

// TestForwardsNotYetKnown starts the daemon while iptables-save fails.
func TestForwardsNotYetKnown(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{})
		r.forwarded(t, 6000)
		_, restore := r.stubFailing(t, "iptables-save")
		r.start(t)
		restore()
		s := r.socket(t)
		await(t, "a mapping", func() bool {
			resp, ok := ask(s, mapping(natpmp.MapTCP, 6000, 6000, time.Hour))
			if ok && resp.Result == natpmp.Success && resp.ExternalPort == 6000 {
				t.Fatal("a client has the administrator's port")
			}
			return ok && resp.Result == natpmp.Success
		})
	})
}

// TestForwardsWhileTheFirewallRestarts flushes the firewall's forwards and
// makes them again while a client asks for one of their ports.
func TestForwardsWhileTheFirewallRestarts(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{})
		r.forwarded(t, 6000)
		r.forwarded(t, 6001)
		r.start(t)
		s := r.socket(t)
		demand := func(times int) {
			for answered := 0; answered < times; {
				resp, ok := ask(s, mapping(natpmp.MapTCP, 6000, 6000, time.Hour))
				if !ok || resp.Result != natpmp.Success {
					continue // asks again, as clients do
				}
				answered++
				if resp.ExternalPort == 6000 {
					t.Fatal("a client has the administrator's port")
				}
				ask(s, mapping(natpmp.MapTCP, 6000, 0, 0))
			}
		}
		for round := range 3 {
			r.atOnce(t, "nat", "-F PREROUTING")
			demand(20)
			r.atOnce(t, "filter", "-F INPUT") // a change of unrelated rules
			demand(20)
			protocol := []string{"enable_upnp=yes", "enable_upnp=no", "enable_upnp=yes"}[round]
			r.configure(t, protocol)
			r.kill(syscall.SIGHUP)
			await(t, "a new service", func() bool {
				out, status := r.ctl(t, "status")
				return status != 1 && strings.Contains(out, "UPnP") == (protocol == "enable_upnp=yes")
			})
			demand(20)
			r.forwarded(t, 6001)
			demand(20)
			r.forwarded(t, 6000)
			demand(20)
		}
		// A forward that is deleted for good frees its port.
		r.ipt(t, "-t", "nat", "-D", "PREROUTING", "-i", "wan0", "-p", "tcp", "--dport", "6000", "-j", "DNAT", "--to-destination", "192.168.50.99:60")
		r.freed(t, 6000)
	})
}

// TestForwardOfAnotherAddress has 1:1 NAT of an address that is not the announced one.
func TestForwardOfAnotherAddress(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{})
		r.ipt(t, "-t", "nat", "-A", "PREROUTING", "-i", "wan0", "-d", "11.22.33.55/32", "-j", "DNAT", "--to-destination", "192.168.50.5")
		r.start(t)
		r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
	})
}

// TestForwardsFollowTheAddress has a forward for the address that the uplink
// has, and one for an address that it gets later.
func TestForwardsFollowTheAddress(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	r.ipt(t, "-t", "nat", "-A", "PREROUTING", "-d", netlab.RouterWAN.Addr().String(), "-p", "tcp", "--dport", "6001", "-j", "DNAT", "--to-destination", "192.168.50.99:60")
	later := netip.MustParsePrefix("11.22.33.55/24")
	r.ipt(t, "-t", "nat", "-A", "PREROUTING", "-d", later.Addr().String(), "-p", "tcp", "--dport", "6000", "-j", "DNAT", "--to-destination", "192.168.50.99:60")
	r.start(t)
	r.refusedPort(t, 6001)
	if got := r.grant(t, mapping(natpmp.MapTCP, 6000, 6000, time.Hour)).ExternalPort; got != 6000 {
		t.Fatalf("port %d instead of one that is free", got)
	}
	r.Router.IP(t, "address", "del", netlab.RouterWAN.String(), "dev", "wan0")
	r.Router.Address(t, "wan0", later)
	await(t, "the mapping to make way", func() bool { return !strings.Contains(r.chains(t), "--dport 6000 ") })
	r.refusedPort(t, 6000)
	r.freed(t, 6001)
}

// TestForwardOfAPattern has the uplink named by a pattern, and the forward by
// the link.
func TestForwardOfAPattern(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	r.forwarded(t, 6000)
	r.start(t, "ext_ifname=wan+")
	r.refusedPort(t, 6000)
}

// TestPortKeptByTheRouter has a rule keep a port from all that would translate it:
// no client gets it, and the rule is named.
func TestPortKeptByTheRouter(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{})
		r.ipt(t, "-t", "nat", "-A", "PREROUTING", "-i", "wan0", "-p", "tcp", "--dport", "6000", "-j", "ACCEPT")
		r.start(t)
		r.refusedPort(t, 6000)
		r.says(t, "explain 192.168.50.10 tcp 6000 6000", 0, "firewall: PREROUTING -i wan0 -p tcp -m tcp --dport 6000 -j ACCEPT")
	})
}

// TestConditionalForward has a forward that holds for some connections: its
// ports are free, and the log names the rule.
func TestConditionalForward(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	r.ipt(t, "-t", "nat", "-A", "PREROUTING", "-s", "198.51.100.7", "-i", "wan0", "-p", "udp", "--dport", "5060", "-j", "DNAT", "--to-destination", "192.168.50.10:5060")
	r.foreground(t)
	for range 2 {
		if got := r.grant(t, mapping(natpmp.MapUDP, 5060, 5060, time.Hour)).ExternalPort; got != 5060 {
			t.Errorf("external port %d", got)
		}
		r.ipt(t, "-A", "INPUT", "-j", "ACCEPT")
	}
	r.says(t, "explain 192.168.50.10 udp 5060 5060", 0, "firewall: PREROUTING -s 198.51.100.7/32 -i wan0 -p udp")
	await(t, "the rule in the log", func() bool { return strings.Contains(r.log(t), "PREROUTING -s 198.51.100.7/32 ") })
}
