package daemon_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"igdd/pkg/netlab"
)

// The descriptions of the two faces of one daemon, for clients that are told.
const (
	oldFace  = "http://192.168.50.1:5555/rootDesc.xml"
	newFace  = "http://192.168.50.1:5555/rootDesc2.xml"
	newFace6 = "http://[2001:db8:50::1]:5555/rootDesc2.xml"
)

// client runs a client on the first host and demands what it prints.
func (r *rig) client(t *testing.T, want, name string, args ...string) {
	t.Helper()
	if out := r.Clients[0].Run(t, name, args...); !strings.Contains(out, want) {
		t.Errorf("%s %s: no %q in %s", name, strings.Join(args, " "), want, out)
	}
}

// fromWAN returns a probe from the Internet to the router's external port.
func (r *rig) fromWAN(network string, port uint16) netlab.Probe {
	return netlab.Probe{Network: network, From: r.WAN, To: netip.AddrPortFrom(netlab.RouterWAN.Addr(), port)}
}

// TestUPnPC uses miniupnpc's client: it knows the old face, unless it is told
// where the new one is.
func TestUPnPC(t *testing.T) {
	r := newUPnPRig(t, "both")
	r.start(t, upnpConf("both")...)
	for _, network := range []string{"tcp", "udp"} {
		r.Clients[0].Echo(t, network, "192.168.50.10:4000")
		r.Clients[0].Echo(t, network, "192.168.50.10:4005")
	}
	r.client(t, "desc: "+oldFace, "upnpc", "-s")
	r.client(t, "Status : Connected", "upnpc", "-s")
	r.client(t, "11.22.33.44", "external-ip")
	r.client(t, "http://192.168.50.1/", "upnpc", "-P")

	r.fromWAN("tcp", 4001).Blocked(t)
	r.client(t, "external 11.22.33.44:4001 TCP is redirected to internal 192.168.50.10:4000 (duration=600)",
		"upnpc", "-e", "my door", "-a", "192.168.50.10", "4000", "4001", "TCP", "600")
	r.fromWAN("tcp", 4001).Arrives(t)
	r.client(t, "TCP  4001->192.168.50.10:4000  'my door' ''", "upnpc", "-l")
	r.client(t, "returned : 0", "upnpc", "-d", "4001", "TCP")
	r.fromWAN("tcp", 4001).Blocked(t)

	r.client(t, "external 11.22.33.44:4000 UDP", "upnpc", "-r", "4000", "TCP", "4000", "UDP")
	r.fromWAN("tcp", 4000).Arrives(t)
	r.fromWAN("udp", 4000).Arrives(t)

	r.client(t, "external 11.22.33.44:4002 TCP", "upnpc", "-u", newFace, "-n", "192.168.50.10", "4005", "4002", "TCP", "600")
	r.fromWAN("tcp", 4002).Arrives(t)
	r.client(t, "4002->192.168.50.10:4005", "upnpc", "-u", newFace, "-L")
	r.client(t, "UPNP_DeletePortMappingRange() returned : 0", "upnpc", "-u", newFace, "-N", "4000", "4002", "TCP")
	r.fromWAN("tcp", 4000).Blocked(t)
	r.fromWAN("tcp", 4002).Blocked(t)
	r.fromWAN("udp", 4000).Arrives(t)
}

// TestUPnPCPinholes opens and closes the IPv6 firewall.
func TestUPnPCPinholes(t *testing.T) {
	r := newUPnPRig(t, "both")
	r.Router.Run(t, "/usr/sbin/ip6tables-"+r.variant, "-P", "FORWARD", "DROP")
	r.Router.Run(t, "/usr/sbin/ip6tables-"+r.variant, "-A", "FORWARD", "-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT")
	r.start(t, upnpConf("both")...)
	r.Clients[0].Echo(t, "tcp", "[2001:db8:50::10]:5000")
	through := netlab.Probe{Network: "tcp", From: r.WAN, To: netip.MustParseAddrPort("[2001:db8:50::10]:5000")}

	r.client(t, "Firewall Enabled: Yes", "upnpc", "-u", newFace6, "-6", "-S")
	through.Blocked(t)
	r.client(t, "Pinhole ID = 1", "upnpc", "-u", newFace6, "-6", "-A", "", "0", "2001:db8:50::10", "5000", "TCP", "600")
	through.Arrives(t)
	r.client(t, "UpdatePinhole", "upnpc", "-u", newFace6, "-6", "-U", "1", "900")
	r.client(t, "Pinhole ID = 1 / PinholePackets = ", "upnpc", "-u", newFace6, "-6", "-K", "1")
	r.client(t, "IsWorking = Yes", "upnpc", "-u", newFace6, "-6", "-C", "1")
	r.client(t, "DeletePinhole()", "upnpc", "-u", newFace6, "-6", "-D", "1")
	through.Blocked(t)
}

// TestPythonMiniupnpc uses the library as programs do.
func TestPythonMiniupnpc(t *testing.T) {
	r := newUPnPRig(t, "both")
	r.start(t, upnpConf("both")...)
	r.Clients[0].Echo(t, "tcp", "192.168.50.10:4000")
	const script = `
import miniupnpc
u = miniupnpc.UPnP()
u.discoverdelay = 1000
assert u.discover() >= 1
u.selectigd()
assert u.statusinfo()[0] == "Connected" and u.connectiontype() == "IP_Routed"
assert u.addportmapping(4000, "TCP", u.lanaddr, 4000, "python", "")
assert u.getspecificportmapping(4000, "TCP") == (u.lanaddr, 4000, "python", True, 0)
assert u.getgenericportmapping(0)[:3] == (4000, "TCP", (u.lanaddr, 4000))
assert u.getgenericportmapping(1) is None
print(u.externalipaddress())
`
	r.client(t, "11.22.33.44", "/usr/bin/python3", "-c", script)
	r.fromWAN("tcp", 4000).Arrives(t)
}

// TestGSSDP searches with the library of GNOME: what was asked for is what is
// shown.
func TestGSSDP(t *testing.T) {
	r := newUPnPRig(t, "both")
	r.start(t, upnpConf("both")...)
	for target, location := range map[string]string{
		"ssdp:all": oldFace, "upnp:rootdevice": oldFace,
		"urn:schemas-upnp-org:device:InternetGatewayDevice:1": oldFace,
		"urn:schemas-upnp-org:device:InternetGatewayDevice:2": newFace,
	} {
		// It searches until it is ended.
		out := r.Clients[0].Run(t, "sh", "-c", fmt.Sprintf("timeout 2 gssdp-discover -i eth0 -t %s || [ $? = 124 ]", target))
		for line := range strings.Lines(out) {
			if found, ok := strings.CutPrefix(strings.TrimSpace(line), "Location: "); ok && found != location {
				t.Errorf("%s: %s", target, found)
			}
		}
		if !strings.Contains(out, location) {
			t.Errorf("%s: %s", target, out)
		}
	}
}
