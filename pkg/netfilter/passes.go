package netfilter

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// ProbeIPv6 returns why ip6tables does not work, nil if it does.
func ProbeIPv6() error {
	path, err := find("ip6tables")
	if err == nil {
		_, err = probe(path)
	}
	return err
}

// PassesIPv6 reports whether ip6tables lets any new connection of TCP or UDP
// through the router, but for what the chain of that name lets in, which is
// ours. It needs no xtables lock.
func PassesIPv6(ctx context.Context, ours string) (bool, error) {
	path, err := find("ip6tables")
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	text, err := run(ctx, nil, path+"-save")
	if err != nil {
		return false, err
	}
	tables, err := parseListing(text)
	if err != nil {
		return false, fmt.Errorf("%s-save: %w", path, err)
	}
	return passes(text, tables, ours), nil
}

// policyOf returns what iptables-save prints as the policy of a chain.
func policyOf(text, table, chain string) string {
	here := false
	for line := range strings.Lines(text) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case strings.HasPrefix(word, "*"):
			here = word == "*"+table
		case here && word == ":"+chain:
			policy, _, _ := strings.Cut(rest, " ")
			return policy
		}
	}
	return "ACCEPT" // before the table's first use
}

// filteringPath is where a packet that is routed may be dropped, in the order in
// which it comes there.
var filteringPath = [...]struct{ table, chain string }{
	{"raw", "PREROUTING"}, {"mangle", "PREROUTING"}, {"mangle", "FORWARD"}, {"filter", "FORWARD"},
}

// passes reports whether the rules that ip6tables-save prints let anything
// through.
func passes(text string, tables map[string]listing, ours string) bool {
	for _, at := range filteringPath {
		accepts, ends := tables[at.table].accepts(at.chain, ours, 0)
		if !accepts && (ends || policyOf(text, at.table, at.chain) != "ACCEPT") {
			return false
		}
	}
	return true
}

// accepts reports whether a rule of a chain, or of one that it calls, lets new
// connections through, and if none does, whether each ends there.
func (l listing) accepts(chain, ours string, depth int) (accepts, ends bool) {
	if depth > deepest {
		return false, false
	}
	for _, rule := range l[chain] {
		c := parseRule(splitRule(rule))
		if c.target == ours || c.ofNothingNew() {
			continue
		}
		all := !slices.ContainsFunc(c.conditions, func(o condition) bool { return o.option != "--comment" && o.value != "comment" })
		switch {
		case slices.Contains([]string{"ACCEPT", "NFQUEUE", "QUEUE"}, c.target):
			return true, true
		case l.has(c.target):
			accepts, ends = l.accepts(c.target, ours, depth+1)
			if accepts || all && (ends || c.verb == "-g") {
				return accepts, ends
			}
		case all && (c.target == "DROP" || c.target == "REJECT"):
			return false, true
		case all && c.target == "RETURN":
			return false, false
		}
	}
	return false, false
}

// ofNothingNew reports whether a rule matches no first packet of TCP or UDP that
// comes from another host.
func (c parsedRule) ofNothingNew() bool {
	return slices.ContainsFunc(c.conditions, func(o condition) bool {
		switch o.option {
		case "-i", "-o":
			return o.value == "lo" && !o.negated
		case "-p", "--ctstate", "--state", "--tcp-flags":
			r := packet{}.meetsOne(o)
			if o.negated {
				r = r.not()
			}
			return len(r.may) == 0
		}
		return false
	})
}
