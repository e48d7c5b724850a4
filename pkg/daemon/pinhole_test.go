package daemon_test

import (
	"net/netip"
	"strings"
	"testing"

	"igdd/pkg/netlab"
)

// addr6 is the first client's address that pinholes lead to.
var addr6 = netip.MustParseAddr("2001:db8:50::10")

// dial6 is a probe from the WAN to a port of the first client.
func (r *rig) dial6(network, source string, port uint16) netlab.Probe {
	return netlab.Probe{Network: network, From: r.WAN, Source: netip.AddrPortFrom(netip.MustParseAddr(source), 0), To: netip.AddrPortFrom(addr6, port)}
}

// TestPinholesOfUPnP has upnpc open, renew, count and close pinholes by the
// description of version 1, which it finds; another client has that of version 2.
func TestPinholesOfUPnP(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newClientsRig(t, variant)
		r.WAN.Address(t, "eth0", netip.MustParsePrefix("2001:db8:33::2/64"))
		c := r.Clients[0]
		upnpc := func(args ...string) string {
			return c.Run(t, "upnpc", append([]string{"-6", "-u", "http://[2001:db8:50::1]:5000/rootDesc.xml"}, args...)...)
		}
		const one, two = "2001:db8:33::1", "2001:db8:33::2"
		demandSaid(t, upnpc("-S"), "Firewall Enabled: Yes", "Inbound Pinhole Allowed: Yes")
		r.dial6("tcp", one, 4000).Blocked(t)

		forOne := find(t, `Pinhole ID = (\d+)`, upnpc("-A", one, "0", "@", "4000", "6", "600"))
		r.dial6("tcp", two, 4000).Blocked(t)
		demandSaid(t, upnpc("-C", forOne), "failed with code 709")
		r.dial6("tcp", one, 4000).Arrives(t)
		r.dial6("udp", one, 4000).Blocked(t)
		await(t, "packets to be counted", func() bool { return strings.Contains(upnpc("-C", forOne), "IsWorking = Yes") })
		demandSaid(t, upnpc("-U", forOne, "700"), "with Lease Time: 700")
		if n := find(t, `PinholePackets = (\d+)`, upnpc("-K", forOne)); n == "0" {
			t.Error("no packet is counted")
		}
		if again := find(t, `Pinhole ID = (\d+)`, upnpc("-A", one, "0", "@", "4000", "6", "600")); again != forOne {
			t.Errorf("the same pinhole is %s, then %s", forOne, again)
		}

		forAll := find(t, `Pinhole ID = (\d+)`, upnpc("-A", "", "0", "@", "4000", "17", "600"))
		r.dial6("udp", two, 4000).Arrives(t)
		demandSaid(t, upnpc("-A", "", "0", "2001:db8:50::11", "4000", "6", "600"), "failed with code 606")
		demandSaid(t, r.Clients[1].Run(t, "upnpc", "-6", "-u", "http://[2001:db8:50::1]:5000/rootDesc2.xml", "-D", forOne), "606")
		r.dial6("tcp", one, 4000).Arrives(t)

		upnpc("-D", forOne)
		r.dial6("tcp", one, 4000).Blocked(t)
		r.dial6("udp", two, 4000).Arrives(t)
		demandSaid(t, upnpc("-D", forOne), "704")
		upnpc("-D", forAll)
		r.dial6("udp", two, 4000).Blocked(t)
	})
}

// TestPinholesByLinkLocalAddress has upnpc ask a gateway that it knows by its
// link-local address for pinholes of the host's global address, and another
// host, too, which gets none.
func TestPinholesByLinkLocalAddress(t *testing.T) {
	t.Parallel()
	r := newClientsRig(t, "nft")
	for i, a := range []string{"fe80::10/64", "fe80::11/64"} {
		r.Clients[i].Address(t, "eth0", netip.MustParsePrefix(a))
	}
	r.WAN.Address(t, "eth0", netip.MustParsePrefix("2001:db8:33::2/64"))
	upnpc := func(i int, args ...string) string {
		out, _ := r.Clients[i].Command("upnpc", append([]string{"-6", "-m", "eth0", "-u", "http://[fe80::1%25eth0]:5000/rootDesc2.xml"}, args...)...).CombinedOutput()
		return string(out)
	}
	demandSaid(t, upnpc(0, "-S"), "Firewall Enabled: Yes", "Inbound Pinhole Allowed: Yes", "Local LAN ip address : fe80::")
	demandSaid(t, upnpc(0, "-s"), "Status : Connected", "ExternalIPAddress = 11.22.33.44")
	demandSaid(t, upnpc(1, "-A", "", "0", addr6.String(), "4000", "6", "600"), "failed with code 606")
	demandSaid(t, upnpc(0, "-a", client1.String(), "4000", "4000", "tcp"), "failed with code")
	r.dial6("tcp", "2001:db8:33::2", 4000).Blocked(t)

	var said string
	await(t, "a pinhole for the global address", func() bool { // on a busy machine the host may answer for its addresses late
		said = upnpc(0, "-A", "", "0", addr6.String(), "4000", "6", "600")
		return strings.Contains(said, "Pinhole ID = ")
	})
	id := find(t, `Pinhole ID = (\d+)`, said)
	r.dial6("tcp", "2001:db8:33::2", 4000).Arrives(t)
	demandSaid(t, upnpc(1, "-U", id, "700"), "failed with code 606")
	demandSaid(t, upnpc(1, "-K", id), "failed with code 606")
	demandSaid(t, upnpc(1, "-D", id), "606")
	r.dial6("tcp", "2001:db8:33::2", 4000).Arrives(t)
	demandSaid(t, upnpc(0, "-U", id, "700"), "with Lease Time: 700")
	demandSaid(t, upnpc(0, "-C", id), "IsWorking = Yes")
	upnpc(0, "-D", id)
	r.dial6("tcp", "2001:db8:33::2", 4000).Blocked(t)
}
