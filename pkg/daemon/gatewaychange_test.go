package daemon_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
	"igdd/pkg/netlab/upstreamlab"
)

// serveInFront has a host serve NAT-PMP at one of its addresses as a router with an external
// address.
func serveInFront(t *testing.T, host *netlab.Namespace, address, external string) *upstreamlab.Server {
	t.Helper()
	return upstreamlab.Serve(t, host, at(address), upstreamlab.Conduct{NATPMP: true, External: at(external)})
}

// TestRouterInFrontFollowsRoute has the uplink get another gateway, another uplink take
// over, and the default route go and come. Clients are told the external address of the
// router in front, and it alone has their port.
func TestRouterInFrontFollowsRoute(t *testing.T) {
	t.Parallel()
	r := newRig(t, "nft", netlab.Layout{SecondWAN: true})
	servers := []*upstreamlab.Server{
		serveInFront(t, r.WAN, "11.22.33.1", "203.0.113.1"),
		serveInFront(t, r.WAN, "11.22.33.2", "203.0.113.2"),
		serveInFront(t, r.WAN2, "22.33.44.1", "203.0.113.3"),
	}
	r.foreground(t, "ext_ifname2=wan1", "upstream=natpmp")
	r.awaitExternalAddr(t, at("203.0.113.1"))
	r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
	for _, step := range []struct {
		what, does, told string
		server           int // that has the port then; -1: none
	}{
		{"another gateway", "route replace default via 11.22.33.2", "203.0.113.2", 1},
		{"failover", "route replace default via 22.33.44.1", "203.0.113.3", 2},
		{"no route", "route del default", secondUplink, -1},
		{"the first again", "route add default via 11.22.33.1", "203.0.113.1", 0},
		{"two next hops", "route replace default nexthop via 11.22.33.1 nexthop via 11.22.33.2", firstUplink, -1},
	} {
		before := make([]int, len(servers))
		for i, s := range servers {
			before[i] = len(s.Asked())
		}
		r.Router.IP(t, strings.Fields(step.does)...)
		r.awaitExternalAddr(t, at(step.told))
		if step.server < 0 {
			continue
		}
		await(t, step.what+": the router in front to be asked", func() bool { return len(servers[step.server].Asked()) > before[step.server] })
	}
}

// TestRouterInFrontOfPrivateAddresses has the uplink's address become private, and public
// again: the gateway is asked in between alone.
func TestRouterInFrontOfPrivateAddresses(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	r.WAN.Address(t, "eth0", netip.MustParsePrefix("100.64.0.1/24"))
	public := serveInFront(t, r.WAN, "11.22.33.1", "203.0.113.1")
	serveInFront(t, r.WAN, "100.64.0.1", "203.0.113.2")
	r.foreground(t, "upstream=auto")
	for _, step := range []struct{ does, told string }{
		{"", firstUplink},
		{"-4 address flush dev wan0; address add 100.64.0.2/24 dev wan0; route add default via 100.64.0.1", "203.0.113.2"},
		{"-4 address flush dev wan0; address add 11.22.33.44/24 dev wan0; route add default via 11.22.33.1", firstUplink},
	} {
		for command := range strings.SplitSeq(step.does, "; ") {
			if command != "" {
				r.Router.IP(t, strings.Fields(command)...)
			}
		}
		r.awaitExternalAddr(t, at(step.told))
	}
	if n := public.Packets(); n > 0 {
		t.Errorf("the gateway of a public uplink has got %d packets", n)
	}
}

// TestUplinkWithoutGateway has an uplink with nobody to ask: the operator is told that of
// the uplink and of each mapping, until there is a gateway.
func TestUplinkWithoutGateway(t *testing.T) {
	t.Parallel()
	r := newRig(t, "nft", netlab.Layout{})
	serveInFront(t, r.WAN, "11.22.33.1", "203.0.113.1")
	r.Router.IP(t, "route", "del", "default")
	r.foreground(t, "upstream=natpmp")
	r.awaitServed(t)
	r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
	const trouble = "not reachable from outside: wan0 has no IPv4 gateway"
	await(t, "list to tell why the port is not reachable", func() bool { list, _ := r.ctl(t, "list"); return strings.Contains(list, trouble) })
	for _, port := range []string{"4000", "4001"} { // what is open, and what would be
		if explained, _ := r.ctl(t, "explain", client1.String(), "tcp", port, port, "as", "natpmp"); !strings.Contains(explained, trouble) {
			t.Errorf("explained: %s", explained)
		}
	}
	if status, _ := r.ctl(t, "status"); !strings.Contains(status, "wan0 has no IPv4 gateway") {
		t.Errorf("status: %s", status)
	}
	r.Router.IP(t, "route", "add", "default", "via", "11.22.33.1")
	await(t, "the port to be reachable", func() bool {
		list, _ := r.ctl(t, "list")
		return strings.Contains(list, "[reachable from outside as 203.0.113.1:4000]")
	})
}
