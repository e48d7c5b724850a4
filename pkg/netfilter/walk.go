package netfilter

import "igdd/pkg/portmap"

// walk follows a packet through the chains of a table, as the kernel does, for
// all ports at once.
type walk struct {
	chains listing
	packet packet
	// visit is called for each rule that the packet may match, in order. For a
	// target that is not a chain it returns whether it ends the walk.
	visit func(step) (ends bool)
}

// step is a rule that a packet may match.
type step struct {
	parsedRule
	chain, text string
	calls       bool    // the target is a chain of the table
	ports       portSet // of packets that may match it
	namesPorts  bool    // the rule, or one that called its chain, names ports
}

// maxDepth bounds the depth of calls from chain to chain. The kernel allows 16
// with nft, and any without loops with legacy iptables.
const maxDepth = 100

// from returns the ports of packets that may reach the end of a built-in chain.
func (w *walk) from(chain string) portSet {
	every := portmap.PortRange{First: 1, Last: numPorts - 1}
	return w.through(chain, step{ports: portsOf(every, portmap.TCP, portmap.UDP)}, 0)
}

// through returns the ports of packets that may return from a chain that a step
// has called.
func (w *walk) through(chain string, by step, depth int) (returned portSet) {
	here := by.ports
	if depth > maxDepth {
		return here
	}
	for _, text := range w.chains[chain] {
		rule := parseRule(splitRule(text))
		m := w.packet.matchAll(rule.conditions)
		s := step{rule, chain, text, w.chains.has(rule.target), here.and(m.may), by.namesPorts || m.namesPorts}
		if len(s.ports) == 0 {
			continue
		}
		rest := here.minus(m.must)
		ends := w.visit(s)
		switch {
		case rule.target == "RETURN":
			returned, here = returned.or(s.ports), rest
		case s.calls && rule.verb == "-g":
			returned, here = returned.or(w.through(rule.target, s, depth+1)), rest
		case s.calls:
			here = rest.or(w.through(rule.target, s, depth+1))
		case ends:
			here = rest
		}
	}
	return returned.or(here)
}
