package netfilter_test

import (
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"igdd/pkg/netfilter"
	"igdd/pkg/netif"
	"igdd/pkg/netlab/packetlab"
	"igdd/pkg/portmap"

	"golang.org/x/sys/unix"
)

// exitScene is what the networks of a router are like.
type exitScene struct {
	name    string
	uplink  []string // addresses of wan0
	gateway string
}

var exitScenes = []exitScene{
	{"one network", []string{"11.22.33.1/24", "11.22.33.9/24", "11.22.33.10/32"}, "11.22.33.254"},
	{"a modem's network", []string{"192.168.100.2/24", "11.22.33.1/24", "11.22.33.9/24"}, "11.22.33.254"},
	{"a next hop elsewhere", []string{"11.22.33.1/32", "11.22.33.9/32"}, "100.64.0.1"},
}

// devices are those of the router: three uplinks, a VPN, two LANs, and one whose hosts
// may not ask.
func (s exitScene) devices() []packetlab.Device {
	return []packetlab.Device{
		{Name: "wan0", Addresses: prefixes(s.uplink...)},
		{Name: "ppp0", Addresses: prefixes("22.33.44.1/24")},
		{Name: "ppp1", Addresses: prefixes("33.44.55.1/32")},
		{Name: "tun0", Addresses: prefixes("10.9.0.1/24")},
		{Name: "lan0", Addresses: prefixes("192.168.101.1/24")},
		{Name: "lan1", Addresses: prefixes("192.168.102.1/24")},
		{Name: "guest0", Addresses: prefixes("192.168.103.1/24")},
	}
}

// exitRoutes are routes besides the default one. Packets with the mark 2 leave by ppp0.
var exitRoutes = []string{
	"route add 203.0.113.0/24 via 22.33.44.254", "route add 198.18.0.0/16 dev ppp1", "route add 10.20.0.0/16 dev tun0",
	"route add default dev ppp0 table 100", "rule add fwmark 0x2/0x2 lookup 100",
}

// exitSets are the ipsets that rules may use.
var exitSets = []packetlab.Set{
	{Name: "near", Kind: "hash:net", Members: []string{"192.168.101.0/25", "198.51.100.0/24"}},
	{Name: "far", Kind: "hash:net", Members: []string{"203.0.113.0/24", "10.8.0.0/16", "192.168.102.0/24"}},
}

// exitLab is a router whose hosts send packets beside random firewalls.
type exitLab struct {
	*placeLab
	network netfilter.Network
	sent    int // packets, each with mappings and without
	owed    int // those that have to leave by the mapped port
	mapped  int // those that do
}

// newExitLab makes a router with one variant of iptables.
func newExitLab(t testing.TB, s exitScene, variant string) *exitLab {
	t.Helper()
	l := &exitLab{placeLab: &placeLab{Lab: packetlab.New(t, s.devices()...), t: t, family: placeFamilies[0]}}
	l.router = newRouterIn(t, l.Router, variant)
	l.Router.IP(t, "route", "add", "default", "via", s.gateway, "dev", "wan0", "onlink")
	for _, route := range exitRoutes {
		l.Router.IP(t, strings.Fields(route)...)
	}
	for _, set := range exitSets {
		must(t, l.Router.Do(func() error { return set.Create(unix.AF_INET) }))
	}
	l.network = netfilter.Network{LANs: []string{"lan0", "lan1"}, Networks: exitNetwork().Networks, Sources: make(map[string]netip.Addr)}
	must(t, l.Router.Do(func() error {
		links, err := netif.Links()
		for _, name := range []string{"wan0", "ppp0", "ppp1"} {
			l.network.Sources[name] = links[name].MasqueradeAlways()
		}
		return err
	}))
	return l
}

// exitMappings are those that hosts hold: also one for a single remote host, and one
// whose ports are the same.
func exitMappings() []*portmap.Mapping {
	return []*portmap.Mapping{
		mapping(portmap.UDP, 6666, "192.168.101.20:5555"), mapping(portmap.TCP, 6667, "192.168.101.20:5555"),
		mapping(portmap.UDP, 7777, "192.168.102.40:5555"), mapping(portmap.TCP, 7778, "192.168.102.40:5555", filter("198.51.100.7/32", 0)),
		mapping(portmap.UDP, 4000, "192.168.101.20:4000"),
	}
}

// mappedPort returns the mapped port by which a packet may leave, 0 if there is none.
func mappedPort(p packetlab.Packet) uint16 {
	for _, m := range exitMappings() {
		isOther := func(f portmap.Filter) bool { return !f.Prefix.Contains(p.Destination.Addr()) }
		isOf := int(m.Protocol) == p.Protocol && m.Internal == p.Source && m.External != m.Internal.Port()
		if isOf && !slices.ContainsFunc(m.Filters(), isOther) {
			return m.External
		}
	}
	return 0
}

