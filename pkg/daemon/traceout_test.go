package daemon_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
)

// leavingPath is what miniupnpctl trace prints of a connection that leaves, as far as tests
// compare it.
type leavingPath struct {
	Uplink, LAN, Fate, By, Destination string

	Source *struct {
		Address   string
		FirstPort uint16 `json:"first_port"`
		LastPort  uint16 `json:"last_port"`
	}
	DependsOn string `json:"source_depends_on"`
	Mapping   *struct{ Client string }
}

// String returns a path as "wan0 to 11.22.33.1:3478 as 11.22.33.44:40001".
func (p leavingPath) String() string {
	text := p.Uplink + " to " + p.Destination
	switch {
	case p.Fate != "arrives":
		return p.Fate + " by " + p.By
	case p.Source == nil:
		text += " by " + p.DependsOn
	case p.Source.FirstPort != p.Source.LastPort:
		text += fmt.Sprintf(" as %s:%d-%d", p.Source.Address, p.Source.FirstPort, p.Source.LastPort)
	default:
		text += " as " + netip.AddrPortFrom(netip.MustParseAddr(p.Source.Address), p.Source.FirstPort).String()
	}
	if p.Mapping != nil {
		text += ", mapped"
	}
	return text
}

// hasSource reports whether the connection may have a source.
func (p leavingPath) hasSource(seen netip.AddrPort) bool {
	s := p.Source
	return s == nil || s.Address == seen.Addr().String() && s.FirstPort <= seen.Port() && seen.Port() <= s.LastPort
}

// leavingCase is rules of the administrator, and what becomes of a connection of the first
// client then. PORT stands for its source port.
type leavingCase struct {
	what     string
	commands []string // of iptables, with -A or -I
	to       string
	want     string // of trace
	blocked  bool   // the connection
}

// run installs the rules, compares trace with a real connection, and removes the rules.
func (c leavingCase) run(t *testing.T, r *rig, program string, port int) {
	set := strings.NewReplacer("PORT", strconv.Itoa(port))
	for _, command := range c.commands {
		command = set.Replace(command)
		r.Router.Run(t, program, strings.Fields("-w "+command)...)
		defer r.Router.Run(t, program, strings.Fields("-w "+undo.Replace(command))...)
	}
	source := netip.AddrPortFrom(client1, uint16(port))
	var path leavingPath
	defer func() {
		if t.Failed() {
			t.Logf("the last is %v", path)
		}
	}()
	await(t, "trace to say "+set.Replace(c.want), func() bool {
		var status int
		path, status = r.traceLeaving(t, source, c.to)
		if known := path.Fate == "arrives" && path.Source != nil; known != (status == 0) {
			t.Errorf("exit status %d of %v", status, path)
		}
		return path.String() == set.Replace(c.want)
	})
	p := netlab.Probe{Network: "udp", From: r.Clients[0], Source: source, To: netip.MustParseAddrPort(c.to)}
	if c.blocked {
		p.Blocked(t)
	} else if seen := p.Arrives(t); !path.hasSource(seen) {
		t.Errorf("it arrives from %v, but trace says %v", seen, path)
	}
}

// traceLeaving traces a datagram of a client.
func (r *rig) traceLeaving(t testing.TB, source netip.AddrPort, to string) (leavingPath, int) {
	t.Helper()
	text, status := r.ctl(t, "trace", "--json", source.String(), "udp", to)
	var paths []leavingPath
	if err := json.Unmarshal([]byte(text), &paths); err != nil || len(paths) != 1 || paths[0].LAN != "lan0" {
		t.Fatalf("%v: %s", err, text)
	}
	return paths[0], status
}

// far is a host of the Internet that answers.
const far = "11.22.33.1:3478"

// leavingCases are rules for what leaves.
var leavingCases = []leavingCase{
	{"the firewall's MASQUERADE", nil, far, "wan0 to " + far + " as 11.22.33.44:PORT", false},
	{"by the other uplink", nil, "22.33.44.1:3478", "wan1 to 22.33.44.1:3478 as 22.33.44.55:PORT", false},
	{"a port", []string{"-t nat -I POSTROUTING -s 192.168.50.10 -o wan0 -p udp --sport PORT -j MASQUERADE --to-ports 40001"}, far, "wan0 to " + far + " as 11.22.33.44:40001", false},
	{"ports", []string{"-t nat -I POSTROUTING -o wan0 -p udp -j MASQUERADE --to-ports 5000-5063"}, far, "wan0 to " + far + " as 11.22.33.44:5000-5063", false},
	{"another address", []string{"-t nat -I POSTROUTING -o wan+ -j SNAT --to-source 11.22.33.45"}, far, "wan0 to " + far + " as 11.22.33.45:PORT", false},
	{"a limit", []string{"-t nat -I POSTROUTING -m limit --limit 1000/sec --limit-burst 1000 -j SNAT --to-source 11.22.33.45"}, far,
		"wan0 to " + far + " by nat POSTROUTING -m limit --limit 1000/sec --limit-burst 1000 -j SNAT --to-source 11.22.33.45", false},
	{"no IPsec", []string{"-t nat -I POSTROUTING -m policy --dir out --pol ipsec -j ACCEPT"}, far, "wan0 to " + far + " as 11.22.33.44:PORT", false},
	{"a rule that stops it", []string{"-I FORWARD -s 192.168.50.10 -p udp --dport 3478 -j DROP"}, far,
		"stopped by filter FORWARD -s 192.168.50.10/32 -p udp -m udp --dport 3478 -j DROP", true},
	{"the external address", []string{
		"-t nat -I PREROUTING -d 11.22.33.44 -i lan0 -p udp --dport 45678 -j DNAT --to-destination 192.168.50.11:4001", "-I FORWARD -i lan0 -o lan0 -j ACCEPT",
		"-t nat -I POSTROUTING -o lan0 -m conntrack --ctstate DNAT --ctorigdst 11.22.33.44 -j MASQUERADE",
	}, "11.22.33.44:45678", "lan0 to 192.168.50.11:4001 as 192.168.50.1:PORT", false},
	{"a port with a mapping", []string{"-t nat -I POSTROUTING -s 192.168.50.10 -o wan0 -p udp --sport PORT -j MASQUERADE --to-ports 41000"}, far,
		"wan0 to " + far + " as 11.22.33.44:41000, mapped", false},
}

