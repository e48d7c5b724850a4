package main

import (
	"slices"
	"strings"
)

// rule is a rule of a table, as iptables-save prints it.
type rule struct {
	table, text string // text begins with "-A CHAIN"
}

func (r rule) chain() string { return strings.Fields(r.text)[1] }

// option returns the word after an option, "" if the rule lacks it.
func (r rule) option(name string) string {
	words := strings.Fields(r.text)
	if i := slices.Index(words, name); i >= 0 && i+1 < len(words) {
		return words[i+1]
	}
	return ""
}

// isService reports whether the daemon restores the rule: it is in one of its chains, or
// leads to one that it needs. MINIUPNPD-POSTROUTING is the administrator's choice.
func (r rule) isService() bool { return r.isMapping() || r.isJump() }

func (r rule) isMapping() bool { return strings.HasPrefix(r.text, "-A MINIUPNPD") }

func (r rule) isJump() bool { return r.option("-j") == "MINIUPNPD" }

// effect returns what the rule is for. The conditions of a jump do not matter: the
// daemon may write them in another way than the firewall did.
func (r rule) effect() string {
	if r.isJump() {
		return r.table + " " + r.chain() + " " + r.option("-j")
	}
	return r.table + " " + r.text
}

// args returns the arguments of iptables that do to the rule what the option says.
func (r rule) args(option string) []string {
	return append([]string{"-t", r.table, option}, strings.Fields(r.text)[1:]...)
}

// parseRules returns the rules in the output of iptables-save.
func parseRules(saved string) (all []rule) {
	table := ""
	for line := range strings.Lines(saved) {
		line = strings.TrimSpace(line)
		if name, is := strings.CutPrefix(line, "*"); is {
			table = name
		}
		if strings.HasPrefix(line, "-A ") {
			all = append(all, rule{table, line})
		}
	}
	return all
}

// missing returns the rules of wanted whose effect is not in present.
func missing(wanted, present []rule) (gone []rule) {
	has := make(map[string]bool)
	for _, r := range present {
		has[r.effect()] = true
	}
	for _, r := range wanted {
		if !has[r.effect()] {
			gone = append(gone, r)
		}
	}
	return gone
}

// only returns the rules that a condition holds for.
func only(rules []rule, is func(rule) bool) (chosen []rule) {
	for _, r := range rules {
		if is(r) {
			chosen = append(chosen, r)
		}
	}
	return chosen
}
