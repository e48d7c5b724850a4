package daemon_test

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"igdd/pkg/netlab"
)

// TestUPnPOfTwoLANsAndTwoUplinks has clients of both LANs ask by the address
// that they find, and traffic come in on the uplink that is announced.
func TestUPnPOfTwoLANsAndTwoUplinks(t *testing.T) {
	t.Parallel()
	r := newRig(t, "nft", netlab.Layout{SecondLAN: true, SecondWAN: true})
	r.start(t, "enable_upnp=yes", "listening_ip=lan1", "ext_ifname2=wan1", "allow 1024-65535 192.168.0.0/16 1024-65535")
	clients := map[string]*netlab.Namespace{"192.168.50": r.Clients[0], "192.168.60": r.Client2}
	for _, c := range clients {
		c.Echo(t, "tcp", ":4000")
	}
	for lan, c := range clients {
		demandSaid(t, c.Run(t, "upnpc", "-s"), fmt.Sprintf("desc: http://%s.1:5000/rootDesc.xml", lan), "ExternalIPAddress = 11.22.33.44")
	}
	c1, c2 := clients["192.168.50"], clients["192.168.60"]
	c1.Run(t, "upnpc", "-u", "http://192.168.50.1:5000/rootDesc.xml", "-a", "@", "4000", "40001", "tcp", "600")
	demandSaid(t, refused(t, c2, "upnpc", "-u", "http://192.168.60.1:5000/rootDesc.xml", "-a", "@", "4000", "40001", "tcp", "600"), "code 718")
	c2.Run(t, "upnpc", "-u", "http://192.168.60.1:5000/rootDesc.xml", "-a", "@", "4000", "40002", "tcp", "600")
	r.dial("tcp", 40001).Arrives(t)
	r.dial("tcp", 40002).Arrives(t)

	r.Router.IP(t, "-4", "address", "flush", "dev", "wan0")
	r.awaitAddress(t, netlab.RouterWAN2.Addr().String())
	r.Router.IP(t, "route", "replace", "default", "via", "22.33.44.1")
	for _, port := range []uint16{40001, 40002} {
		netlab.Probe{Network: "tcp", From: r.WAN2, To: netip.AddrPortFrom(netlab.RouterWAN2.Addr(), port)}.Arrives(t)
	}
}

// TestWithoutIPv6 serves IPv4 where IPv6 is disabled in the kernel and the
// settings ask for it all the same.
func TestWithoutIPv6(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{})
		for _, which := range []string{"all", "default"} {
			r.Router.Sysctl(t, "net/ipv6/conf/"+which+"/disable_ipv6", "1")
		}
		r.start(t, "enable_upnp=yes", "ipv6=yes")
		r.Clients[0].Echo(t, "tcp", ":4000")
		demandSaid(t, r.Clients[0].Run(t, "upnpc", "-a", "@", "4000", "40001", "tcp", "600"), "is redirected to internal 192.168.50.10:4000")
		demandSaid(t, r.Clients[0].Run(t, "natpmpc", "-g", "192.168.50.1", "-a", "40001", "4000", "tcp", "600"), "Mapped public port 40001 ")
		r.demandMapped(t, pcpMap(client1, 6, 4000, 0), 40001)
		r.dial("tcp", 40001).Arrives(t)
	})
}

// TestNetworkThatComesLate names a LAN by its network: the operator sees that it
// is not there, and its clients are served as soon as it is.
func TestNetworkThatComesLate(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{SecondLAN: true})
	r.Router.IP(t, "-4", "address", "flush", "dev", "lan1")
	r.start(t, "listening_ip=192.168.60.0/24", "listening_ip=11.22.33.0/24", "listening_ip=lan9", "allow 1024-65535 192.168.60.0/24 1024-65535")
	r.says(t, "status", 0, "lan 192.168.60.0/24: no interface has an address in 192.168.60.0/24")
	r.says(t, "status", 0, "lan 11.22.33.0/24: only the uplink wan0 has an address in 11.22.33.0/24")
	r.says(t, "status", 0, "lan lan9: there is no interface lan9")
	r.Router.IP(t, "address", "add", "192.168.60.1/24", "dev", "lan1")
	await(t, "lan1 to be served", func() bool {
		out, _ := r.ctl(t, "status")
		return strings.Contains(out, "serving NAT-PMP/PCP") && !strings.Contains(out, "192.168.60.0/24:")
	})
	if out := r.Client2.Run(t, "natpmpc", "-g", "192.168.60.1", "-a", "40001", "4000", "tcp", "600"); !strings.Contains(out, "Mapped public port 40001 ") {
		t.Errorf("natpmpc: %s", out)
	}
}

// TestIPv6AsTheSystemHasIt has no setting about IPv6, and a firewall that drops
// all of it until it lets the LAN out.
func TestIPv6AsTheSystemHasIt(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{IPv6: true})
		ip6tables := func(args string) string {
			return r.Router.Run(t, "/usr/sbin/ip6tables-"+variant, append([]string{"-w"}, strings.Fields(args)...)...)
		}
		ours := func() bool { return strings.Contains(ip6tables("-S"), "MINIUPNPD") }
		ip6tables("-P FORWARD DROP")
		ip6tables("-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT")
		r.start(t)
		if ours() {
			t.Errorf("the firewall drops all of IPv6, and yet there is a chain:\n%s", ip6tables("-S"))
		}
		r.says(t, "status", 0, "healthy: chains, jumps and rules in place")
		ip6tables("-A FORWARD -i lan+ -o wan+ -j ACCEPT")
		r.kill(syscall.SIGHUP)
		await(t, "IPv6 to be served", ours)
		r.stop(t, syscall.SIGTERM)
		ip6tables("-F FORWARD")
		r.start(t, "ipv6=yes")
		if !ours() {
			t.Error("a setting says ipv6=yes, and yet there is no chain")
		}
	})
}
