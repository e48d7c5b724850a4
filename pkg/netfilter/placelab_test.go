package netfilter_test

import (
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"igdd/pkg/netfilter"
	"igdd/pkg/netlab/packetlab"
	"igdd/pkg/portmap"
	"igdd/pkg/xtables"

	"golang.org/x/sys/unix"
)

// placeDevices are those of the router beside whose rules the daemon runs.
var placeDevices = []packetlab.Device{
	{Name: "wan0", Addresses: prefixes("11.22.33.1/24", "11.22.33.9/24", "2001:db8:33::1/64")},
	{Name: "ppp0", Addresses: prefixes("22.33.44.1/24", "2001:db8:44::1/64")},
	{Name: "ppp1", Addresses: prefixes("33.44.55.1/24", "2001:db8:55::1/64")},
	{Name: "lan0", Addresses: prefixes("192.168.77.1/24", "192.168.50.1/24", "2001:db8:77::1/64")},
	{Name: "dmz0", Addresses: prefixes("192.168.88.1/24", "10.42.0.1/16", "2001:db8:88::1/64")},
}

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

// placeFamily is what differs between IPv4 and IPv6.
type placeFamily struct {
	kind    portmap.Family
	program string
	af      byte
	gateway string
	folder  string            // of the rule sets that trace is tested with
	sources []string          // of packets
	uplinks map[string]string // addresses by device
	hosts   map[string]string // mapped hosts by LAN
}

var placeFamilies = []*placeFamily{
	{
		portmap.IPv4, "iptables", unix.AF_INET, "11.22.33.254", "trace",
		[]string{"198.51.100.7", "203.0.113.5", "192.0.2.9", "8.8.4.4", "100.70.1.2"},
		map[string]string{"wan0": "11.22.33.1", "ppp0": "22.33.44.1", "ppp1": "33.44.55.1"},
		map[string]string{"lan0": "192.168.77.30", "dmz0": "192.168.88.30"},
	},
	{
		portmap.IPv6, "ip6tables", unix.AF_INET6, "2001:db8:33::fe", "trace6",
		[]string{"2001:db8:ffff::7", "2001:db8:eeee::5", "2001:db8:dddd::9", "2001:4860::4", "2001:470::1"},
		map[string]string{"wan0": "2001:db8:33::1", "ppp0": "2001:db8:44::1", "ppp1": "2001:db8:55::1"},
		map[string]string{"lan0": "2001:db8:77::30", "dmz0": "2001:db8:88::30"},
	},
}

// scene is the uplinks and LANs of a router.
type scene struct {
	name      string
	wan, lans []string // as in Options and Network
	announced string   // the uplink whose address is announced; "": not known
	uplinks   []string // devices that packets come in by
}

var scenes = []scene{
	{"one uplink", []string{"wan0"}, []string{"lan0"}, "wan0", []string{"wan0"}},
	{"two uplinks, two LANs", []string{"wan0", "ppp0"}, []string{"lan0", "dmz0"}, "wan0", []string{"wan0", "ppp0"}},
	{"a pattern with a link", []string{"ppp+", "wan0"}, []string{"lan0", "dmz0"}, "ppp0", []string{"ppp0", "wan0"}},
	{"a pattern without", []string{"ppp+"}, []string{"lan0"}, "", []string{"ppp0"}},
	{"a pattern with two links", []string{"ppp+"}, []string{"lan0"}, "ppp0", []string{"ppp0", "ppp1"}},
	{"nothing known", []string{"wan0"}, []string{"lan0", "dmz0"}, "", []string{"wan0"}},
}

// placeLab is a router on which the daemon places its jumps.
type placeLab struct {
	*packetlab.Lab
	t       testing.TB
	router  *router
	family  *placeFamily
	hasSets bool
}

// newPlaceLab makes a router with one variant of iptables.
func newPlaceLab(t testing.TB, f *placeFamily, variant string) *placeLab {
	t.Helper()
	l := &placeLab{Lab: packetlab.New(t, placeDevices...), t: t, family: f}
	l.router = newRouterIn(t, l.Router, variant)
	l.Router.IP(t, "route", "add", "default", "via", f.gateway)
	return l
}

