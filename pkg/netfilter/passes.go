package netfilter

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// ProbeIPv6 returns why ip6tables does not work, nil if it does.
func ProbeIPv6() error {
	path, err := findProgram("ip6tables")
	if err == nil {
		_, err = probe(path)
	}
	return err
}

// PassesIPv6 reports whether the router forwards any new IPv6 connection of TCP
// or UDP, apart from those that the chain ownChain accepts. It does not need the
// xtables lock.
func PassesIPv6(ctx context.Context, ownChain string) (bool, error) {
	path, err := findProgram("ip6tables")
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	text, err := run(ctx, nil, path+"-save")
	if err != nil {
		return false, err
	}
	tables, err := parseListing(text)
	if err != nil {
		return false, fmt.Errorf("%s-save: %w", path, err)
	}
	return passes(text, tables, ownChain), nil
}

// policyOf returns the policy of a chain in the output of iptables-save.
func policyOf(text, table, chain string) string {
	inTable := false
	for line := range strings.Lines(text) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case strings.HasPrefix(word, "*"):
			inTable = word == "*"+table
		case inTable && word == ":"+chain:
			policy, _, _ := strings.Cut(rest, " ")
			return policy
		}
	}
	return "ACCEPT" // before the table's first use
}

// filteringPath is the chains where a routed packet may be dropped, in their
// order.
var filteringPath = [...]struct{ table, chain string }{
	{"raw", "PREROUTING"}, {"mangle", "PREROUTING"}, {"mangle", "FORWARD"}, {"filter", "FORWARD"},
}

// passes reports whether the rules in the output of ip6tables-save let any new
// connection through.
func passes(text string, tables map[string]listing, ownChain string) bool {
	for _, c := range filteringPath {
		accepts, ends := tables[c.table].accepts(c.chain, ownChain, 0)
		if !accepts && (ends || policyOf(text, c.table, c.chain) != "ACCEPT") {
			return false
		}
	}
	return true
}

// accepts reports whether a rule of a chain, or of one that it calls, accepts
// any new connections, and if none does, whether all end there.
func (l listing) accepts(chain, ownChain string, depth int) (accepts, ends bool) {
	if depth > maxDepth {
		return false, false
	}
	for _, rule := range l[chain] {
		r := parseRule(splitRule(rule))
		if r.target == ownChain || r.matchesNoNewConnection() {
			continue
		}
		unconditional := !slices.ContainsFunc(r.conditions, func(o condition) bool { return o.option != "--comment" && o.value != "comment" })
		switch {
		case slices.Contains([]string{"ACCEPT", "NFQUEUE", "QUEUE"}, r.target):
			return true, true
		case l.has(r.target):
			accepts, ends = l.accepts(r.target, ownChain, depth+1)
			if accepts || unconditional && (ends || r.verb == "-g") {
				return accepts, ends
			}
		case unconditional && (r.target == "DROP" || r.target == "REJECT"):
			return false, true
		case unconditional && r.target == "RETURN":
			return false, false
		}
	}
	return false, false
}

// matchesNoNewConnection reports whether a rule cannot match the first packet of
// a TCP or UDP connection from another host.
func (r parsedRule) matchesNoNewConnection() bool {
	return slices.ContainsFunc(r.conditions, func(o condition) bool {
		switch o.option {
		case "-i", "-o":
			return o.value == "lo" && !o.negated
		case "-p", "--ctstate", "--state", "--tcp-flags":
			m := packet{}.matchOne(o)
			if o.negated {
				m = m.not()
			}
			return len(m.may) == 0
		}
		return false
	})
}