// comesFromMapped reports whether a packet comes from the external port of a mapping, and
// not from its target: it leaves by another port.
func comesFromMapped(p packetlab.Packet) bool {
	return mappedPort(p) == 0 && slices.ContainsFunc(exitMappings(), func(m *portmap.Mapping) bool {
		return int(m.Protocol) == p.Protocol && m.External == p.Source.Port() && m.External != m.Internal.Port()
	})
}

// exitRun is the daemon beside one firewall.
type exitRun struct {
	*exitLab
	firewall nsFirewall
	packets  []packetlab.Packet
	sees     []exitSight
	faults   []string
}

// exitSight is what the daemon has made of the firewall at one look.
type exitSight struct {
	rules    string // of the firewall, without the daemon's
	arrivals []packetlab.Arrival
	doubt    string
}

// fault records what is wrong.
func (r *exitRun) fault(format string, args ...any) {
	r.faults = append(r.faults, fmt.Sprintf(format, args...))
}

// try has the daemon hold mappings beside a firewall, and again after edits, and returns
// what is wrong.
func (l *exitLab) try(rules string, packets []packetlab.Packet, edits ...string) ([]string, error) {
	if err := l.load(rules, nil); err != nil {
		return nil, err
	}
	o := options(l.t)
	o.WAN, o.IPv6, o.Log = []string{"wan0", "ppp+"}, false, slog.New(slog.DiscardHandler)
	o.Network = func() netfilter.Network { return l.network }
	r := exitRun{exitLab: l, packets: packets, firewall: l.router.firewall(l.t, o)}
	if err := r.live(edits); err != nil {
		return nil, err
	}
	for _, sight := range r.sees {
		if err := r.check(sight); err != nil {
			return nil, err
		}
	}
	return r.faults, nil
}

// live has the daemon start, look, look again after edits, and end.
func (r *exitRun) live(edits []string) error {
	if err := r.firewall.Setup(); err != nil {
		return err
	}
	defer r.firewall.Teardown()
	if err := r.look(); err != nil {
		return err
	}
	if len(edits) > 0 {
		if err := r.change(edits...); err != nil {
			return err
		}
		if err := r.look(); err != nil {
			return err
		}
	}
	if err := r.firewall.Teardown(); err != nil {
		return err
	}
	saved, err := r.tool("-save", "")
	if last := r.sees[len(r.sees)-1].rules; err == nil && withoutCounters(saved) != last {
		r.fault("the daemon has left\n%s\nof\n%s", withoutCounters(saved), last)
	}
	return err
}

// look has the daemon look at the firewall, and sends the packets.
func (r *exitRun) look() error {
	before, err := r.tool("-save", "")
	if err != nil {
		return err
	}
	if err := r.firewall.Sync(exitMappings()); err != nil {
		return err
	}
	if ok, err := r.firewall.healthy(portmap.IPv4); err != nil || !ok {
		r.fault("not stable (%v)", err)
	}
	after, err := r.tool("-save", "")
	if err != nil {
		return err
	}
	s := exitSight{rules: withoutOwn(before)}
	if now := withoutOwn(after); now != s.rules {
		r.fault("the firewall's rules were changed:\nbefore\n%s\nafter\n%s", s.rules, now)
	}
	outgoing, _ := r.firewall.Outgoing(exitMappings()[0])
	s.doubt = outgoing.Doubt
	s.arrivals, err = r.Send(r.packets...)
	r.sees = append(r.sees, s)
	return err
}

