package netfilter

import (
	"slices"
	"strings"
)

// listing is what was seen of one table: for some chains their rules, without
// the leading "-A CHAIN ".
type listing map[string][]string

// has reports whether the chain exists.
func (l listing) has(chain string) bool { return l[chain] != nil }

// parseChain returns the rules of a chain in the lines that iptables -S prints
// of it. Lines that are not its rules are of no concern.
func parseChain(lines []string, chain string) []string {
	rules := []string{}
	for _, line := range lines {
		if rule, ok := strings.CutPrefix(line, "-A "+chain+" "); ok {
			rules = append(rules, rule)
		}
	}
	return rules
}

// words splits a rule as a shell would: at blanks, but not inside quotes,
// which iptables puts around text with blanks, escaping by backslash.
func words(rule string) []string {
	var list []string
	var word strings.Builder
	var begun, quoted, escaped bool
	for _, c := range []byte(rule) {
		switch {
		case escaped:
			word.WriteByte(c)
			escaped = false
		case c == '\\':
			begun, escaped = true, true
		case c == '"':
			begun, quoted = true, !quoted
		case c == ' ' && !quoted:
			if begun {
				list = append(list, word.String())
				word.Reset()
				begun = false
			}
		default:
			begun = true
			word.WriteByte(c)
		}
	}
	if begun {
		list = append(list, word.String())
	}
	return list
}

// option returns the argument of the first of the named options that a rule
// has, "" if it has none, and whether it is negated.
func option(rule []string, names ...string) (value string, negated bool) {
	for i := 0; i+1 < len(rule); i++ {
		if slices.Contains(names, rule[i]) {
			return rule[i+1], i > 0 && rule[i-1] == "!"
		}
	}
	return "", false
}

// target returns the chain or target that a rule leads to.
func target(rule []string) string {
	name, _ := option(rule, "-j", "-g")
	return name
}

// admits reports whether a rule can match what comes in by the device.
func admits(rule []string, device string) bool {
	pattern, negated := option(rule, "-i")
	if pattern == "" {
		return true
	}
	prefix, wild := strings.CutSuffix(pattern, "+")
	match := pattern == device || wild && strings.HasPrefix(device, prefix)
	return match != negated
}
