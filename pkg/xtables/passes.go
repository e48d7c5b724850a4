package xtables

import "slices"

// filteringPath is the chains where a routed packet may be dropped, in their
// order.
var filteringPath = [...]struct{ table, chain string }{
	{"raw", "PREROUTING"}, {"mangle", "PREROUTING"}, {"mangle", "FORWARD"}, {"filter", "FORWARD"},
}

// PassesAny reports whether the router forwards any new connection of TCP or
// UDP, apart from those that the chain ownChain accepts.
func (s Snapshot) PassesAny(ownChain string) bool {
	for _, c := range filteringPath {
		accepts, ends := s[c.table].accepts(c.chain, ownChain, 0)
		if !accepts && (ends || s[c.table].policy(c.chain) != "ACCEPT") {
			return false
		}
	}
	return true
}

// accepts reports whether a rule of a chain, or of one that it calls, accepts
// any new connections, and if none does, whether all end there.
func (t Table) accepts(chain, ownChain string, depth int) (accepts, ends bool) {
	if depth > maxDepth {
		return false, false
	}
	for _, r := range t.parsedRules(chain) {
		if r.Target == ownChain || r.matchesNoNewConnection() {
			continue
		}
		unconditional := !slices.ContainsFunc(r.Conditions, func(o Condition) bool { return o.Option != "--comment" && o.Value != "comment" })
		switch {
		case slices.Contains([]string{"ACCEPT", "NFQUEUE", "QUEUE"}, r.Target):
			return true, true
		case t.Has(r.Target):
			accepts, ends = t.accepts(r.Target, ownChain, depth+1)
			if accepts || unconditional && (ends || r.Verb == "-g") {
				return accepts, ends
			}
		case unconditional && (r.Target == "DROP" || r.Target == "REJECT"):
			return false, true
		case unconditional && r.Target == "RETURN":
			return false, false
		}
	}
	return false, false
}

// matchesNoNewConnection reports whether a rule cannot match the first packet of
// a TCP or UDP connection from another host.
func (r Rule) matchesNoNewConnection() bool {
	return slices.ContainsFunc(r.Conditions, func(o Condition) bool {
		switch o.Option {
		case "-i", "-o":
			return o.Value == "lo" && !o.Negated
		case "-p", "--ctstate", "--state", "--tcp-flags":
			m := (&Packet{}).matchOne(o)
			if o.Negated {
				m = m.not()
			}
			return len(m.may) == 0
		}
		return false
	})
}