// TestTraceLeaving compares trace with the source that the far end sees.
func TestTraceLeaving(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{Clients: 2, SecondWAN: true, IPv6: true})
		r.installed()
		r.firewallIPv6(t)
		r.Router.Address(t, "wan0", netip.MustParsePrefix("11.22.33.45/24"))
		r.WAN.Echo(t, "udp", far)
		r.WAN2.Echo(t, "udp", "22.33.44.1:3478")
		r.Clients[1].Echo(t, "udp", "192.168.50.11:4001")
		r.start(t, "ext_ifname2=wan1", "ipv6=yes")
		const firstPort = 6000 // a datagram from the same port would belong to the same flow
		r.grant(t, mapping(natpmp.MapUDP, uint16(firstPort+len(leavingCases)-1), 41000, time.Hour))
		r.grant(t, mapping(natpmp.MapUDP, 5997, 41001, time.Hour))
		c := leavingCase{"a mapping", nil, far, "wan0 to " + far + " as 11.22.33.44:41001, mapped", false}
		t.Run(c.what, func(t *testing.T) { c.run(t, r, "", 5997) })
		for i, c := range leavingCases {
			t.Run(c.what, func(t *testing.T) { c.run(t, r, "/usr/sbin/iptables-"+variant, firstPort+i) })
		}
		other := map[string]string{"legacy": "iptables-nft", "nft": "iptables-legacy"}[variant]
		c = leavingCase{"the other variant", []string{"-t nat -A POSTROUTING -o wan0 -j SNAT --to-source 11.22.33.45"}, far, "wan0 to " + far + " by ", false}
		t.Run(c.what, func(t *testing.T) { c.run(t, r, "/usr/sbin/"+other, 5999) })
		r.Router.IP(t, "xfrm", "policy", "add", "src", "10.1.0.0/16", "dst", "10.2.0.0/16", "dir", "out")
		c = leavingCase{"IPsec", []string{"-t nat -I POSTROUTING -m policy --dir out --pol ipsec -j ACCEPT"}, far,
			"wan0 to " + far + " by nat POSTROUTING -m policy --dir out --pol ipsec -j ACCEPT", false}
		t.Run(c.what, func(t *testing.T) { c.run(t, r, "/usr/sbin/iptables-"+variant, 5998) })
		r.says(t, "trace 192.168.50.10 udp 3478", 1, "192.168.50.10 is on the LAN of lan0: write where it connects to as ADDRESS:PORT")
		r.says(t, "trace 192.168.50.10 udp "+far+" --probe", 2, "--probe is for connections from outside")
		r.says(t, "trace [2001:db8:50::10]:5000 udp [2001:db8:33::1]:3478", 0, "leaves by wan0 for [2001:db8:33::1]:3478 as [2001:db8:50::10]:5000, which is not translated")
		r.Router.IP(t, "route", "add", "10.1.0.0/16", "via", "192.168.50.11")
		r.says(t, "trace 10.1.2.3:5000 udp "+far, 0, "UDP from 10.1.2.3:5000 to "+far+" by lan0")
		r.ipt(t, "-t", "nat", "-I", "PREROUTING", "-i", "lan0", "-p", "udp", "--dport", "53", "-j", "REDIRECT")
		r.says(t, "trace 192.168.50.10 udp 11.22.33.1:53", 4, "arrives at 192.168.50.1:53, the router itself")
		r.Router.IP(t, "route", "replace", "default", "via", "192.168.50.11")
		r.says(t, "trace 64.0.0.1 udp 40000", 4, "UDP from 64.0.0.1 to 11.22.33.44:40000 by wan0")
		r.says(t, "trace 192.168.50.10:5000 udp 64.0.0.1:3478", 4, "UDP from 192.168.50.10:5000 to 64.0.0.1:3478 by lan0")
	})
}
