package daemon_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
	"igdd/pkg/netlab/packetlab"
)

// tracedPath is what miniupnpctl trace prints, as far as tests compare it.
type tracedPath struct {
	Uplink, Fate, By, Destination, Listener string

	Router  bool
	Steps   []struct{ Table, Chain, Rule string }
	Mapping *struct {
		Client, Description string
		Origins             []string
	}
}

// String returns a path as "stopped at 192.168.50.10:4000 by filter FORWARD -j DROP".
func (p tracedPath) String() string {
	text := p.Fate + " at " + p.Destination
	if p.By != "" {
		text += " by " + p.By
	}
	if p.Listener != "" {
		text += ", " + p.Listener
	}
	if p.Mapping != nil {
		text += fmt.Sprintf(", mapped by %v", p.Mapping.Origins)
	}
	return text
}

// trace traces a TCP connection from outside.
func (r *rig) trace(t testing.TB, source, port string, more ...string) (paths []tracedPath, status int) {
	t.Helper()
	text, status := r.ctl(t, append([]string{"trace", "--json", source, "tcp", port}, more...)...)
	if err := json.Unmarshal([]byte(text), &paths); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return paths, status
}

// demandTrace waits until trace says so of a TCP connection: the daemon may have to
// install its own rules again first.
func (r *rig) demandTrace(t testing.TB, source, port, want string) {
	t.Helper()
	var last string
	defer func() {
		if t.Failed() {
			t.Logf("from %s to %s: the last is %s, want %s", source, port, last, want)
		}
	}()
	await(t, "trace", func() bool {
		paths, status := r.trace(t, source, port)
		last = paths[0].String()
		if arrives := paths[0].Fate == "arrives" && paths[0].Listener != "refused"; arrives != (status == 0) {
			t.Errorf("exit status %d of %s", status, last)
		}
		return last == want
	})
}

// ruleCase is rules of the administrator, and what becomes of connections then.
type ruleCase struct {
	what     string
	commands []string // of iptables or ip6tables, with -A or -I
	source   string
	port     string
	want     string // of trace
	arrives  bool   // the connection
}

// run installs the rules, compares trace with a real connection, and removes the rules.
func (c ruleCase) run(t *testing.T, r *rig, program string) {
	for _, command := range c.commands {
		r.Router.Run(t, program, strings.Fields("-w "+command)...)
		defer r.Router.Run(t, program, strings.Fields("-w "+undo.Replace(command))...)
	}
	r.demandTrace(t, c.source, c.port, c.want)
	to, err := netip.ParseAddrPort(c.port)
	if err != nil {
		to = netip.MustParseAddrPort(netlab.RouterWAN.Addr().String() + ":" + c.port)
	}
	p := netlab.Probe{Network: "tcp", From: r.WAN, Source: netip.AddrPortFrom(netip.MustParseAddr(c.source), 0), To: to}
	if c.arrives {
		p.Arrives(t)
	} else {
		p.Blocked(t)
	}
}

// undo makes the command that removes a rule of the one that adds it.
var undo = strings.NewReplacer("-A ", "-D ", "-I ", "-D ", "FORWARD DROP", "FORWARD ACCEPT")

// mapped is what trace says of the mapping if nothing is in its way.
const mapped = "arrives at 192.168.50.10:4000, mapped by [NAT-PMP]"

