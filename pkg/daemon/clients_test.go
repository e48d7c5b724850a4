package daemon_test

import (
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"igdd/pkg/netlab"
	"igdd/pkg/pcp"
)

// newClientsRig starts a daemon that serves everything in both versions, to
// three clients that answer on port 4000.
func newClientsRig(t *testing.T, variant string) *rig {
	t.Helper()
	r := newRig(t, variant, netlab.Layout{Clients: 3, IPv6: true})
	r.firewallIPv6(t)
	r.start(t, clientsConf()...)
	for _, c := range r.Clients {
		c.Echo(t, "tcp", ":4000")
		c.Echo(t, "udp", ":4000")
	}
	return r
}

// clientsConf are the settings of that rig.
func clientsConf() []string {
	return []string{"enable_upnp=yes", "ipv6=yes", "system_uptime=no"}
}

// firewallIPv6 has the router drop IPv6 from the WAN unless the daemon opens a
// pinhole.
func (r *rig) firewallIPv6(t testing.TB) {
	t.Helper()
	for _, args := range []string{
		"-P FORWARD DROP", "-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT", "-A FORWARD -i lan+ -o wan+ -j ACCEPT",
	} {
		r.Router.Run(t, "/usr/sbin/ip6tables-"+r.variant, append([]string{"-w"}, strings.Fields(args)...)...)
	}
}

// location asks for a device or service type as the first client, and returns
// where the answer says that its description is.
func (r *rig) location(t testing.TB, target string) string {
	t.Helper()
	var answer []byte
	err := r.Clients[0].Do(func() error {
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(client1, 0)))
		if err != nil {
			return err
		}
		defer c.Close()
		search := "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: " + target + "\r\n\r\n"
		if _, err := c.WriteToUDPAddrPort([]byte(search), netip.MustParseAddrPort("239.255.255.250:1900")); err != nil {
			return err
		}
		c.SetReadDeadline(time.Now().Add(patience))
		buf := make([]byte, 2048)
		n, err := c.Read(buf)
		answer = buf[:n]
		return err
	})
	if err != nil {
		t.Fatalf("no answer to a search for %s: %v", target, err)
	}
	return find(t, `(?i)\r\nLOCATION: *(\S+)\r\n`, string(answer))
}

// find returns what the group of a pattern matches in a text.
func find(t testing.TB, pattern, text string) string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no %s in\n%s", pattern, text)
	}
	return m[1]
}

// demandSaid demands that a program's output contains all texts.
func demandSaid(t testing.TB, said string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(said, text) {
			t.Errorf("no %q in\n%s", text, said)
		}
	}
}

// refused runs a command that must fail and returns what it printed.
func refused(t testing.TB, on *netlab.Namespace, name string, args ...string) string {
	t.Helper()
	out, err := on.Command(name, args...).CombinedOutput()
	if _, failed := err.(*exec.ExitError); !failed {
		t.Errorf("%s %q does not fail: %v: %s", name, args, err, out)
	}
	return string(out)
}

// TestClients runs common client programs against one daemon, and probes the ports
// that they are granted from the WAN.
func TestClients(t *testing.T) {
	t.Parallel()
	r := newClientsRig(t, "nft")
	t.Run("upnpc finds the gateway", func(t *testing.T) { playSearch(t, r) })
	t.Run("upnpc", func(t *testing.T) { playUPnPC(t, r, r.location(t, "upnp:rootdevice"), "0", "714") })
	for name, target := range map[string]string{
		"upnpc, version 2":                         "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
		"upnpc, actions of version 2 by version 1": "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
	} {
		t.Run(name, func(t *testing.T) { playUPnPC2(t, r, r.location(t, target)) })
	}
	t.Run("python3-miniupnpc", func(t *testing.T) { playPython(t, r, "") })
	t.Run("over the link alone", func(t *testing.T) { playLinkLocal(t, r) })
	t.Run("all protocols for one port", func(t *testing.T) { playInterplay(t, r) })
	t.Run("both versions at once", func(t *testing.T) { playBothVersions(t, r) })
	t.Run("version 1 alone", func(t *testing.T) { playVersion1(t, r) })
	t.Run("version 2 alone", func(t *testing.T) { playVersion2(t, r) })
}

