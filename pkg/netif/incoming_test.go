package netif

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlab"
	"igdd/pkg/netlink"
)

// newRouter is a router with two uplinks, of which wan0 has the default route, and a
// strict reverse path filter.
func newRouter(t *testing.T) *netlab.Namespace {
	ns := twoUplinks(t)
	for name, value := range map[string]string{"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1", "ipv4/conf/all/rp_filter": "1"} {
		ns.Sysctl(t, "net/"+name, value)
	}
	for dev, address := range map[string]string{"wan0": "2001:db8:33::44", "tun0": "2001:db8:50::1"} {
		ns.Address(t, dev, netip.PrefixFrom(netip.MustParseAddr(address), 64))
		awaitLocal(t, ns, address)
	}
	for _, route := range []string{
		"default via 11.22.33.1", "unreachable 192.0.2.1", "prohibit 192.0.2.2", "blackhole 192.0.2.3", "192.0.2.128/25 via 22.33.44.1",
		"2001:db8:ffff::/48 via 2001:db8:33::1", "unreachable 2001:db8:dead::1",
	} {
		ns.IP(t, append([]string{"route", "add"}, strings.Fields(route)...)...)
	}
	return ns
}

// awaitLocal waits until packets to an IPv6 address of the router are local, which they are
// some time after its link is up.
func awaitLocal(t *testing.T, ns *netlab.Namespace, address string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if strings.Contains(ns.Run(t, "ip", "-6", "route", "show", "table", "local"), "local "+address+" ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("packets to %s are not local", address)
		}
	}
}

// TestRouteIn asks the kernel of a router for routes of packets that come in.
func TestRouteIn(t *testing.T) {
	ns := newRouter(t)
	const spoofed = "reverse path filter (rp_filter): the route to 198.51.100.7 does not leave by wan1"
	for _, tt := range []struct{ in, source, to, want string }{
		{"wan0", "198.51.100.7", "11.22.33.44", "local"},
		{"wan0", "198.51.100.7", "22.33.44.55", "local"},
		{"wan0", "198.51.100.7", "10.8.0.9", "tun0"},
		{"wan0", "198.51.100.7", "203.0.113.9", "wan0"},
		{"wan1", "192.0.2.200", "10.8.0.9", "tun0"},
		{"wan1", "198.51.100.7", "10.8.0.9", spoofed},
		{"wan1", "198.51.100.7", "22.33.44.55", spoofed},
		{"wan0", "198.51.100.7", "192.0.2.1", "no route to 192.0.2.1, or forwarding is disabled for wan0"},
		{"wan0", "198.51.100.7", "192.0.2.2", "no route from 198.51.100.7 to 192.0.2.2: permission denied"},
		{"wan0", "198.51.100.7", "192.0.2.3", "no route from 198.51.100.7 to 192.0.2.3: invalid argument"},
		{"wan0", "11.22.33.44", "10.8.0.9", "martian source: 11.22.33.44 is an address of the router"},
		{"wan0", "127.0.0.1", "10.8.0.9", "martian source: 127.0.0.1 is an address of the router"},
		{"wan0", "11.22.33.255", "10.8.0.9", "martian source: 11.22.33.255 is not the address of a host"},
		{"wan0", "2001:db8:ffff::7", "2001:db8:33::44", "local"},
		{"wan0", "2001:db8:ffff::7", "2001:db8:50::9", "tun0"},
		{"wan0", "2001:db8:ffff::7", "2001:db8:eeee::1", "no route to 2001:db8:eeee::1"},
		{"wan0", "2001:db8:ffff::7", "2001:db8:dead::1", "no route to 2001:db8:dead::1, or forwarding is disabled for wan0"},
	} {
		ns.Do(func() error {
			if got := routeIn(tt.in, tt.source, tt.to); got != tt.want {
				t.Errorf("from %s by %s to %s: %s, want %s", tt.source, tt.in, tt.to, got, tt.want)
			}
			return nil
		})
	}
	ns.Sysctl(t, "net/ipv4/conf/wan0/forwarding", "0")
	ns.Do(func() error {
		const want = "no route to 10.8.0.9, or forwarding is disabled for wan0"
		if got := routeIn("wan0", "198.51.100.7", "10.8.0.9"); got != want {
			t.Errorf("without forwarding: %s, want %s", got, want)
		}
		return nil
	})
}

