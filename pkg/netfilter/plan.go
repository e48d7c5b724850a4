package netfilter

import (
	"maps"
	"slices"

	"igdd/pkg/portmap"
	"igdd/pkg/xtables"
)

// plan is what makes a family's tables agree with its mappings.
type plan struct {
	edits   map[*chain][]xtables.Edit
	rules   map[*chain][]string // that the chains have afterwards
	tables  xtables.Snapshot    // as they are afterwards
	stopped bool                // mappings have no rules, because the firewall is stopped
	dead    []string            // why connections do not get to the chains
}

// plan plans the edits after which the tables have exactly the rules of these
// mappings, and the jumps that they need. What is in place stays untouched.
func (f *family) plan(s xtables.Snapshot, wanted map[*chain][]string, n Network) plan {
	p := plan{edits: make(map[*chain][]xtables.Edit), rules: wanted, tables: maps.Clone(s)}
	for _, c := range f.chains {
		t := p.tables[c.table]
		switch {
		case c.isStopped(t):
			p.stopped = p.stopped || len(wanted[c]) > 0 && !c.isHairpin()
			if t.Has(c.name) {
				p.edits[c] = c.planRemoval(t)
				p.tables[c.table] = t.After(p.edits[c]...)
			}
		case !t.Has(c.name) && !c.isNeeded(len(wanted[c])):
		default:
			rules := c.planRules(t, wanted[c])
			jumps := c.planJumps(t.After(rules...), n)
			p.edits[c] = append(rules, jumps.edits...)
			p.tables[c.table] = t.After(p.edits[c]...)
			p.dead = append(p.dead, c.dead(p.tables, n)...)
		}
	}
	return p
}

// planRules returns the edits after which the chain has exactly the wanted
// rules. A chain without other rules is not flushed: its rules keep their
// counters.
func (c *chain) planRules(t xtables.Table, wanted []string) []xtables.Edit {
	lacking := make(map[string]int, len(wanted))
	for _, text := range wanted {
		lacking[text]++
	}
	foreign := false
	for _, text := range t.Rules(c.name) {
		lacking[text]--
		foreign = foreign || lacking[text] < 0
	}
	var edits []xtables.Edit
	foreign = foreign || c.isDisordered(t.Rules(c.name))
	if foreign || !t.Has(c.name) {
		edits = append(edits, xtables.Edit{Op: xtables.Create, Chain: c.name})
	}
	for _, text := range wanted {
		if foreign || lacking[text] > 0 {
			edits = append(edits, rule{c, text}.addition())
			lacking[text]--
		}
	}
	return edits
}

// isEmpty reports whether nothing has to be done.
func (p plan) isEmpty() bool {
	for _, edits := range p.edits {
		if len(edits) > 0 {
			return false
		}
	}
	return true
}

// transaction returns the plan as a transaction.
func (p plan) transaction(f *family) *transaction {
	t := f.newTransaction()
	for _, c := range f.chains {
		t.add(c, p.edits[c]...)
	}
	return t
}

// wantedRules returns the rules that the family's chains should have. A mapping
// that cannot be expressed as rules, or whose rules the kernel refuses, is
// skipped and does not affect the others.
func (f *Firewall) wantedRules(family *family) map[*chain][]string {
	wanted := family.hairpin.rules(f.currentNetwork())
	for _, m := range family.mappings() {
		if family.refused[m.Key] != nil {
			continue
		}
		rules, err := f.rules(m)
		if err != nil {
			f.log.Warn("skipped a mapping that has no rules", "mapping", m.Key, "err", err)
			continue
		}
		for _, r := range rules {
			wanted[r.chain] = append(wanted[r.chain], r.text)
		}
	}
	return wanted
}

// mappings returns what the family holds, in order of creation.
func (f *family) mappings() []*portmap.Mapping {
	f.holding.Lock()
	defer f.holding.Unlock()
	return slices.Clone(f.held)
}