// playSearch has upnpc find the gateway as it always has, by version 1.
func playSearch(t *testing.T, r *rig) {
	demandSaid(t, r.Clients[0].Run(t, "upnpc", "-s"), "desc: http://192.168.50.1:5000/rootDesc.xml\n st: urn:schemas-upnp-org:device:InternetGatewayDevice:1\n",
		"Found valid IGD : ", "Status : Connected", "ExternalIPAddress = 11.22.33.44")
}

// restartWithVersion restarts the rig's daemon without mappings, offering one
// version, and returns where upnpc, which searches for version 1, finds its description.
func (r *rig) restartWithVersion(t *testing.T, version string) string {
	t.Helper()
	r.stop(t, syscall.SIGTERM)
	r.removeFiles(t)
	r.start(t, append(clientsConf(), "igd_version="+version)...)
	return r.location(t, "urn:schemas-upnp-org:device:InternetGatewayDevice:1")
}

// playVersion1 runs clients against a daemon that offers version 1 only: it has
// neither the actions that version 2 adds nor pinholes.
func playVersion1(t *testing.T, r *rig) {
	description := r.restartWithVersion(t, "1")
	c := r.Clients[2]
	playUPnPC(t, r, description, "0", "714")
	demandSaid(t, refused(t, c, "upnpc", "-u", description, "-n", "@", "4000", "40010", "tcp", "600"), "failed with code 401")
	refused(t, c, "upnpc", "-u", description, "-N", "40000", "65535", "tcp", "1")
	said, _ := c.Command("upnpc", "-6", "-u", "http://[2001:db8:50::1]:5000/rootDesc.xml", "-A", "", "0", "@", "4000", "6", "600").CombinedOutput()
	demandSaid(t, string(said), "AddPinhole", "failed with code")
	playPythonAdd(t, r, description)
	demandSaid(t, refused(t, c, python, "-c", pythonScript, "40020", description, "delete"), "deleted True None\n", "Exception: Invalid Action")
	r.dial("tcp", 40020).Blocked(t)
}

// playVersion2 runs clients against a daemon that offers version 2 only.
func playVersion2(t *testing.T, r *rig) {
	description := r.restartWithVersion(t, "2")
	playUPnPC(t, r, description, "604800", "606")
	playUPnPC2(t, r, description)
	playPython(t, r, description)
}

// playUPnPC has upnpc add, list and delete by the actions that both versions
// have, in which a lease of 0 and the refusal to delete another's port differ.
func playUPnPC(t *testing.T, r *rig, description, forever, notYours string) {
	c := r.Clients[0]
	upnpc := func(args ...string) string { return c.Run(t, "upnpc", append([]string{"-u", description}, args...)...) }

	demandSaid(t, upnpc("-e", "a game", "-a", "192.168.50.10", "4000", "40001", "tcp", "600", "11.22.33.1"),
		"external 11.22.33.44:40001 TCP is redirected to internal 192.168.50.10:4000 (duration=600)")
	from1, from2 := r.dial("tcp", 40001), r.dial("tcp", 40001)
	from1.Source, from2.Source = netip.MustParseAddrPort("11.22.33.1:0"), netip.MustParseAddrPort("11.22.33.2:0")
	from1.Arrives(t)
	from2.Blocked(t)
	demandSaid(t, upnpc("-l"), " 0 TCP 40001->192.168.50.10:4000  'a game' '11.22.33.1' ")
	demandSaid(t, refused(t, c, "upnpc", "-u", description, "-d", "40001", "tcp"), "failed with code : 714")
	upnpc("-d", "40001", "tcp", "11.22.33.1")
	from1.Blocked(t)

	upnpc("-r", "4000", "40002", "tcp", "4000", "40002", "udp")
	r.dial("tcp", 40002).Arrives(t)
	r.dial("udp", 40002).Arrives(t)
	demandSaid(t, upnpc("-l"), " 0 TCP 40002->192.168.50.10:4000 ", " 1 UDP 40002->192.168.50.10:4000 ", "'' "+forever+"\n")
	demandSaid(t, refused(t, r.Clients[1], "upnpc", "-u", description, "-a", "@", "4000", "40002", "tcp"), "failed with code 718")
	demandSaid(t, refused(t, r.Clients[1], "upnpc", "-u", description, "-d", "40002", "tcp"), "failed with code : "+notYours)
	r.dial("tcp", 40002).Arrives(t)
	upnpc("-d", "40002", "tcp")
	r.dial("tcp", 40002).Blocked(t)
	r.dial("udp", 40002).Arrives(t)
	upnpc("-d", "40002", "udp")
	r.dial("udp", 40002).Blocked(t)
}

