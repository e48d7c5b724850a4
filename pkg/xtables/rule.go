package xtables

import (
	"slices"
	"strings"
)

// Condition is an option that selects packets.
type Condition struct {
	Option, Value string // "--dport", "80"; several words are separated by blanks
	Negated       bool
}

// Rule is a rule in its parts.
type Rule struct {
	Conditions []Condition
	Verb       string   // "-j" (jump) or "-g" (goto); "": the rule only counts
	Target     string   // a chain or an extension
	Options    []string // of the extension
}

// ParseRule parses a rule as iptables-save prints it, without "-A CHAIN": first
// the conditions, then the target.
func ParseRule(text string) Rule {
	words := splitRule(text)
	r := Rule{Conditions: make([]Condition, 0, len(words)/2)}
	negated := false
	for i := 0; i < len(words); {
		word := words[i]
		i++
		switch {
		case word == "!":
			negated = true
			continue
		case (word == "-j" || word == "-g") && i < len(words):
			r.Verb, r.Target, r.Options = word, words[i], words[i+1:]
			return r
		}
		n := operands(word, words[i:])
		r.Conditions = append(r.Conditions, Condition{word, strings.Join(words[i:i+n], " "), negated})
		i += n
		negated = false
	}
	return r
}

// Condition returns the rule's first condition of this option; the zero
// Condition if there is none.
func (r Rule) Condition(option string) Condition {
	for _, c := range r.Conditions {
		if c.Option == option {
			return c
		}
	}
	return Condition{}
}

// Option returns the argument of an option of the target, "" if there is none.
func (r Rule) Option(name string) string {
	if i := slices.Index(r.Options, name); i >= 0 && i+1 < len(r.Options) {
		return r.Options[i+1]
	}
	return ""
}

// textOptions have an argument that may look like another option.
var textOptions = [...]string{
	"--comment", "--string", "--hex-string", "--log-prefix", "--nflog-prefix", "--ulog-prefix",
	"--name", "--hashlimit-name", "--rateest-name", "--label", "--led-trigger-id", "--selctx", "--helper", "--path",
}

// operands returns how many of the words after an option belong to it.
func operands(option string, rest []string) int {
	if slices.Contains(textOptions[:], option) {
		return min(1, len(rest))
	}
	n := slices.IndexFunc(rest, func(word string) bool { return word == "!" || strings.HasPrefix(word, "-") })
	if n < 0 {
		return len(rest)
	}
	return n
}

// splitRule splits a rule as a shell would: at blanks, but not inside quotes,
// which iptables puts around text with blanks, escaping by backslash. Words without
// either are parts of the rule's text, not copies.
func splitRule(rule string) []string {
	list := make([]string, 0, 1+strings.Count(rule, " "))
	for rule = strings.TrimLeft(rule, " "); rule != ""; rule = strings.TrimLeft(rule, " ") {
		n := strings.IndexAny(rule, ` "\`)
		var word string
		switch {
		case n < 0:
			word, rule = rule, ""
		case rule[n] == ' ':
			word, rule = rule[:n], rule[n:]
		default:
			word, rule = unquote(rule)
		}
		list = append(list, word)
	}
	return list
}

// unquote returns the first word of a rule without quotes and backslashes, and what
// follows.
func unquote(rule string) (word, rest string) {
	var b strings.Builder
	var quoted, escaped bool
	for i, c := range []byte(rule) {
		switch {
		case escaped:
			b.WriteByte(c)
			escaped = false
		case c == '\\':
			escaped = true
		case c == '"':
			quoted = !quoted
		case c == ' ' && !quoted:
			return b.String(), rule[i:]
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), ""
}

// MatchesDevice reports whether the rule can match packets that come in (side
// "-i") or go out (side "-o") by the device, or by one that the device covers if
// it is a pattern.
func (r Rule) MatchesDevice(side, device string) bool {
	c := r.Condition(side)
	switch {
	case c.Value == "":
		return true
	case c.Negated:
		return !Covers(c.Value, device)
	}
	return Covers(c.Value, device) || Covers(device, c.Value)
}

// Covers reports whether a pattern, such as "ppp+", matches each device that
// another one matches.
func Covers(pattern, device string) bool {
	prefix, wild := strings.CutSuffix(pattern, "+")
	return pattern == device || wild && strings.HasPrefix(device, prefix)
}
