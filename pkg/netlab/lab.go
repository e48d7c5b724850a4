package netlab

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// The addresses of the lab. The uplink's networks are public ones, because clients
// reject a private external address.
var (
	RouterLAN  = netip.MustParsePrefix("192.168.50.1/24")
	RouterLAN2 = netip.MustParsePrefix("192.168.60.1/24")
	RouterWAN  = netip.MustParsePrefix("11.22.33.44/24")
	RouterWAN2 = netip.MustParsePrefix("22.33.44.55/24")

	RouterLAN6 = netip.MustParsePrefix("2001:db8:50::1/64")
	RouterWAN6 = netip.MustParsePrefix("2001:db8:33::44/64")
)

// Layout says what a lab has beside one LAN and one uplink.
type Layout struct {
	Clients   int  // hosts on the first LAN; 0 means one
	SecondLAN bool // lan1, with one client
	SecondWAN bool // wan1
	IPv6      bool // on the first LAN and the first uplink
}

// Lab is a router between LAN and Internet. The router's devices are lan0 and
// wan0 (lan1, wan1); every other host has an eth0.
type Lab struct {
	Router  *Namespace
	Clients []*Namespace // 192.168.50.10, .11 … (2001:db8:50::10, ::11 …)
	WAN     *Namespace   // 11.22.33.1 and .2 (2001:db8:33::1): the provider's end, and any host beyond
	Client2 *Namespace   // 192.168.60.10 behind lan1
	WAN2    *Namespace   // 22.33.44.1 behind wan1
}

// NewLab builds a lab that forwards and has no firewall rules. It is gone when
// the test ends.
func NewLab(t testing.TB, l Layout) *Lab {
	t.Helper()
	lab := &Lab{Router: New(t, "router")}
	for _, name := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		lab.Router.Sysctl(t, name, "1")
	}
	lab.lan(t, max(1, l.Clients))
	lab.WAN = lab.uplink(t, "wan0", RouterWAN)
	lab.WAN.Address(t, "eth0", netip.PrefixFrom(host(RouterWAN, 2), RouterWAN.Bits()))
	lab.Router.IP(t, "route", "add", "default", "via", host(RouterWAN, 1).String())
	if l.SecondLAN {
		lab.Client2 = New(t, "client2")
		lab.Router.Connect(t, "lan1", lab.Client2, "eth0")
		lab.Router.Address(t, "lan1", RouterLAN2)
		lab.Client2.join(t, RouterLAN2, 10)
	}
	if l.SecondWAN {
		lab.WAN2 = lab.uplink(t, "wan1", RouterWAN2)
	}
	if l.IPv6 {
		lab.ipv6(t)
	}
	return lab
}

// lan makes lan0, a bridge, and its clients.
func (lab *Lab) lan(t testing.TB, clients int) {
	t.Helper()
	lab.Router.IP(t, "link", "add", "lan0", "type", "bridge")
	for i := range clients {
		c := New(t, fmt.Sprintf("client%d", i))
		port := fmt.Sprintf("port%d", i)
		lab.Router.Connect(t, port, c, "eth0")
		lab.Router.IP(t, "link", "set", port, "master", "lan0")
		lab.Clients = append(lab.Clients, c)
	}
	lab.Router.IP(t, "link", "set", "lan0", "up")
	lab.Router.Address(t, "lan0", RouterLAN)
	for i, c := range lab.Clients {
		c.join(t, RouterLAN, 10+i)
	}
}

// uplink connects the router's dev to a host that is .1 there.
func (lab *Lab) uplink(t testing.TB, dev string, router netip.Prefix) *Namespace {
	t.Helper()
	far := New(t, dev)
	lab.Router.Connect(t, dev, far, "eth0")
	lab.Router.Address(t, dev, router)
	far.Address(t, "eth0", netip.PrefixFrom(host(router, 1), router.Bits()))
	return far
}

// ipv6 adds the second family.
func (lab *Lab) ipv6(t testing.TB) {
	t.Helper()
	lab.Router.Address(t, "lan0", RouterLAN6)
	lab.Router.Address(t, "lan0", netip.MustParsePrefix("fe80::1/64"))
	for i, c := range lab.Clients {
		c.join(t, RouterLAN6, 0x10+i)
	}
	lab.Router.Address(t, "wan0", RouterWAN6)
	lab.WAN.join(t, netip.PrefixFrom(RouterWAN6.Addr(), RouterWAN6.Bits()), 1)
	for _, host := range append([]*Namespace{lab.WAN}, lab.Clients...) {
		host.awaitLinkLocal(t, "eth0")
	}
}

// linkLocalWithin limits the wait for a device's link-local address.
const linkLocalWithin = time.Minute

// awaitLinkLocal waits until the kernel has given a device a link-local address that
// can be used, which it does some time after the device is up.
func (n *Namespace) awaitLinkLocal(t testing.TB, dev string) {
	t.Helper()
	for deadline := time.Now().Add(linkLocalWithin); ; time.Sleep(10 * time.Millisecond) {
		usable := n.Run(t, "ip", "-6", "-o", "address", "show", "dev", dev, "scope", "link", "-tentative")
		if strings.Contains(usable, "inet6") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("netlab: %s of %s has no link-local address", dev, n.Name)
		}
	}
}

// join gives eth0 the address number i of the router's network, and the router
// as its gateway.
func (n *Namespace) join(t testing.TB, router netip.Prefix, i int) {
	t.Helper()
	n.Address(t, "eth0", netip.PrefixFrom(host(router, i), router.Bits()))
	n.IP(t, "route", "add", "default", "via", router.Addr().String())
}

// host returns address number i of a network.
func host(network netip.Prefix, i int) netip.Addr {
	raw := network.Masked().Addr().AsSlice()
	raw[len(raw)-1] = byte(i)
	a, _ := netip.AddrFromSlice(raw)
	return a
}

// Connect joins two namespaces by a veth pair: a device in each, both up.
func (n *Namespace) Connect(t testing.TB, dev string, far *Namespace, farDev string) {
	t.Helper()
	n.IP(t, "link", "add", dev, "type", "veth", "peer", "name", farDev, "netns", far.Name)
	n.IP(t, "link", "set", dev, "up")
	far.IP(t, "link", "set", farDev, "up")
}

// Address gives a device an address that is usable at once.
func (n *Namespace) Address(t testing.TB, dev string, p netip.Prefix) {
	t.Helper()
	args := []string{"address", "add", p.String(), "dev", dev}
	if p.Addr().Is6() {
		args = append(args, "nodad")
	}
	n.IP(t, args...)
}