// tool runs a program of the family.
func (l *placeLab) tool(part, input string, args ...string) (text string, err error) {
	err = l.Router.Do(func() error {
		cmd := exec.Command(filepath.Join(l.router.tools, l.family.program+part), args...)
		cmd.Stdin = strings.NewReader(input)
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%s%s: %w: %s", l.family.program, part, err, out)
		}
		text = string(out)
		return err
	})
	return text, err
}

// emptyTables are tables without rules.
const emptyTables = `*raw
:PREROUTING ACCEPT [0:0]
COMMIT
*mangle
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
COMMIT
`

// load replaces all rules and sets.
func (l *placeLab) load(text string, sets []packetlab.Set) error {
	if l.hasSets {
		if _, err := l.tool("-restore", emptyTables); err != nil {
			return err
		}
		if err := l.Router.Do(packetlab.DestroySets); err != nil {
			return err
		}
	}
	l.hasSets = len(sets) > 0
	for _, set := range sets {
		if err := l.Router.Do(func() error { return set.Create(l.family.af) }); err != nil {
			return err
		}
	}
	_, err := l.tool("-restore", emptyTables+text)
	return err
}

// change carries out edits of rules: "-I FORWARD 1 -j DROP", "-t nat -F".
func (l *placeLab) change(edits ...string) error {
	var text strings.Builder
	for _, edit := range edits {
		table, rest := "filter", edit
		if after, ok := strings.CutPrefix(edit, "-t nat "); ok {
			table, rest = "nat", after
		}
		fmt.Fprintf(&text, "*%s\n%s\nCOMMIT\n", table, rest)
	}
	_, err := l.tool("-restore", text.String(), "--noflush", "--wait", "10")
	return err
}

// counted is a rule with how many packets have matched it.
type counted struct {
	table, chain, text string
	packets            uint64
}

// counters returns all rules with their counters, in order, and the policies and
// chains as rules without a text.
func (l *placeLab) counters() (list []counted, err error) {
	saved, err := l.tool("-save", "", "-c")
	table := ""
	for line := range strings.Lines(saved) {
		line = strings.TrimSpace(line)
		var c counted
		switch {
		case strings.HasPrefix(line, "*"):
			table = line[1:]
		case strings.HasPrefix(line, ":"):
			name, rest, _ := strings.Cut(line[1:], " ")
			policy, _, _ := strings.Cut(rest, " ")
			list = append(list, counted{table, name, ":" + policy, 0})
		case strings.HasPrefix(line, "["):
			numbers, rest, _ := strings.Cut(line, " -A ")
			if _, err := fmt.Sscanf(numbers, "[%d:", &c.packets); err != nil {
				return nil, fmt.Errorf("%q: %w", line, err)
			}
			c.chain, c.text, _ = strings.Cut(rest, " ")
			c.table = table
			list = append(list, c)
		}
	}
	return list, err
}

// hits returns the rules that packets matched, in the order of the listing.
func (l *placeLab) hits(packets ...packetlab.Packet) (list []counted, err error) {
	before, err := l.counters()
	if err != nil {
		return nil, err
	}
	if _, err = l.Send(packets...); err != nil {
		return nil, err
	}
	after, err := l.counters()
	if err == nil && len(after) != len(before) {
		err = fmt.Errorf("%d rules, then %d", len(before), len(after))
	}
	for i := range after {
		if err == nil && after[i].packets > before[i].packets {
			list = append(list, after[i])
		}
	}
	return list, err
}

// probe is a packet to a mapped port.
type probe struct {
	packetlab.Packet
	lan string
	to  netip.AddrPort // the mapped host
}

// group is what the daemon can say of packets: whether they arrive by one
// uplink, in one LAN, by one protocol.
type group struct {
	uplink, lan string
	protocol    int
}

func (p probe) group() group { return group{p.In, p.lan, p.Protocol} }

// arrives reports whether the packet gets to the mapped host.
func (p probe) arrives(a packetlab.Arrival) bool { return a.Out == p.lan && a.To == p.to }

func (p probe) String() string {
	return fmt.Sprintf("%s by %s from %v to %v for %v", protocolName(p.Protocol), p.In, p.Source, p.Destination, p.to)
}

