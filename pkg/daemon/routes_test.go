package daemon_test

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
	"igdd/pkg/pcp"
	"igdd/pkg/vectors/discovery"
)

// The host behind the first client, which routes, and its networks.
var (
	routedHost  = netip.MustParseAddr("10.1.0.2")
	routedHost6 = netip.MustParseAddr("2001:db8:51::2")
)

const (
	routedNetwork  = "10.1.0.0/24"
	routedNetwork6 = "2001:db8:51::/64"
)

// newInner makes the first client a router for another host, and has the gateway route
// that host's networks to it.
func (r *rig) newInner(t *testing.T) *netlab.Namespace {
	t.Helper()
	inner, host := r.Clients[0], netlab.New(t, "routed")
	for _, name := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		inner.Sysctl(t, name, "1")
	}
	inner.Connect(t, "inside", host, "eth0")
	for _, family := range []struct{ router, host, network, via string }{
		{"10.1.0.1/24", "10.1.0.2/24", routedNetwork, client1.String()},
		{"2001:db8:51::1/64", "2001:db8:51::2/64", routedNetwork6, addr6.String()},
	} {
		router := netip.MustParsePrefix(family.router)
		inner.Address(t, "inside", router)
		host.Address(t, "eth0", netip.MustParsePrefix(family.host))
		host.IP(t, "route", "add", "default", "via", router.Addr().String())
		r.Router.IP(t, "route", "add", family.network, "via", family.via)
	}
	return host
}

// routedRules allow the host behind the inner router, and the first LAN, all ports.
var routedRules = []string{
	ruleFor("allow", "10.1.0.0/24"), ruleFor("allow", routedNetwork6), ruleFor("allow", "192.168.50.0/24"), ruleFor("allow", "192.168.60.0/24"), denyAll,
}

// withRoutes returns settings that serve all protocols.
func withRoutes(more ...string) []string {
	return append(append([]string{"enable_pcp=yes", "enable_upnp=yes", "ipv6=yes", "listening_ip=lan1"}, more...), routedRules...)
}

// routedReplies returns the services that answer a host with the given addresses.
func routedReplies(t *testing.T, host *netlab.Namespace, four netip.Addr, gateway netip.Addr, within time.Duration) (list []string) {
	t.Helper()
	if reply, _ := exchange(t, host, four, gateway, []byte{0, 0}, within); reply != nil {
		list = append(list, "NAT-PMP")
	}
	announce := pcp.Request{Opcode: pcp.Announce, Client: four}.Append(nil)
	if reply, _ := exchange(t, host, four, gateway, announce, within); reply != nil {
		list = append(list, "PCP")
	}
	c := discovery.Open(t, host, four)
	discovery.Send(t, host, c, gateway, discovery.Search("upnp:rootdevice"))
	if m, ok := discovery.Receive(t, c, time.Now().Add(within)); ok {
		list = append(list, "SSDP "+m.Fields["LOCATION"])
	}
	if isServed(host, four, gateway, within) {
		list = append(list, "HTTP")
	}
	return list
}

// isServed reports whether a request for the description is answered.
func isServed(host *netlab.Namespace, from, gateway netip.Addr, within time.Duration) bool {
	err := host.Do(func() error {
		d := net.Dialer{Timeout: within, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
		c, err := d.Dial("tcp", netip.AddrPortFrom(gateway, 5000).String())
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(within))
		fmt.Fprintf(c, "GET /rootDesc.xml HTTP/1.1\r\nHost: %v:5000\r\n\r\n", gateway)
		_, err = c.Read(make([]byte, 1))
		return err
	})
	return err == nil
}