// ruleCases are rules beside a mapping of TCP port 40000 to port 4000 of the first
// client. Port 4001 of the second one, and 4002 of the router, answer, too.
var ruleCases = []ruleCase{
	{"no rules", nil, "11.22.33.1", "40000", mapped, true},
	{"a port without a mapping", nil, "11.22.33.1", "40001", "arrives at 11.22.33.44:40001, refused", false},
	{"a port of the router", nil, "11.22.33.1", "4002", "arrives at 11.22.33.44:4002, listening", true},
	{"a source that is blocked", []string{"-I FORWARD -s 11.22.33.1 -j DROP"}, "11.22.33.1", "40000",
		"stopped at 192.168.50.10:4000 by filter FORWARD -s 11.22.33.1/32 -j DROP, mapped by [NAT-PMP]", false},
	{"another source than that", []string{"-I FORWARD -s 11.22.33.1 -j DROP"}, "11.22.33.2", "40000", mapped, true},
	{"a REJECT behind", []string{"-A FORWARD -j REJECT"}, "11.22.33.1", "40000", mapped, true},
	{"a forward for one source", []string{
		"-t nat -I PREROUTING -i wan0 -s 11.22.33.2 -p tcp --dport 40000 -j DNAT --to-destination 192.168.50.11:4001", "-I FORWARD -d 192.168.50.11 -j ACCEPT",
	}, "11.22.33.2", "40000", "arrives at 192.168.50.11:4001", true},
	{"the other source", []string{
		"-t nat -I PREROUTING -i wan0 -s 11.22.33.2 -p tcp --dport 40000 -j DNAT --to-destination 192.168.50.11:4001", "-I FORWARD -d 192.168.50.11 -j ACCEPT",
	}, "11.22.33.1", "40000", mapped, true},
	{"a forward that FORWARD does not accept", []string{"-t nat -I PREROUTING -i wan0 -p tcp --dport 40002 -j DNAT --to-destination 192.168.50.11:4001"},
		"11.22.33.1", "40002", "stopped at 192.168.50.11:4001 by filter FORWARD policy DROP", false},
	{"a forward to a host without a route", []string{"-t nat -I PREROUTING -i wan0 -p tcp --dport 40002 -j DNAT --to-destination 192.0.2.1"},
		"11.22.33.1", "40002", "stopped at 192.0.2.1:40002 by no route to 192.0.2.1, or forwarding is disabled for wan0", false},
	{"a port redirected to the router's", []string{"-t nat -I PREROUTING -i wan0 -p tcp --dport 40002 -j REDIRECT --to-ports 4002"},
		"11.22.33.1", "40002", "arrives at 11.22.33.44:4002, listening", true},
	{"a drop in table mangle", []string{"-t mangle -A FORWARD -d 192.168.50.10 -p tcp --dport 4000:4010 -j DROP"}, "11.22.33.1", "40000",
		"stopped at 192.168.50.10:4000 by mangle FORWARD -d 192.168.50.10/32 -p tcp -m tcp --dport 4000:4010 -j DROP, mapped by [NAT-PMP]", false},
	{"a drop in table raw", []string{"-t raw -A PREROUTING -i wan0 -p tcp --dport 40000 -j DROP"}, "11.22.33.1", "40000",
		"stopped at 11.22.33.44:40000 by raw PREROUTING -i wan0 -p tcp -m tcp --dport 40000 -j DROP", false},
	{"a set that has the source", []string{"-I FORWARD -m set --match-set bad src -j DROP"}, "11.22.33.1", "40000",
		"unknown at 192.168.50.10:4000 by filter FORWARD -m set --match-set bad src -j DROP, mapped by [NAT-PMP]", false},
	{"a set that does not have it", []string{"-I FORWARD -m set --match-set bad src -j DROP"}, "11.22.33.2", "40000",
		"unknown at 192.168.50.10:4000 by filter FORWARD -m set --match-set bad src -j DROP, mapped by [NAT-PMP]", true},
}

