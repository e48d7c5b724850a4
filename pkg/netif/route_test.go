package netif

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlab"
	"igdd/pkg/netlink"
)

// twoUplinks is a host with two uplinks and a VPN.
func twoUplinks(t *testing.T) *netlab.Namespace {
	ns := netlab.New(t, "netif")
	for dev, address := range map[string]string{"wan0": "11.22.33.44/24", "wan1": "22.33.44.55/24", "tun0": "10.8.0.2/24"} {
		ns.IP(t, "link", "add", dev, "type", "veth", "peer", "name", "far-"+dev)
		ns.IP(t, "link", "set", "far-"+dev, "up")
		ns.IP(t, "link", "set", dev, "up")
		ns.IP(t, "address", "add", address, "dev", dev)
	}
	return ns
}

func TestInternetLink(t *testing.T) {
	for _, tt := range []struct {
		what, routes string
		want         string // the link, "" for none
	}{
		{"no route", "", ""},
		{"a default route", "default via 11.22.33.1", "wan0"},
		{"a default route without gateway", "default dev wan1", "wan1"},
		{"the better of two default routes", "default via 11.22.33.1 metric 20; default via 22.33.44.1 metric 10", "wan1"},
		{"both halves by another link", "default via 11.22.33.1; 0.0.0.0/1 via 22.33.44.1; 128.0.0.0/1 via 22.33.44.1", "wan1"},
		{"one half by another link", "default via 11.22.33.1; 0.0.0.0/1 via 22.33.44.1", ""},
		{"the other half by another link", "default via 11.22.33.1; 128.0.0.0/1 via 22.33.44.1", ""},
		{"one half alone", "0.0.0.0/1 via 22.33.44.1", ""},
		{"a VPN", "default via 11.22.33.1; 0.0.0.0/1 dev tun0; 128.0.0.0/1 dev tun0", "tun0"},
		{"two next hops", "default nexthop via 11.22.33.1 nexthop via 22.33.44.1", ""},
		{"two next hops of one link", "default nexthop via 11.22.33.1 nexthop via 11.22.33.2", ""},
		{"one half with two next hops", "default via 11.22.33.1; 128.0.0.0/1 nexthop via 11.22.33.1 nexthop via 22.33.44.1", ""},
		{"no way out", "unreachable default", ""},
		{"a black hole in front", "default via 11.22.33.1; blackhole 0.0.0.0/1", ""},
		{"hosts with routes of their own", "default via 11.22.33.1; 8.8.8.8 via 22.33.44.1; 208.67.222.222 via 22.33.44.1", "wan0"},
		{"a route for marked packets only", "default via 11.22.33.1; default via 22.33.44.1 table 77", "wan0"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			ns := twoUplinks(t)
			ns.IP(t, "rule", "add", "fwmark", "7", "table", "77")
			for route := range strings.SplitSeq(tt.routes, "; ") {
				if route != "" {
					ns.IP(t, append([]string{"route", "add"}, strings.Fields(route)...)...)
				}
			}
			ns.Do(func() error {
				name := ""
				if link, err := net.InterfaceByIndex(InternetLink()); err == nil {
					name = link.Name
				}
				if name != tt.want {
					t.Errorf("the Internet is reached by %q, want %q", name, tt.want)
				}
				return nil
			})
		})
	}
}

