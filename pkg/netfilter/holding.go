package netfilter

import (
	"slices"
	"strings"
)

// holding is what is ours in one table.
type holding struct {
	program, table string   // "ip6tables", "filter"
	made           []string // chains that we made
	used           []string // chains of others that have rules of ours
	jumps          []jump   // that we made
	// adopts tells that the jumps to made chains are not known: those that stand
	// where we make jumps count as ours.
	adopts bool
}

// empty reports whether nothing is ours.
func (h holding) empty() bool { return len(h.made)+len(h.used)+len(h.jumps) == 0 }

// merge joins the holdings of each table.
func merge(list []holding) []holding {
	var merged []holding
	for _, h := range list {
		i := slices.IndexFunc(merged, func(m holding) bool { return m.program == h.program && m.table == h.table })
		switch {
		case h.empty():
		case i < 0:
			h.made, h.used, h.jumps = slices.Clip(h.made), slices.Clip(h.used), slices.Clip(h.jumps)
			merged = append(merged, h)
		default:
			m := &merged[i]
			m.made, m.used, m.jumps = append(m.made, h.made...), append(m.used, h.used...), append(m.jumps, h.jumps...)
			m.adopts = m.adopts || h.adopts
		}
	}
	return merged
}

// lines returns the holding as the record has it: for each thing of ours what
// takes it away, and a chain that we made by its name alone.
func (h holding) lines() []string {
	var lines []string
	table := h.program + " " + h.table + " "
	for _, name := range h.made {
		lines = append(lines, table+name)
	}
	for _, name := range h.used {
		lines = append(lines, table+edit{op: opFlush, chain: name}.String())
	}
	for _, j := range h.jumps {
		lines = append(lines, table+edit{opDelete, j.hook, j.rule}.String())
	}
	return lines
}

// parseHolding reads one line of the record.
func parseHolding(line string) (h holding, ok bool) {
	program, rest, _ := strings.Cut(line, " ")
	table, rest, _ := strings.Cut(rest, " ")
	h = holding{program: program, table: table}
	op, rest, isEdit := strings.Cut(rest, " ")
	name, rule, isRule := strings.Cut(rest, " ")
	switch {
	case program != "iptables" && program != "ip6tables" || !validName.MatchString(table):
	case !isEdit && validName.MatchString(op):
		h.made = []string{op}
	case op == opFlush && !isRule && validName.MatchString(name):
		h.used = []string{name}
	case op == opDelete && isRule && validName.MatchString(name):
		h.jumps = []jump{{name, rule}}
	}
	return h, !h.empty()
}