// withoutCounters returns what iptables-save prints without comments and counters.
func withoutCounters(saved string) string {
	var b strings.Builder
	for line := range strings.Lines(saved) {
		if strings.HasPrefix(line, ":") {
			line, _, _ = strings.Cut(line, " [")
			line += "\n"
		}
		if !strings.HasPrefix(line, "#") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// withoutOwn does so without the daemon's chains, their rules and jumps to them.
func withoutOwn(saved string) string {
	var b strings.Builder
	for line := range strings.Lines(withoutCounters(saved)) {
		isOwn := strings.HasPrefix(line, ":MINIUPNPD") || strings.HasPrefix(line, "-A MINIUPNPD") || strings.Contains(line, " -j MINIUPNPD")
		if !isOwn {
			b.WriteString(line)
		}
	}
	return b.String()
}

// check compares what the packets became with what they become without the daemon.
func (r *exitRun) check(s exitSight) error {
	if err := r.load(s.rules, nil); err != nil {
		return err
	}
	without, err := r.Send(r.packets...)
	for i, a := range without {
		r.checkPacket(s, r.packets[i], a, s.arrivals[i])
	}
	r.sent += len(without)
	return err
}

// fixedPorts are the single ports that firewalls give packets.
var fixedPorts = []uint16{5060, 40001}

// givesRange matches rules of the firewall that give ports of a range.
var givesRange = regexp.MustCompile(`(--to-ports |:)\d+-\d+`)

// checkPacket compares what a packet became without the daemon and with it.
func (r *exitRun) checkPacket(s exitSight, p packetlab.Packet, without, with packetlab.Arrival) {
	port, mapped := with.From.Port(), mappedPort(p)
	isTranslated := without.From != p.Source && without != packetlab.Arrival{}
	isFixed := slices.Contains(fixedPorts, without.From.Port())
	isMapped := mapped != 0 && port == mapped
	switch {
	case with.Out != without.Out || with.To != without.To || with.From.Addr() != without.From.Addr():
		r.fault("%s went to %v, not to %v", describe(p), with, without)
	case isMapped && (!isTranslated || isFixed):
		r.fault("%s left by the mapped port, not by %d", describe(p), without.From.Port())
	case comesFromMapped(p) && isTranslated && !isFixed:
		if port == p.Source.Port() && without.From.Port() == port && r.isOwed(s, without) && !givesRange.MatchString(s.rules) {
			r.fault("%s left by the port of another host's mapping", describe(p))
		}
	case !isMapped && (isFixed || without.From.Port() == p.Source.Port()) && port != without.From.Port():
		r.fault("%s left by port %d, not by %d", describe(p), port, without.From.Port())
	case mapped != 0 && isTranslated && r.isOwed(s, without):
		r.owed++
		if !isMapped {
			r.fault("%s left by port %d, not by the mapped one", describe(p), port)
		}
	}
	if isMapped {
		r.mapped++
	}
}

// isOwed reports whether a mapped packet that leaves like that by a rule of the firewall
// has to leave by the mapped port: the daemon has no doubt, and the rule is MASQUERADE,
// or SNAT to its address for one uplink, and leaves the port to the kernel.
func (r *exitRun) isOwed(s exitSight, without packetlab.Arrival) bool {
	own, isUplink := r.network.Sources[without.Out]
	address := without.From.Addr()
	isMasquerade := own == address || !own.IsValid() && slices.Contains(modemAddresses, address)
	isOther := func(line string) bool {
		to := strings.Contains(line, " --to-source "+address.String()) || strings.Contains(line, " --to "+address.String())
		return to && (!own.IsValid() || !strings.Contains(line, " -o "+without.Out+" "))
	}
	isOpen := s.doubt == "" && isUplink && !slices.Contains(fixedPorts, without.From.Port())
	return isOpen && isMasquerade && !slices.ContainsFunc(strings.Split(s.rules, "\n"), isOther)
}

// modemAddresses are those that MASQUERADE gives in the scene with a modem's network.
var modemAddresses = []netip.Addr{netip.MustParseAddr("192.168.100.2"), netip.MustParseAddr("11.22.33.1")}

// describe describes a packet.
func describe(p packetlab.Packet) string {
	return fmt.Sprintf("%s by %q from %v for %v", protocolName(p.Protocol), p.In, p.Source, p.Destination)
}

// smallest returns as few of the rules and edits as still have faults.
func (l *exitLab) smallest(rules string, packets []packetlab.Packet, edits []string) (string, []string) {
	isWrong := func(rules string, edits []string) bool {
		faults, err := l.try(rules, packets, edits...)
		return err == nil && len(faults) > 0
	}
	lines := slices.Collect(strings.Lines(rules))
	for changed := true; changed; {
		changed = false
		for i := len(lines) - 1; i >= 0; i-- {
			fewer := slices.Delete(slices.Clone(lines), i, i+1)
			if strings.HasPrefix(lines[i], "-A") && isWrong(strings.Join(fewer, ""), edits) {
				lines, changed = fewer, true
			}
		}
		for i := len(edits) - 1; i >= 0; i-- {
			if fewer := slices.Delete(slices.Clone(edits), i, i+1); isWrong(strings.Join(lines, ""), fewer) {
				edits, changed = fewer, true
			}
		}
	}
	return strings.Join(lines, ""), edits
}

// wantNoFault fails the test for what is wrong, twice: a random port may once be the
// host's own.
func (l *exitLab) wantNoFault(t *testing.T, rules string, packets []packetlab.Packet, edits ...string) {
	t.Helper()
	faults, err := l.try(rules, packets, edits...)
	if len(faults) > 0 {
		faults, err = l.try(rules, packets, edits...)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, rules)
	}
	for _, fault := range faults {
		t.Error(fault)
	}
	if len(faults) > 0 {
		fewest, edits := l.smallest(rules, packets, edits)
		faults, _ = l.try(fewest, packets, edits...)
		t.Logf("fewest rules:\n%s%s\n%s", fewest, strings.Join(edits, "\n"), strings.Join(faults, "\n"))
	}
}
