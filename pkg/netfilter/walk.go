package netfilter

import "igdd/pkg/portmap"

// walk follows a packet through the chains of a table, as the kernel does, for
// all ports at the same time.
type walk struct {
	chains listing
	packet packet
	// visit hears of each rule that the packet may match, in order. For a
	// target that is no chain it says whether the packet ends there.
	visit func(step) (ends bool)
}

// step is a rule that a packet may match.
type step struct {
	parsedRule
	chain, text string
	calls       bool    // the target is a chain of the table
	ports       portSet // for which it may
	chooses     bool    // the rule, or one on the way to it, names ports
}

// deepest bounds how many chains may call each other. The kernel of nft allows
// 16; that of legacy iptables forbids loops alone.
const deepest = 100

// from returns the ports of a packet that may come to the end of a built-in
// chain.
func (w *walk) from(chain string) portSet {
	every := portmap.PortRange{First: 1, Last: ports - 1}
	return w.through(chain, step{ports: portsOf(every, portmap.TCP, portmap.UDP)}, 0)
}

// through returns the ports of a packet that may come back from a chain, which
// it gets to by a step.
func (w *walk) through(chain string, by step, depth int) (back portSet) {
	here := by.ports
	if depth > deepest {
		return here
	}
	for _, text := range w.chains[chain] {
		c := parseRule(splitRule(text))
		r := w.packet.meets(c.conditions)
		s := step{c, chain, text, w.chains.has(c.target), here.and(r.may), by.chooses || r.chooses}
		if len(s.ports) == 0 {
			continue
		}
		rest := here.minus(r.must)
		ends := w.visit(s)
		switch {
		case c.target == "RETURN":
			back, here = back.or(s.ports), rest
		case s.calls && c.verb == "-g":
			back, here = back.or(w.through(c.target, s, depth+1)), rest
		case s.calls:
			here = rest.or(w.through(c.target, s, depth+1))
		case ends:
			here = rest
		}
	}
	return back.or(here)
}
