package daemon_test

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
)

// routesRead returns how often the daemon has read the route to the Internet.
func (r *rig) routesRead(t testing.TB) int {
	return strings.Count(r.log(t), "read the route to the Internet")
}

// ipBatch runs ip(8) once with many commands.
func (r *rig) ipBatch(t testing.TB, commands string) {
	t.Helper()
	if err := os.WriteFile(r.path("batch"), []byte(commands), 0o644); err != nil {
		t.Fatal(err)
	}
	r.Router.Run(t, "ip", "-batch", r.path("batch"))
}

const firstUplink, secondUplink = "11.22.33.44", "22.33.44.55"

// routeChange is what happens to routes or uplinks, as commands of ip(8), and the
// address that clients are told afterwards.
type routeChange struct{ what, does, told string }

// TestUplinkFollowsRoute has routes fail over to the second uplink, as AstLinux does it,
// and other things that happen to routes. Both uplinks keep their addresses.
func TestUplinkFollowsRoute(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{SecondWAN: true})
	r.startWithTwoUplinks(t)
	r.Clients[0].Echo(t, "tcp", "192.168.50.10:4000")
	r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
	r.changeRoutes(t, []routeChange{
		{"failover", "route add 0.0.0.0/1 via 22.33.44.1; route add 128.0.0.0/1 via 22.33.44.1", secondUplink},
	})
	netlab.Probe{Network: "tcp", From: r.WAN2, To: netip.AddrPortFrom(at(secondUplink), 4000)}.Arrives(t)
	r.changeRoutes(t, []routeChange{
		{"a VPN after a failover", "route replace 0.0.0.0/1 dev tun0; route replace 128.0.0.0/1 dev tun0", secondUplink},
		{"the VPN ends, and the failover", "route del 0.0.0.0/1; route del 128.0.0.0/1", firstUplink},
		{"one half by the second", "route add 0.0.0.0/1 via 22.33.44.1", firstUplink},
		{"the other half by the second", "route del 0.0.0.0/1; route add 128.0.0.0/1 via 22.33.44.1", firstUplink},
		{"a VPN", "route del 128.0.0.0/1; route replace default dev tun0", firstUplink},
		{"two next hops", "route replace default nexthop via 11.22.33.1 nexthop via 22.33.44.1", firstUplink},
	})
	if n := r.announced(t); n != 3 {
		t.Errorf("the address has changed %d times, want 3", n)
	}
	r.ipBatch(t, "route replace default via 11.22.33.1\n")
	r.dial("tcp", 4000).Arrives(t)
	if !strings.Contains(r.log(t), "Public IP address 22.33.44.55 on ext interface wan1: Port forwarding is enabled") {
		t.Errorf("the log does not name the second uplink:\n%s", r.log(t))
	}
}

// TestUplinkFollowsDefaultRoute has one default route replace another, and uplinks lose
// their addresses.
func TestUplinkFollowsDefaultRoute(t *testing.T) {
	t.Parallel()
	r := newRig(t, "nft", netlab.Layout{SecondWAN: true})
	r.startWithTwoUplinks(t)
	r.changeRoutes(t, []routeChange{
		{"no route", "route del default", firstUplink},
		{"the default route by the second", "route add default via 22.33.44.1", secondUplink},
		{"a route that flaps", strings.Repeat("route replace default via 11.22.33.1; route replace default via 22.33.44.1; ", 50), secondUplink},
		{"the default route by the first", "route replace default via 11.22.33.1", firstUplink},
		{"the first loses its address", "address del 11.22.33.44/24 dev wan0", secondUplink},
		{"it gets it back, but no route", "address add 11.22.33.44/24 dev wan0", secondUplink},
		{"and its route", "route replace default via 11.22.33.1", firstUplink},
	})
	if n := r.announced(t); n != 5 {
		t.Errorf("the address has changed %d times, want 5", n)
	}
}

// startWithTwoUplinks starts the daemon, beside a VPN's link.
func (r *rig) startWithTwoUplinks(t *testing.T) {
	t.Helper()
	r.ipBatch(t, "link add tun0 type veth peer name far0\nlink set far0 up\nlink set tun0 up\naddress add 10.8.0.2/24 dev tun0\n")
	r.foreground(t, "ext_ifname2=wan1")
	await(t, "the route to be read", func() bool { return r.routesRead(t) > 0 })
	r.awaitExternalAddr(t, at(firstUplink))
}

// changeRoutes makes changes, and demands that the announced address changes with
// them once, or not at all. The log has room for ten readings a minute.
func (r *rig) changeRoutes(t *testing.T, changes []routeChange) {
	for _, change := range changes {
		t.Run(change.what, func(t *testing.T) {
			_, before, _ := r.externalAddr(t)
			read, announced := r.routesRead(t), r.announced(t)
			r.ipBatch(t, strings.ReplaceAll(change.does, "; ", "\n")+"\n")
			await(t, "the route to be read", func() bool { return r.routesRead(t) > read })
			epoch := r.awaitExternalAddr(t, at(change.told))
			if before != at(change.told) {
				announced++
				if epoch > 15 {
					t.Errorf("epoch %d with a new address, want a new one", epoch)
				}
			}
			await(t, "the log to say so", func() bool { return r.announced(t) >= announced })
			if n := r.announced(t); n != announced {
				t.Errorf("the address has changed %d times, want %d", n, announced)
			}
		})
	}
}

// announced returns how often the daemon has logged the address that it announces.
func (r *rig) announced(t testing.TB) int {
	return strings.Count(r.log(t), "Public IP address ")
}

// TestUplinkAtTheStart has the route leave by the second uplink before the daemon
// starts: the first address that clients are told is already the right one.
func TestUplinkAtTheStart(t *testing.T) {
	t.Parallel()
	r := newRig(t, "nft", netlab.Layout{SecondWAN: true})
	r.ipBatch(t, "route add 0.0.0.0/1 via 22.33.44.1\nroute add 128.0.0.0/1 via 22.33.44.1\n")
	r.foreground(t, "ext_ifname2=wan1")
	if _, a, _ := r.externalAddr(t); a != netlab.RouterWAN2.Addr() {
		t.Errorf("clients are told %v", a)
	}
	if log := r.log(t); strings.Contains(log, "Public IP address 11.22.33.44") {
		t.Errorf("the wrong uplink was announced first:\n%s", log)
	}
}

// TestOneUplinkIgnoresTheRoute has a VPN take the default route over, and another link
// that is not configured: the one uplink stays.
func TestOneUplinkIgnoresTheRoute(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{SecondWAN: true})
	r.Router.IP(t, "route", "replace", "default", "via", "22.33.44.1")
	r.foreground(t)
	r.awaitExternalAddr(t, netlab.RouterWAN.Addr())
	read := r.routesRead(t)
	r.ipBatch(t, "route add 0.0.0.0/1 via 22.33.44.1\nroute add 128.0.0.0/1 via 22.33.44.1\n")
	await(t, "the route to be read", func() bool { return r.routesRead(t) > read })
	r.awaitExternalAddr(t, netlab.RouterWAN.Addr())
	if n := r.announced(t); n != 1 {
		t.Errorf("the address has changed %d times, want once", n)
	}
}