// TestTrace compares trace with real connections beside rules of an administrator.
func TestTrace(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{Clients: 2, IPv6: true})
		r.installed()
		r.firewallIPv6(t)
		r.WAN.Address(t, "eth0", netip.MustParsePrefix("2001:db8:33::2/64"))
		r.Router.IP(t, "route", "add", "unreachable", "192.0.2.1")
		bad := packetlab.Set{Name: "bad", Kind: "hash:ip", Members: []string{"11.22.33.1"}}
		if err := r.Router.Do(func() error { return bad.Create(unix.AF_INET) }); err != nil {
			t.Fatal(err)
		}
		r.Clients[0].Echo(t, "tcp", ":4000")
		r.Clients[1].Echo(t, "tcp", ":4001")
		r.Router.Echo(t, "tcp", ":4002")
		r.start(t, "ipv6=yes")
		r.grant(t, mapping(natpmp.MapTCP, 4000, 40000, time.Hour))
		r.demandMapped(t, pcpMap(addr6, 6, 4000, 4000), 4000)
		for _, c := range ruleCases {
			t.Run(c.what, func(t *testing.T) { c.run(t, r, "/usr/sbin/iptables-"+variant) })
		}
		const pinhole = "[2001:db8:50::10]:4000"
		for _, c := range []ruleCase{
			{"a pinhole", nil, "2001:db8:33::1", pinhole, "arrives at " + pinhole + ", mapped by [PCP]", true},
			{"no pinhole", nil, "2001:db8:33::1", "[2001:db8:50::11]:4001", "stopped at [2001:db8:50::11]:4001 by filter FORWARD policy DROP", false},
			{"a source that is blocked", []string{"-I FORWARD -s 2001:db8:33::1 -j DROP"}, "2001:db8:33::1", pinhole,
				"stopped at " + pinhole + " by filter FORWARD -s 2001:db8:33::1/128 -j DROP", false},
			{"another source than that", []string{"-I FORWARD -s 2001:db8:33::1 -j DROP"}, "2001:db8:33::2", pinhole, "arrives at " + pinhole + ", mapped by [PCP]", true},
		} {
			t.Run("IPv6/"+c.what, func(t *testing.T) { c.run(t, r, "/usr/sbin/ip6tables-"+variant) })
		}
		other := "iptables-legacy"
		if variant == "legacy" {
			other = "iptables-nft"
		}
		c := ruleCase{"the other variant", []string{"-P FORWARD DROP"}, "11.22.33.1", "40000", "stopped at 192.168.50.10:4000 by " + other + " filter FORWARD policy DROP, mapped by [NAT-PMP]", false}
		t.Run(c.what, func(t *testing.T) { c.run(t, r, "/usr/sbin/"+other) })
		r.says(t, "trace 11.22.33.1 tcp 40000 --probe", 0, "listener: listens verdict: arrives at 192.168.50.10:4000")
		r.says(t, "trace 2001:db8:33::1 tcp "+pinhole+" --probe", 0, "listener: listens verdict: arrives at "+pinhole)
	})
}

// TestSelftestNamesTheFirewall has rules that keep connections from some or all mappings,
// which the daemon does not move its own in front of: the selftest names them.
func TestSelftestNamesTheFirewall(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{})
		r.installed()
		r.start(t)
		for _, c := range []struct{ command, want string }{
			{"-t mangle -A FORWARD -d 192.168.50.128/25 -p tcp -j DROP",
				"failed a connection from the Internet arrives: stopped: mangle FORWARD -d 192.168.50.128/25 -p tcp -j DROP"},
			{"-t nat -I PREROUTING -i wan0 -p tcp -j DNAT --to-destination 192.168.50.11",
				"would be refused: no port left: PREROUTING -i wan0 -p tcp -j DNAT --to-destination 192.168.50.11 takes connections first"},
		} {
			r.ipt(t, strings.Fields(c.command)...)
			await(t, "the selftest to fail", func() bool {
				out, status := r.ctl(t, "selftest", "192.168.50.200")
				text := strings.Join(strings.Fields(out), " ")
				return status == 4 && strings.Contains(text, c.want) && strings.Contains(text, "ok a NAT-PMP client on lan0 gets a UDP port")
			})
			r.ipt(t, strings.Fields(undo.Replace(c.command))...)
		}
		await(t, "the selftest to succeed", func() bool { _, status := r.ctl(t, "selftest", "192.168.50.200"); return status == 0 })
	})
}

