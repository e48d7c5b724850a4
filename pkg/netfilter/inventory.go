package netfilter

import (
	"slices"
	"strings"

	"igdd/pkg/xtables"
)

// inventory is what the daemon owns in one table.
type inventory struct {
	program, table string         // "ip6tables", "filter"
	created        []string       // chains that the daemon created
	borrowed       []string       // chains of other programs that have the daemon's rules
	jumps          []xtables.Jump // that the daemon added
	// adoptJumps means that the jumps to created chains are not known: all those
	// in the daemon's hooks count as its own.
	adoptJumps bool
}

// isEmpty reports whether the daemon owns nothing.
func (v inventory) isEmpty() bool { return len(v.created)+len(v.borrowed)+len(v.jumps) == 0 }

// mergeInventories merges the inventories of the same table.
func mergeInventories(list []inventory) []inventory {
	var merged []inventory
	for _, v := range list {
		i := slices.IndexFunc(merged, func(m inventory) bool { return m.program == v.program && m.table == v.table })
		switch {
		case v.isEmpty():
		case i < 0:
			v.created, v.borrowed, v.jumps = slices.Clip(v.created), slices.Clip(v.borrowed), slices.Clip(v.jumps)
			merged = append(merged, v)
		default:
			m := &merged[i]
			m.created, m.borrowed, m.jumps = append(m.created, v.created...), append(m.borrowed, v.borrowed...), append(m.jumps, v.jumps...)
			m.adoptJumps = m.adoptJumps || v.adoptJumps
		}
	}
	return merged
}

// lines returns the inventory as the ownership record has it: each item as the
// edit that removes it, and a created chain as its name alone.
func (v inventory) lines() []string {
	var lines []string
	table := v.program + " " + v.table + " "
	for _, name := range v.created {
		lines = append(lines, table+name)
	}
	for _, name := range v.borrowed {
		lines = append(lines, table+xtables.Edit{Op: xtables.Flush, Chain: name}.String())
	}
	for _, j := range v.jumps {
		lines = append(lines, table+xtables.Edit{Op: xtables.Delete, Chain: j.Chain, Rule: j.Rule}.String())
	}
	return lines
}

// parseInventory parses one line of the ownership record.
func parseInventory(line string) (v inventory, ok bool) {
	program, rest, _ := strings.Cut(line, " ")
	table, rest, _ := strings.Cut(rest, " ")
	v = inventory{program: program, table: table}
	op, rest, isEdit := strings.Cut(rest, " ")
	name, rule, isRule := strings.Cut(rest, " ")
	switch {
	case program != "iptables" && program != "ip6tables" || !isValidName(table):
	case !isEdit && isValidName(op):
		v.created = []string{op}
	case op == xtables.Flush && !isRule && isValidName(name):
		v.borrowed = []string{name}
	case op == xtables.Delete && isRule && isValidName(name):
		v.jumps = []xtables.Jump{{Chain: name, Rule: rule}}
	}
	return v, !v.isEmpty()
}