// TestRouteNotices has the kernel report the routes to a whole part of the Internet,
// but none of those that routing protocols exchange by the thousand.
func TestRouteNotices(t *testing.T) {
	ns := twoUplinks(t)
	var socket *os.File
	err := ns.Do(func() (err error) {
		socket, err = subscribe()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	for _, args := range []string{"add 32.0.0.0/8", "add 64.0.0.1", "del 32.0.0.0/8", "add default", "del default", "add 64.0.0.0/7", "add 65.0.0.0/24"} {
		ns.IP(t, append([]string{"route"}, append(strings.Fields(args), "dev", "wan0")...)...)
	}
	ns.IP(t, "rule", "add", "to", "64.0.0.1", "table", "77")
	type change struct {
		kind uint16
		bits byte // of the prefix
	}
	var got []change
	for notice := make([]byte, 1<<16); len(got) == 0 || got[len(got)-1].kind != unix.RTM_NEWRULE; {
		n, err := socket.Read(notice)
		if err != nil {
			t.Fatal(err)
		}
		if isRouting(notice[:n]) {
			got = append(got, change{binary.NativeEndian.Uint16(notice[4:]), notice[unix.SizeofNlMsghdr+1]})
		}
	}
	want := []change{{unix.RTM_NEWROUTE, 0}, {unix.RTM_DELROUTE, 0}, {unix.RTM_NEWROUTE, 7}, {unix.RTM_NEWRULE, 32}}
	if !slices.Equal(got, want) {
		t.Errorf("notices %v, want %v", got, want)
	}
}

// TestRouteChanged tells of a route, and has links read again for links alone.
func TestRouteChanged(t *testing.T) {
	ns := twoUplinks(t)
	var w *Watcher
	err := ns.Do(func() (err error) {
		w, err = Watch()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ns.Do(func() error { return w.Run(ctx) }) }()
	for _, args := range []string{"route add default via 11.22.33.1", "route replace default via 22.33.44.1", "route del default", "rule add fwmark 7 table 77"} {
		ns.IP(t, strings.Fields(args)...)
		select {
		case <-w.RouteChanged():
		case <-time.After(waitTime):
			t.Fatalf("%s is not noticed", args)
		}
	}
	ns.IP(t, "link", "set", "wan1", "down")
	await(t, w, "a link that is set down", func(l map[string]Link) bool { return !l["wan1"].Up })
	select {
	case <-w.RouteChanged():
		t.Error("a link is taken for a route")
	default:
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// FuzzRoute decodes any message as the kernel's.
func FuzzRoute(f *testing.F) {
	route := make([]byte, unix.SizeofRtMsg)
	route[7] = unix.RTN_UNICAST
	f.Add(uint16(unix.RTM_NEWROUTE), netlink.AppendAttribute(route, unix.RTA_OIF, []byte{7, 0, 0, 0}))
	f.Add(uint16(unix.RTM_NEWROUTE), netlink.AppendAttribute(route, unix.RTA_OIF, []byte{7}))
	f.Add(uint16(unix.RTM_NEWROUTE), route[:5])
	f.Fuzz(func(t *testing.T, kind uint16, data []byte) {
		if index := parseRoute(netlink.Message{Type: kind, Data: data}); index < 0 {
			t.Errorf("link %d", index)
		}
	})
}

// TestNextLink has routes to networks behind another router, of both families.
func TestNextLink(t *testing.T) {
	ns := twoUplinks(t)
	ns.IP(t, "address", "add", "2001:db8:8::2/64", "dev", "tun0", "nodad")
	for _, route := range []string{
		"default via 11.22.33.1", "10.1.0.0/16 via 10.8.0.1", "10.2.0.0/16 nexthop via 10.8.0.1 nexthop via 10.8.0.3",
		"blackhole 10.3.0.0/16", "2001:db8:9::/48 via 2001:db8:8::1",
	} {
		ns.IP(t, append([]string{"route", "add"}, strings.Fields(route)...)...)
	}
	for host, want := range map[string]string{
		"10.1.0.1": "tun0", "10.2.0.1": "tun0", "10.3.0.1": "", "10.4.0.1": "wan0", "11.22.33.44": "", "2001:db8:9::1": "tun0", "2001:db8:7::1": "",
	} {
		got := ""
		err := ns.Do(func() error {
			if link, err := net.InterfaceByIndex(NextLink(netip.MustParseAddr(host))); err == nil {
				got = link.Name
			}
			return nil
		})
		if err != nil || got != want {
			t.Errorf("%s: %v, by %q, want %q", host, err, got, want)
		}
	}
}

// TestGateway reads the router in front of an uplink. The other end of tun0 is 10.8.0.1.
func TestGateway(t *testing.T) {
	for _, tt := range []struct {
		what, routes, link string
		want               string // "" for none
	}{
		{"no route", "", "wan0", ""},
		{"a default route", "default via 11.22.33.1", "wan0", "11.22.33.1"},
		{"a default route by another link", "default via 11.22.33.1", "wan1", ""},
		{"a default route without gateway", "default dev wan1", "wan1", ""},
		{"a worse route by this link", "default via 11.22.33.1 metric 10; default via 22.33.44.1 metric 20", "wan1", "22.33.44.1"},
		{"the better of two gateways", "default via 11.22.33.1 metric 20; default via 11.22.33.2 metric 10", "wan0", "11.22.33.2"},
		{"both halves by another gateway", "default via 11.22.33.1; 0.0.0.0/1 via 11.22.33.2; 128.0.0.0/1 via 11.22.33.2", "wan0", "11.22.33.2"},
		{"one half by another gateway", "default via 11.22.33.1; 0.0.0.0/1 via 11.22.33.2", "wan0", ""},
		{"a half without gateway", "default via 11.22.33.1; 0.0.0.0/1 dev wan0", "wan0", ""},
		{"a point-to-point link", "default dev tun0", "tun0", "10.8.0.1"},
		{"a point-to-point link without the route", "default via 11.22.33.1", "tun0", ""},
		{"a gateway behind the other end", "default via 10.8.0.9 dev tun0 onlink", "tun0", "10.8.0.9"},
		{"two next hops", "default nexthop via 11.22.33.1 nexthop via 22.33.44.1", "wan0", ""},
		{"a next hop of the other family", "default via inet6 fe80::1 dev tun0", "tun0", ""},
		{"no way out", "unreachable default", "wan0", ""},
		{"a route for marked packets only", "default via 11.22.33.1 table 77", "wan0", ""},
	} {
		t.Run(tt.what, func(t *testing.T) {
			ns := twoUplinks(t)
			ns.IP(t, "address", "flush", "dev", "tun0")
			ns.IP(t, "address", "add", "10.8.0.2", "peer", "10.8.0.1", "dev", "tun0")
			ns.IP(t, "rule", "add", "fwmark", "7", "table", "77")
			for route := range strings.SplitSeq(tt.routes, "; ") {
				if route != "" {
					ns.IP(t, append([]string{"route", "add"}, strings.Fields(route)...)...)
				}
			}
			ns.Do(func() error {
				links, err := Links()
				if err != nil {
					t.Error(err)
				}
				want, _ := netip.ParseAddr(tt.want)
				if got := Gateway(links[tt.link]); got != want {
					t.Errorf("the gateway of %s is %v, want %v", tt.link, got, want)
				}
				return nil
			})
		})
	}
}