// datagrams listens at a port of UDP until the test ends, and returns what comes in.
func datagrams(t testing.TB, on *netlab.Namespace, port string) <-chan string {
	t.Helper()
	var c net.PacketConn
	if err := on.Listen(func() (err error) { c, err = net.ListenPacket("udp", port); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	received := make(chan string, 64)
	go func() {
		for buf := make([]byte, 64); ; {
			n, _, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			received <- string(buf[:n])
		}
	}()
	return received
}

// TestTraceTwoUplinks traces by both uplinks. By the second one, to which no route
// leads back, nothing arrives while the kernel checks that.
func TestTraceTwoUplinks(t *testing.T) {
	t.Parallel()
	const source = "198.51.100.7"
	r := newRig(t, "nft", netlab.Layout{SecondWAN: true})
	r.Router.Sysctl(t, "net/ipv4/conf/all/rp_filter", "0")
	r.WAN2.IP(t, "address", "add", source, "dev", "lo")
	hardware := strings.TrimSpace(r.Router.Run(t, "cat", "/sys/class/net/wan1/address")) // the kernel checks sources of ARP, too
	r.WAN2.IP(t, "neighbour", "replace", netlab.RouterWAN2.Addr().String(), "lladdr", hardware, "dev", "eth0", "nud", "permanent")
	received := datagrams(t, r.Clients[0], ":4001")
	r.start(t, "ext_ifname2=wan1")
	r.grant(t, mapping(natpmp.MapUDP, 4001, 40001, time.Hour))
	const arrives = "arrives at 192.168.50.10:4001, mapped by [NAT-PMP]"
	for _, c := range []struct {
		filter, want string
		status       int
	}{
		{"1", "stopped at 192.168.50.10:4001 by reverse path filter (rp_filter): the route to 198.51.100.7 does not leave by wan1, mapped by [NAT-PMP]", 4},
		{"0", arrives, 0},
	} {
		r.Router.Sysctl(t, "net/ipv4/conf/wan1/rp_filter", c.filter)
		text, status := r.ctl(t, "trace", "--json", source, "udp", "40001")
		var paths []tracedPath
		if err := json.Unmarshal([]byte(text), &paths); err != nil || len(paths) != 2 {
			t.Fatalf("%v: %s", err, text)
		}
		if first := paths[0]; first.Uplink != "wan0" || first.String() != arrives {
			t.Errorf("by %s: %v", first.Uplink, first)
		}
		if second := paths[1]; status != c.status || second.Uplink != "wan1" || second.String() != c.want {
			t.Errorf("status %d by %s: %v; want %d, %s", status, second.Uplink, second, c.status, c.want)
		}
		r.sendBySecond(t, source, "with rp_filter "+c.filter)
	}
	if got := <-received; got != "with rp_filter 0" {
		t.Errorf("what arrives first was sent %s", got)
	}
}

// sendBySecond sends a datagram to port 40001 of the second uplink.
func (r *rig) sendBySecond(t testing.TB, source, text string) {
	t.Helper()
	err := r.WAN2.Do(func() error {
		d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(source), 0))}
		c, err := d.Dial("udp", netip.AddrPortFrom(netlab.RouterWAN2.Addr(), 40001).String())
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestTraceBesideArno traces through Arno's firewall, which blocks a host.
func TestTraceBesideArno(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{})
		r.installed()
		arno := netlab.NewArno(t, r.Router, variant)
		arno.Plugin(t, true)
		arno.Configure(t, "BLOCK_HOSTS=\"11.22.33.2\"\n")
		arno.Do(t, "start")
		r.start(t)
		r.Clients[0].Echo(t, "tcp", "192.168.50.10:4000")
		r.grant(t, mapping(natpmp.MapTCP, 4000, 40000, time.Hour))
		for _, c := range []ruleCase{
			{"a host", nil, "11.22.33.1", "40000", mapped, true},
			{"a host that is blocked", nil, "11.22.33.2", "40000", "stopped at 192.168.50.10:4000 by filter HOST_BLOCK_SRC_DROP -j DROP, mapped by [NAT-PMP]", false},
			{"a port without a mapping", nil, "11.22.33.1", "40001", "stopped at 11.22.33.44:40001 by filter POST_INPUT_DROP_CHAIN -j DROP", false},
		} {
			t.Run(c.what, func(t *testing.T) { c.run(t, r, "") })
		}
	})
}
