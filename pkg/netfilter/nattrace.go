package netfilter

import (
	"net/netip"
	"slices"
	"strings"

	"igdd/pkg/portmap"
	"igdd/pkg/xtables"
)

// natTrace is what happens to a packet in the chains of table nat, by its
// destination port.
type natTrace struct {
	ownChain     string          // the daemon's chain
	reachedOwn   xtables.PortSet // may have passed through it
	notForwarded xtables.PortSet // may leave the table unchanged, or be forwarded by a mapping
	forwarding   []forwardingRule
	keeping      []forwardingRule // in front of the daemon's chain: they end the walk without forwarding
}

// forwardingRule is a rule that takes packets.
type forwardingRule struct {
	ports  xtables.PortSet // of packets that may match it
	target netip.AddrPort  // where it forwards them to; the zero AddrPort: to the router itself, or not to one place
	rule   string
}

// traceNAT follows the packets of a device to an address of the router, the
// zero Addr if that is not known, through a table.
func (c *chain) traceNAT(table xtables.Table, device string, to netip.Addr) *natTrace {
	t := &natTrace{ownChain: c.name}
	w := xtables.Walk{
		Table: table, Name: c.table, Visit: t.visit,
		Packet: xtables.Packet{In: device, Public: true, Destination: to, Original: to, Local: true, Marked: xtables.EveryPort()},
	}
	t.notForwarded = w.From(c.builtInHook().chain, xtables.EveryPort()).Or(t.notForwarded)
	return t
}

// visit records what a rule does with a packet.
func (t *natTrace) visit(s xtables.Step) xtables.Effect {
	effect := xtables.EffectOf(s.Target)
	switch {
	case s.Target == t.ownChain:
		t.reachedOwn = t.reachedOwn.Or(s.Ports)
	case s.Calls || effect == xtables.Continues:
	case forwards(s.Target):
		t.addForwarding(s)
	default:
		t.notForwarded = t.notForwarded.Or(s.Ports) // the packet leaves the table here, or may do so
	}
	if s.Target == "ACCEPT" || s.Target == "RETURN" {
		t.keeping = append(t.keeping, forwardingRule{ports: s.Ports, rule: s.Chain + " " + s.Text})
	}
	return effect
}

// keptPorts returns the ports that never get to the daemon's chain, although
// others of their protocol do, and that nothing forwards.
func (t *natTrace) keptPorts() (kept xtables.PortSet) {
	certain, _ := t.certainPorts()
	for _, p := range [...]xtables.Protocol{xtables.TCP, xtables.UDP} {
		every := xtables.EveryPort(p)
		if rest := every.Minus(t.reachedOwn); len(every.And(t.reachedOwn)) > 0 {
			kept = kept.Or(rest.Minus(certain))
		}
	}
	for _, r := range t.forwarding { // perhaps
		kept = kept.Minus(r.ports)
	}
	return kept
}

// addForwarding records a rule that forwards. If it names no ports and comes
// after the daemon's chain, mappings go first.
func (t *natTrace) addForwarding(s xtables.Step) {
	ports := s.Ports
	if !s.NamesPorts {
		t.notForwarded = t.notForwarded.Or(ports.And(t.reachedOwn))
		ports = ports.Minus(t.reachedOwn)
	}
	if len(ports) > 0 {
		t.forwarding = append(t.forwarding, forwardingRule{ports, destination(s.Rule, ports), s.Chain + " " + s.Text})
	}
}

// certainPorts returns the ports that are forwarded in any case, and those that
// more than one rule may forward.
func (t *natTrace) certainPorts() (certain, shared xtables.PortSet) {
	var sets []xtables.PortSet
	for _, r := range t.forwarding {
		sets = append(sets, r.ports)
	}
	certain, shared = xtables.Union(sets...)
	return certain.Minus(t.notForwarded), shared
}

// shadowedPorts returns the forwarded ports that a mapping would take over.
func (t *natTrace) shadowedPorts() xtables.PortSet {
	certain, _ := t.certainPorts()
	return certain.And(t.reachedOwn)
}

// forwards returns the certain forwards, and the rules that make them or forward
// some connections only. A port that several rules may forward has no known
// target.
func (t *natTrace) forwards() (certain []portmap.Forward, rules []PortRule) {
	ports, shared := t.certainPorts()
	single, kept := ports.Minus(shared), t.keptPorts()
	for _, r := range t.forwarding {
		certain = appendForwards(certain, r.ports.And(single), r.target)
		rules = append(rules, r.portRules(ports, true)...)
		rules = append(rules, r.portRules(ports.Not(), false)...)
	}
	for _, r := range t.keeping {
		rules = append(rules, r.portRules(kept, true)...)
	}
	return appendForwards(certain, ports.And(shared).Or(kept), netip.AddrPort{}), rules
}

// portRules returns the rule for each range of these ports that it takes.
func (r forwardingRule) portRules(ports xtables.PortSet, certain bool) (rules []PortRule) {
	for _, f := range appendForwards(nil, r.ports.And(ports), r.target) {
		rules = append(rules, PortRule{f.Protocol, f.External, r.rule, certain})
	}
	return rules
}

// appendForwards appends the forwards of a set of ports to one target.
func appendForwards(list []portmap.Forward, set xtables.PortSet, target netip.AddrPort) []portmap.Forward {
	for _, p := range [...]portmap.Protocol{portmap.TCP, portmap.UDP} {
		for _, r := range set.Ranges(xtables.Protocol(p)) {
			list = append(list, portmap.Forward{Protocol: p, External: portmap.PortRange(r), Target: target})
		}
	}
	return list
}

// destination returns where the options of a rule, such as "--to-destination
// 10.0.0.1:80", forward these ports to. The zero AddrPort means the router
// itself or several targets, port 0 the same port: a range that contains all of
// the ports keeps them.
func destination(r xtables.Rule, external xtables.PortSet) netip.AddrPort {
	address, numbers, given := strings.Cut(r.Option("--to-destination"), ":")
	a, err := netip.ParseAddr(address)
	if err != nil || slices.ContainsFunc(r.Options, func(o string) bool { return strings.HasPrefix(o, "--random") }) {
		return netip.AddrPort{}
	}
	if !given {
		return netip.AddrPortFrom(a, 0)
	}
	ports, ok := xtables.ParsePortRange(numbers, "-")
	switch inside := xtables.PortsOf(ports, xtables.TCP, xtables.UDP); {
	case ok && ports.First == ports.Last:
		return netip.AddrPortFrom(a, ports.First)
	case ok && len(external.Minus(inside)) == 0:
		return netip.AddrPortFrom(a, 0)
	}
	return netip.AddrPort{}
}