// protocolName returns "TCP" or "UDP".
func protocolName(p int) string { return portmap.Protocol(p).String() }

// mappedPorts are external and internal ports in each LAN.
var mappedPorts = map[string][][2]uint16{"lan0": {{6881, 6881}, {51000, 80}}, "dmz0": {{6882, 6882}, {51001, 81}}}

// mappings returns mappings of both protocols in each LAN.
func (f *placeFamily) mappings(s scene) (list []*portmap.Mapping) {
	for _, lan := range s.lans {
		host := netip.MustParseAddr(f.hosts[lan])
		for _, ports := range mappedPorts[lan] {
			for _, p := range []portmap.Protocol{portmap.TCP, portmap.UDP} {
				to := netip.AddrPortFrom(host, ports[1]).String()
				if f.kind == portmap.IPv6 {
					list = append(list, pinhole(p, to))
				} else {
					list = append(list, mapping(p, ports[0], to))
				}
			}
		}
	}
	return list
}

// probes returns packets to all mapped ports by all uplinks from all sources.
func (f *placeFamily) probes(s scene) (list []probe) {
	for _, m := range f.mappings(s) {
		for _, uplink := range s.uplinks {
			for _, source := range f.sources {
				p := probe{packetlab.Packet{In: uplink, Protocol: int(m.Protocol), Source: netip.AddrPortFrom(netip.MustParseAddr(source), 40123)}, "", m.Internal}
				p.Destination = netip.AddrPortFrom(netip.MustParseAddr(f.uplinks[uplink]), m.External)
				if f.kind == portmap.IPv6 {
					p.Destination = m.Internal
				}
				for lan, host := range f.hosts {
					if host == m.Internal.Addr().String() {
						p.lan = lan
					}
				}
				list = append(list, p)
			}
		}
	}
	return list
}

// network returns the scene's interfaces.
func (f *placeFamily) network(s scene) netfilter.Network {
	n := netfilter.Network{LANs: s.lans}
	if s.name == "nothing known" {
		return netfilter.Network{}
	}
	if s.announced != "" {
		n.Uplink.Device = s.announced
		for _, d := range append([]string{s.announced}, s.uplinks...) {
			if a := netip.MustParseAddr(placeFamilies[0].uplinks[d]); !slices.Contains(n.Uplink.Addrs, a) {
				n.Uplink.Addrs = append(n.Uplink.Addrs, a)
			}
		}
	}
	return n
}

// chainNames are the chains that firewalls provide for mappings: in table nat and
// in table filter.
var chainNames = [...][2]string{{"MINIUPNPD", "MINIUPNPD"}, {"UPnP", "forwardUPnP"}, {"VUPNP", "FUPNP"}, {"upnp", "upnp"}, {"UPNP", "UPNP"}}

// ownChains returns the chains that the daemon uses beside a rule set.
func ownChains(text string) (nat, filter string) {
	for _, names := range chainNames {
		if strings.Contains(text, ":"+names[1]+" ") {
			return names[0], names[1]
		}
	}
	return chainNames[0][0], chainNames[0][1]
}

// withoutRulesOf returns a rule set without the rules in the daemon's chains.
func withoutRulesOf(text, nat, filter string) string {
	lines := slices.Collect(strings.Lines(text))
	return strings.Join(slices.DeleteFunc(lines, func(line string) bool {
		return strings.HasPrefix(line, "-A "+nat+" ") || strings.HasPrefix(line, "-A "+filter+" ")
	}), "")
}

// deadPattern matches what the daemon says of connections that do not get to its
// chains.
var deadPattern = regexp.MustCompile(`^(?:(TCP|UDP) )?connections from (\S+)(?: to (\S+))? do not get to`)

// isDead reports whether the daemon says that packets do not arrive.
func (g group) isDead(dead []string) bool {
	return slices.ContainsFunc(dead, func(reason string) bool {
		m := deadPattern.FindStringSubmatch(reason)
		return m != nil && (m[1] == "" || m[1] == protocolName(g.protocol)) && xtables.Covers(m[2], g.uplink) && (m[3] == "" || m[3] == g.lan)
	})
}