// TestRouteInFilters asks with each mode of the reverse path filter, of the link and of
// all links.
func TestRouteInFilters(t *testing.T) {
	ns := newRouter(t)
	const (
		other     = "198.51.100.7" // has a route by wan0
		nowhere   = "192.0.2.1"    // has none
		strict    = "reverse path filter (rp_filter): the route to 198.51.100.7 does not leave by wan1"
		noRoute   = "reverse path filter (rp_filter): no route to 192.0.2.1"
		blackhole = "192.0.2.3"
	)
	for _, tt := range []struct{ all, link, source, to, want string }{
		{"0", "0", other, "10.8.0.9", "tun0"},
		{"0", "0", other, blackhole, "no route from 198.51.100.7 to 192.0.2.3: invalid argument"},
		{"0", "0", nowhere, blackhole, "no route from 192.0.2.1 to 192.0.2.3: invalid argument"},
		{"0", "1", other, "10.8.0.9", strict},
		{"1", "0", other, "10.8.0.9", strict},
		{"1", "2", other, "10.8.0.9", "tun0"},
		{"1", "2", other, blackhole, "no route from 198.51.100.7 to 192.0.2.3: invalid argument"},
		{"0", "2", nowhere, "10.8.0.9", noRoute},
		{"2", "0", nowhere, "10.8.0.9", noRoute},
		{"0", "0", "22.33.44.55", "10.8.0.9", "martian source: 22.33.44.55 is an address of the router"},
	} {
		ns.Sysctl(t, "net/ipv4/conf/all/rp_filter", tt.all)
		ns.Sysctl(t, "net/ipv4/conf/wan1/rp_filter", tt.link)
		ns.Do(func() error {
			if got := routeIn("wan1", tt.source, tt.to); got != tt.want {
				t.Errorf("filters %s and %s, from %s to %s: %s, want %s", tt.all, tt.link, tt.source, tt.to, got, tt.want)
			}
			return nil
		})
	}
}

// FuzzFilter decodes any message as the kernel's.
func FuzzFilter(f *testing.F) {
	f.Add(uint16(unix.RTM_NEWNETCONF), netlink.AppendAttribute([]byte{unix.AF_INET, 0, 0, 0}, netconfRPFilter, []byte{1, 0, 0, 0}))
	f.Add(uint16(unix.RTM_NEWNETCONF), []byte{unix.AF_INET})
	f.Fuzz(func(t *testing.T, kind uint16, data []byte) {
		if mode := parseFilter(netlink.Message{Type: kind, Data: data}); mode != 0 && kind != unix.RTM_NEWNETCONF {
			t.Errorf("mode %d", mode)
		}
	})
}

// routeIn returns the route of a packet as text.
func routeIn(in, source, to string) string {
	links, err := Links()
	if err != nil {
		return err.Error()
	}
	route, err := RouteIn(links[in], netip.MustParseAddr(source), netip.MustParseAddr(to))
	switch {
	case err != nil:
		return strings.ReplaceAll(err.Error(), "netlink: ", "")
	case route.Local:
		return "local" + route.Out
	}
	return route.Out
}

// FuzzIncoming decodes any message as the kernel's.
func FuzzIncoming(f *testing.F) {
	route := make([]byte, unix.SizeofRtMsg)
	route[7] = unix.RTN_LOCAL
	f.Add(uint16(unix.RTM_NEWROUTE), netlink.AppendAttribute(route, unix.RTA_OIF, []byte{1, 0, 0, 0}))
	f.Add(uint16(unix.RTM_NEWROUTE), route[:5])
	f.Fuzz(func(t *testing.T, kind uint16, data []byte) {
		if index, local := parseIncoming(netlink.Message{Type: kind, Data: data}); index < 0 || local && index != 0 {
			t.Errorf("link %d, local %v", index, local)
		}
	})
}

// TestNextHop demands the next hop of routes by a gateway and without one.
func TestNextHop(t *testing.T) {
	ns := newRouter(t)
	ns.Do(func() error {
		links, err := Links()
		if err != nil {
			t.Fatal(err)
		}
		for to, want := range map[string]string{
			"203.0.113.9": "11.22.33.1", "11.22.33.7": "11.22.33.7", "2001:db8:ffff::9": "2001:db8:33::1", "2001:db8:33::7": "2001:db8:33::7",
		} {
			from := "10.8.0.9"
			if strings.Contains(to, ":") {
				from = "2001:db8:50::9"
			}
			route, err := RouteIn(links["tun0"], netip.MustParseAddr(from), netip.MustParseAddr(to))
			if err != nil || route != (Route{Out: "wan0", NextHop: netip.MustParseAddr(want)}) {
				t.Errorf("to %s: %+v, %v, want by %s", to, route, err, want)
			}
		}
		return nil
	})
}

// TestLinkTo asks by which link hosts are reached.
func TestLinkTo(t *testing.T) {
	ns := newRouter(t)
	ns.Do(func() error {
		for host, want := range map[string]string{
			"10.8.0.9": "tun0", "192.0.2.200": "wan1", "203.0.113.9": "wan0", "192.0.2.1": "", "11.22.33.44": "",
			"2001:db8:50::9": "tun0", "2001:db8:ffff::7": "wan0", "2001:db8:dead::1": "", "2001:db8:50::1": "",
		} {
			name := ""
			if link, err := net.InterfaceByIndex(LinkTo(netip.MustParseAddr(host))); err == nil {
				name = link.Name
			}
			if name != want {
				t.Errorf("%s is reached by %q, want %q", host, name, want)
			}
		}
		return nil
	})
}
