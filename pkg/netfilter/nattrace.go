package netfilter

import (
	"net/netip"
	"slices"
	"strings"

	"igdd/pkg/portmap"
)

// natTrace is what happens to a packet in the chains of table nat, by its
// destination port.
type natTrace struct {
	ownChain     string  // the daemon's chain
	reachedOwn   portSet // may have passed through it
	notForwarded portSet // may leave the table unchanged, or be forwarded by a mapping
	forwarding   []forwardingRule
}

// forwardingRule is a rule that forwards a packet.
type forwardingRule struct {
	ports  portSet // of packets that may match it
	target netip.AddrPort
	rule   string
}

// traceNAT follows a packet through a listing.
func (c *chain) traceNAT(l listing, p packet) *natTrace {
	t := &natTrace{ownChain: c.name}
	w := walk{chains: l, packet: p, visit: t.visit}
	t.notForwarded = w.from(c.builtInHook().chain).or(t.notForwarded)
	return t
}

// visit records what a rule does with a packet.
func (t *natTrace) visit(s step) (ends bool) {
	if s.calls {
		if s.target == t.ownChain {
			t.reachedOwn = t.reachedOwn.or(s.ports)
		}
		return false
	}
	switch s.target {
	case "", "RETURN", "LOG", "NFLOG", "ULOG", "MARK", "CONNMARK", "SET", "TRACE", "AUDIT", "TEE", "IDLETIMER", "LED", "RATEEST":
		return false
	case "DNAT", "REDIRECT", "NETMAP":
		t.addForwarding(s)
		return true
	}
	t.notForwarded = t.notForwarded.or(s.ports) // the packet leaves the table here, or may do so
	return s.target == "ACCEPT"
}

// addForwarding records a rule that forwards. If it names no ports and comes
// after the daemon's chain, mappings go first.
func (t *natTrace) addForwarding(s step) {
	ports := s.ports
	if !s.namesPorts {
		t.notForwarded = t.notForwarded.or(ports.and(t.reachedOwn))
		ports = ports.minus(t.reachedOwn)
	}
	if len(ports) > 0 {
		t.forwarding = append(t.forwarding, forwardingRule{ports, destination(s.options, ports), s.chain + " " + s.text})
	}
}

// certainPorts returns the ports that are forwarded in any case, and those that
// more than one rule may forward.
func (t *natTrace) certainPorts() (certain, shared portSet) {
	var sets []portSet
	for _, r := range t.forwarding {
		sets = append(sets, r.ports)
	}
	certain, shared = union(sets...)
	return certain.minus(t.notForwarded), shared
}

// shadowedPorts returns the forwarded ports that a mapping would take over.
func (t *natTrace) shadowedPorts() portSet {
	certain, _ := t.certainPorts()
	return certain.and(t.reachedOwn)
}

// forwards returns the certain forwards, and the rules that forward more than
// those. A port that several rules may forward has no known target.
func (t *natTrace) forwards() (certain []portmap.Forward, perhaps []Conditional) {
	ports, shared := t.certainPorts()
	uncertain, single := ports.not(), ports.minus(shared)
	for _, r := range t.forwarding {
		certain = appendForwards(certain, r.ports.and(single), r.target)
		for _, f := range appendForwards(nil, r.ports.and(uncertain), r.target) {
			perhaps = append(perhaps, Conditional{f.Protocol, f.External, r.rule})
		}
	}
	return appendForwards(certain, ports.and(shared), netip.AddrPort{}), perhaps
}

// appendForwards appends the forwards of a set of ports to one target.
func appendForwards(list []portmap.Forward, set portSet, target netip.AddrPort) []portmap.Forward {
	for _, p := range [...]portmap.Protocol{portmap.TCP, portmap.UDP} {
		for _, r := range set.ranges(p) {
			list = append(list, portmap.Forward{Protocol: p, External: r, Target: target})
		}
	}
	return list
}

// destination returns where the options of a rule, such as "--to-destination
// 10.0.0.1:80", forward these ports to. The zero AddrPort means the router
// itself or several targets, port 0 the same port: a range that contains all of
// the ports keeps them.
func destination(options []string, external portSet) netip.AddrPort {
	to, _ := option(options, "--to-destination")
	address, numbers, given := strings.Cut(to, ":")
	a, err := netip.ParseAddr(address)
	if err != nil || slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, "--random") }) {
		return netip.AddrPort{}
	}
	if !given {
		return netip.AddrPortFrom(a, 0)
	}
	r, ok := portRange(numbers, "-")
	switch inside := portsOf(r, portmap.TCP, portmap.UDP); {
	case ok && r.First == r.Last:
		return netip.AddrPortFrom(a, r.First)
	case ok && len(external.minus(inside)) == 0:
		return netip.AddrPortFrom(a, 0)
	}
	return netip.AddrPort{}
}