// TestRoutedLAN has a host behind another router on the LAN map ports by all protocols,
// and be reached from the Internet.
func TestRoutedLAN(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{Clients: 2, IPv6: true, SecondLAN: true})
		r.firewallIPv6(t)
		host := r.newInner(t)
		host.Echo(t, "udp", ":4000")
		host.Echo(t, "tcp", ":4000")
		r.start(t, withRoutes("lan_route="+routedNetwork+" via lan0", "lan_route="+routedNetwork6+" via lan0")...)
		gateway := netlab.RouterLAN.Addr()
		want := "NAT-PMP PCP SSDP http://192.168.50.1:5000/rootDesc.xml HTTP"
		if got := strings.Join(routedReplies(t, host, routedHost, gateway, patience), " "); got != want {
			t.Fatalf("the host behind the inner router hears %q, want %q", got, want)
		}
		if resp := askRouted(t, host, mapping(natpmp.MapUDP, 4000, 40001, time.Hour)); resp.Result != natpmp.Success || resp.ExternalPort != 40001 {
			t.Errorf("NAT-PMP: %+v", resp)
		}
		r.dial("udp", 40001).Arrives(t)
		demandPCP(t, host, routedHost, gateway, pcpMap(routedHost, 6, 4000, 40002))
		r.dial("tcp", 40002).Arrives(t)
		host.Run(t, "upnpc", "-u", "http://192.168.50.1:5000/rootDesc.xml", "-a", "@", "4001", "40003", "tcp", "600")
		host.Echo(t, "tcp", ":4001")
		r.dial("tcp", 40003).Arrives(t)
		demandPCP(t, host, routedHost6, netlab.RouterLAN6.Addr(), pcpMap(routedHost6, 6, 4001, 4001))
		netlab.Probe{Network: "tcp", From: r.WAN, To: netip.AddrPortFrom(routedHost6, 4001)}.Arrives(t)

		r.says(t, "status", 0, "lan route 10.1.0.0/24: via lan0 ")
		r.says(t, "explain 10.1.0.2 udp 40009 4009 as natpmp", 0, "")
		r.says(t, "trace 11.22.33.2 tcp 40002 --probe", 0, "listens")
		if got := r.Router.Run(t, "ip", "neigh", "show"); strings.Contains(got, "10.1.0.") || strings.Contains(got, "2001:db8:51:") {
			t.Errorf("the daemon looked for a routed host on the LAN:\n%s", got)
		}
	})
}

// askRouted asks for a port by NAT-PMP from behind the inner router.
func askRouted(t *testing.T, host *netlab.Namespace, request natpmp.Request) natpmp.Response {
	t.Helper()
	reply, _ := exchange(t, host, routedHost, netlab.RouterLAN.Addr(), request.Append(nil), patience)
	resp, err := natpmp.ParseResponse(reply)
	if err != nil {
		t.Fatalf("reply %x: %v", reply, err)
	}
	return resp
}

// demandPCP sends a request by PCP, which must succeed.
func demandPCP(t *testing.T, host *netlab.Namespace, source, gateway netip.Addr, request pcp.Request) {
	t.Helper()
	reply, _ := exchange(t, host, source, gateway, request.Append(nil), patience)
	resp, err := pcp.ParseResponse(reply)
	if err != nil || resp.Result != pcp.Success {
		t.Errorf("PCP from %v: %v, %+v", source, err, resp)
	}
}

// TestRoutedLANIsNotHeard has nobody answer a routed host without the setting, and one
// whose packets come in by another interface with it.
func TestRoutedLANIsNotHeard(t *testing.T) {
	t.Parallel()
	r := newRig(t, "nft", netlab.Layout{IPv6: true, SecondLAN: true})
	host, gateway, gateway2 := r.newInner(t), netlab.RouterLAN.Addr(), netlab.RouterLAN2.Addr()
	for _, dev := range []string{"all", "lan0", "lan1"} { // a spoofed packet gets to the daemon
		r.Router.Sysctl(t, "net/ipv4/conf/"+dev+"/rp_filter", "0")
	}
	r.Client2.Address(t, "eth0", netip.PrefixFrom(routedHost, 32))
	r.start(t, withRoutes()...)
	if got := routedReplies(t, host, routedHost, gateway, hush); got != nil {
		t.Errorf("without the setting a routed host hears %v", got)
	}
	await := func(conf string, where *netlab.Namespace, at netip.Addr) {
		t.Helper()
		r.configure(t, withRoutes(conf)...)
		r.kill(syscall.SIGHUP)
		await(t, "a host to be heard", func() bool {
			reply, _ := exchange(t, where, routedHost, at, []byte{0, 0}, hush)
			return reply != nil
		})
	}
	await("lan_route="+routedNetwork+" via lan0", host, gateway)
	if got := routedReplies(t, r.Client2, routedHost, gateway2, hush); got != nil {
		t.Errorf("a host of another LAN that uses a routed address hears %v", got)
	}
	// The other way round the same packets are heard, so that the silence above is the
	// daemon's: without a route by lan1 the kernel sends replies there directly.
	await("lan_route="+routedNetwork+" via lan1", r.Client2, gateway2)
	if got := routedReplies(t, host, routedHost, gateway, hush); got != nil {
		t.Errorf("a host behind another interface hears %v", got)
	}
	r.says(t, "status", 0, "lan route 10.1.0.0/24: via lan1: the system does not route 10.1.0.1 by lan1, so that mappings to it lead nowhere")
}

