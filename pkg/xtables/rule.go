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
	var r Rule
	words := splitRule(text)
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
