package netfilter

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// listing is the rules of each chain of a table, without the leading "-A CHAIN ".
type listing map[string][]string

// has reports whether the chain exists.
func (l listing) has(chain string) bool { return l[chain] != nil }

// parseListing parses the output of iptables-save: the tables by name. It
// ignores unknown lines; they are not rules.
func parseListing(text string) (map[string]listing, error) {
	tables := make(map[string]listing)
	var l listing
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case strings.HasPrefix(word, "*"):
			l = make(listing)
			tables[word[1:]] = l
		case l == nil:
			if name, ok := incompatible(line); ok {
				return nil, fmt.Errorf("table %s has rules that only nft can list: move them to another table", name)
			}
		case line == "COMMIT":
			l = nil
		case strings.HasPrefix(word, ":"):
			if l[word[1:]] == nil {
				l[word[1:]] = []string{}
			}
		case word == "-A":
			chain, rule, _ := strings.Cut(rest, " ")
			l[chain] = append(l[chain], rule)
		}
	}
	return tables, nil
}

// incompatible returns the table that iptables-save cannot list, if the daemon
// uses it.
func incompatible(line string) (table string, ok bool) {
	_, rest, ok := strings.Cut(line, "Table `")
	name, rest, _ := strings.Cut(rest, "'")
	return name, ok && strings.Contains(rest, "incompatible") && (name == "nat" || name == "filter")
}

// splitRule splits a rule as a shell would: at blanks, but not inside quotes,
// which iptables puts around text with blanks, escaping by backslash.
func splitRule(rule string) []string {
	var list []string
	var word strings.Builder
	var inWord, quoted, escaped bool
	for _, c := range []byte(rule) {
		switch {
		case escaped:
			word.WriteByte(c)
			escaped = false
		case c == '\\':
			inWord, escaped = true, true
		case c == '"':
			inWord, quoted = true, !quoted
		case c == ' ' && !quoted:
			if inWord {
				list = append(list, word.String())
				word.Reset()
				inWord = false
			}
		default:
			inWord = true
			word.WriteByte(c)
		}
	}
	if inWord {
		list = append(list, word.String())
	}
	return list
}

// textOptions have an argument that may look like another option.
var textOptions = [...]string{
	"--comment", "--string", "--hex-string", "--log-prefix", "--nflog-prefix", "--ulog-prefix",
	"--name", "--hashlimit-name", "--rateest-name", "--label", "--led-trigger-id", "--selctx", "--helper", "--path",
}

// option returns the argument of the first of these options in a rule, "" if it
// has none of them, and whether it is negated.
func option(rule []string, names ...string) (value string, negated bool) {
	for i := 0; i+1 < len(rule); i++ {
		switch {
		case slices.Contains(names, rule[i]):
			return rule[i+1], i > 0 && rule[i-1] == "!"
		case slices.Contains(textOptions[:], rule[i]):
			i++
		}
	}
	return "", false
}

// target returns the chain or extension that a rule jumps to.
func target(rule []string) string {
	name, _ := option(rule, "-j", "-g")
	return name
}

// matchesDevice reports whether a rule can match packets that come in (side
// "-i") or go out (side "-o") by the device, or by one that the device covers if
// it is a pattern.
func matchesDevice(rule []string, side, device string) bool {
	pattern, negated := option(rule, side)
	switch {
	case pattern == "":
		return true
	case negated:
		return !covers(pattern, device)
	}
	return covers(pattern, device) || covers(device, pattern)
}

// covers reports whether a pattern matches each device that another one matches.
func covers(pattern, device string) bool {
	prefix, wild := strings.CutSuffix(pattern, "+")
	return pattern == device || wild && strings.HasPrefix(device, prefix)
}

// jumpsTo returns the jumps to a chain.
func (l listing) jumpsTo(to string) []jump {
	var list []jump
	for name, rules := range l {
		for _, rule := range rules {
			if strings.Contains(rule, to) && target(splitRule(rule)) == to {
				list = append(list, jump{name, rule})
			}
		}
	}
	return list
}

// after returns the listing after edits that delete rules and flush chains.
func (l listing) after(edits []edit) listing {
	l = maps.Clone(l)
	for _, e := range edits {
		switch i := slices.Index(l[e.chain], e.rule); {
		case e.op == opFlush:
			l[e.chain] = []string{}
		case e.op == opDelete && i >= 0:
			l[e.chain] = slices.Delete(slices.Clone(l[e.chain]), i, i+1)
		}
	}
	return l
}