// playUPnPC2 has upnpc call the actions of version 2 by the given description:
// upnpc itself searches for version 1 only.
func playUPnPC2(t *testing.T, r *rig, description string) {
	ask := func(i int, args ...string) string {
		return r.Clients[i].Run(t, "upnpc", append([]string{"-u", description}, args...)...)
	}
	granted := func(said string) uint16 {
		port, _ := strconv.ParseUint(find(t, `external 11\.22\.33\.44:(\d+) TCP is redirected to internal `, said), 10, 16)
		return uint16(port)
	}
	if port := granted(ask(0, "-n", "192.168.50.10", "4000", "40010", "tcp", "600")); port != 40010 {
		t.Errorf("port %d is granted, want 40010", port)
	}
	port := granted(ask(1, "-n", "@", "4000", "40010", "tcp", "600"))
	if port == 40010 {
		t.Error("two clients have the same port")
	}
	for _, p := range []uint16{40010, port} {
		r.dial("tcp", p).Arrives(t)
	}
	demandSaid(t, ask(2, "-L"), " TCP 40010->192.168.50.10:4000 ", fmt.Sprintf(" TCP %d->192.168.50.11:4000 ", port))
	ask(0, "-N", "40000", "65535", "tcp", "1")
	r.dial("tcp", 40010).Blocked(t)
	r.dial("tcp", port).Arrives(t)
	ask(1, "-d", fmt.Sprint(port), "tcp")
	r.dial("tcp", port).Blocked(t)
}

// pythonScript adds and finds a mapping for a port of the gateway with the
// description given, or searched for if that is empty. With a third
// argument it deletes the mapping, and maps and deletes another by the actions of
// version 2.
const pythonScript = `
import sys, miniupnpc
u = miniupnpc.UPnP()
u.discoverdelay = 500
if sys.argv[2]:
    u.selectigd(sys.argv[2])
else:
    print(u.discover(), u.selectigd())
print(u.externalipaddress(), u.statusinfo()[0], u.connectiontype())
port = int(sys.argv[1])
print(u.addportmapping(port, 'TCP', u.lanaddr, 4000, 'from Python', '', 600))
print(u.getspecificportmapping(port, 'TCP'))
i = 0
while u.getgenericportmapping(i):
    print(u.getgenericportmapping(i))
    i += 1
if len(sys.argv) > 3:
    print('deleted', u.deleteportmapping(port, 'TCP'), u.getspecificportmapping(port, 'TCP'))
    print('any', u.addanyportmapping(port + 1, 'TCP', u.lanaddr, 4000, 'any port', ''))
    print('deleted', u.deleteportmappingrange(port, port + 1, 'TCP', False), u.getspecificportmapping(port + 1, 'TCP'))
`

// python is Debian's, which has the packages; PATH may lead to another.
const python = "/usr/bin/python3"