// TestRoutedHostsAreNotTheInnerRouter has an operator block the inner router by its
// hardware address, and rules refuse it: hosts behind it keep their ports.
func TestRoutedHostsAreNotTheInnerRouter(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{IPv6: true, SecondLAN: true})
	host, mac := r.newInner(t), r.hardware(t, 0).String()
	r.start(t, withRoutes("lan_route="+routedNetwork+" via lan0", "deny 0-65535 "+mac+" 4009")...)
	ask := func(internal, external uint16) natpmp.Result {
		return askRouted(t, host, mapping(natpmp.MapUDP, internal, external, time.Hour)).Result
	}
	own := func(internal uint16) natpmp.Result {
		return r.natpmpMap(t, r.Clients[0], client1, mapping(natpmp.MapUDP, internal, 0, time.Hour)).Result
	}
	if got := ask(4009, 40009); got != natpmp.Success {
		t.Errorf("a rule against the inner router refuses a host behind it: %v", got)
	}
	if got := own(4009); got != natpmp.NotAuthorized {
		t.Errorf("a rule against the inner router does not refuse it: %v", got)
	}
	r.says(t, "block 10m "+mac, 0, "")
	if got := ask(4001, 40001); got != natpmp.Success {
		t.Errorf("a block of the inner router refuses a host behind it: %v", got)
	}
	if got := own(4001); got != natpmp.NotAuthorized {
		t.Errorf("a block of the inner router does not refuse it: %v", got)
	}
	r.says(t, "block 10m 10.1.0.2", 0, "")
	if got := ask(4002, 40002); got != natpmp.NotAuthorized {
		t.Errorf("a block of the host itself does not refuse it: %v", got)
	}
	if got := own(4003); got != natpmp.NotAuthorized {
		t.Errorf("the inner router is no longer blocked: %v", got)
	}
}

// TestEventsOfRoutedHosts has a subscriber behind the inner router: it gets its events.
func TestEventsOfRoutedHosts(t *testing.T) {
	t.Parallel()
	r := newRig(t, "nft", netlab.Layout{IPv6: true, SecondLAN: true})
	host := r.newInner(t)
	r.start(t, withRoutes("lan_route="+routedNetwork+" via lan0")...)
	var l net.Listener
	err := host.Listen(func() (err error) { l, err = net.Listen("tcp", "10.1.0.2:9000"); return err })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := make(chan string, 1)
	go http.Serve(l, http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		select {
		case heard <- q.Method + " " + q.RemoteAddr:
		default:
		}
	}))
	out := host.Run(t, "curl", "-s", "-i", "-X", "SUBSCRIBE", "-H", "NT: upnp:event", "-H", "CALLBACK: <http://10.1.0.2:9000/>", "http://192.168.50.1:5000/evt/IPConn")
	if !strings.HasPrefix(out, "HTTP/1.1 200 ") {
		t.Fatalf("SUBSCRIBE: %s", out)
	}
	select {
	case got := <-heard:
		if !strings.HasPrefix(got, "NOTIFY 192.168.50.1:") {
			t.Errorf("the event is %s", got)
		}
	case <-time.After(patience):
		t.Error("no event")
	}
}