func playPython(t *testing.T, r *rig, description string) {
	playPythonAdd(t, r, description)
	known := r.location(t, "upnp:rootdevice")
	demandSaid(t, r.Clients[2].Run(t, python, "-c", pythonScript, "40020", known, "delete"), "deleted True None\nany 40021\ndeleted True None\n")
	r.dial("tcp", 40020).Blocked(t)
}

func playPythonAdd(t *testing.T, r *rig, description string) {
	said := r.Clients[2].Run(t, python, "-c", pythonScript, "40020", description)
	demandSaid(t, said, "11.22.33.44 Connected IP_Routed\nTrue\n('192.168.50.12', 4000, 'from Python', True, ",
		"(40020, 'TCP', ('192.168.50.12', 4000), 'from Python', '1', '', ")
	r.dial("tcp", 40020).Arrives(t)
}

// playInterplay maps one port by three protocols, and then deletes the mapping by
// one after the other (RFC 6970).
func playInterplay(t *testing.T, r *rig) {
	c := r.Clients[0]
	natpmpc := func(lifetime string) string {
		return c.Run(t, "natpmpc", "-g", "192.168.50.1", "-a", "40030", "4000", "udp", lifetime)
	}
	const v1 = "http://192.168.50.1:5000/rootDesc.xml"
	mapUDP := pcpMap(client1, 17, 4000, 0)

	demandSaid(t, natpmpc("600"), "Mapped public port 40030 protocol UDP to local port 4000 liftime 600")
	r.demandMapped(t, mapUDP, 40030)
	demandSaid(t, c.Run(t, "upnpc", "-u", v1, "-a", "192.168.50.10", "4000", "40030", "udp"), "external 11.22.33.44:40030 UDP is redirected")
	if n := len(r.rulesOf(t, "nat", "MINIUPNPD")); n != 1 {
		t.Errorf("%d rules for one port", n)
	}

	other := pcpMap(client2, 17, 4000, 40030)
	if resp := r.pcp(t, 1, other); resp.Result != pcp.Success || resp.External.Port() == 40030 {
		t.Errorf("another client's MAP: %v, port %d", resp.Result, resp.External.Port())
	}
	other.Lifetime = 0
	r.pcp(t, 1, other)
	demandSaid(t, refused(t, r.Clients[1], "upnpc", "-u", v1, "-a", "192.168.50.11", "4000", "40030", "udp"), "failed with code 718")

	for _, give := range []struct {
		what string
		do   func()
	}{
		{"NAT-PMP", func() { natpmpc("0") }},
		{"PCP", func() { r.demandDeleted(t, mapUDP) }},
		{"UPnP", func() { c.Run(t, "upnpc", "-u", v1, "-d", "40030", "udp") }},
	} {
		r.dial("udp", 40030).Arrives(t)
		give.do()
	}
	r.dial("udp", 40030).Blocked(t)
}

// playBothVersions has clients of version 1 and of version 2 search and request
// mappings at the same time.
func playBothVersions(t *testing.T, r *rig) {
	v2 := r.location(t, "urn:schemas-upnp-org:service:WANIPConnection:2")
	if v1 := r.location(t, "urn:schemas-upnp-org:service:WANIPConnection:1"); v1 == v2 {
		t.Fatalf("both versions are at %s", v1)
	}
	var group errgroup.Group
	run := func(i int, name string, args ...string) {
		group.Go(func() error {
			if out, err := r.Clients[i].Command(name, args...).CombinedOutput(); err != nil {
				return fmt.Errorf("%s %q: %w: %s", name, args, err, out)
			}
			return nil
		})
	}
	run(0, "upnpc", "-a", "@", "4000", "40040", "tcp", "600")
	run(1, "upnpc", "-u", v2, "-n", "@", "4000", "40041", "tcp", "600")
	run(2, python, "-c", pythonScript, "40042", "")
	run(0, "natpmpc", "-g", "192.168.50.1", "-a", "40043", "4000", "udp", "600")
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for i, network := range []string{"tcp", "tcp", "tcp", "udp"} {
		r.dial(network, uint16(40040+i)).Arrives(t)
	}
}
