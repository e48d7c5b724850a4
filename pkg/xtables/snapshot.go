package xtables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// snapshotTimeout is for listing all tables: it needs no lock, and 10,000 rules
// take a slow board two seconds.
const snapshotTimeout = 10 * time.Second

// Snapshot is the tables of one family at one moment, by name. A table that has
// not been used is missing. Nothing may change it.
type Snapshot map[string]Table

// Table is the chains of one table, by name.
type Table map[string]*Chain

// Chain is a chain with its rules.
type Chain struct {
	Policy string   // "ACCEPT" or "DROP"; "-" or "": the chain is not built in
	Rules  []string // as iptables-save prints them, without "-A CHAIN "
	parsed []Rule   // of Rules, once they are needed
}

// Has reports whether the chain exists.
func (t Table) Has(chain string) bool { return t[chain] != nil }

// Rules returns the rules of a chain; none if it does not exist.
func (t Table) Rules(chain string) []string {
	if c := t[chain]; c != nil {
		return c.Rules
	}
	return nil
}

// parsedRules returns the rules of a chain in their parts.
func (t Table) parsedRules(chain string) []Rule {
	c := t[chain]
	if c == nil {
		return nil
	}
	if len(c.parsed) != len(c.Rules) {
		c.parsed = parseRules(c.Rules)
	}
	return c.parsed
}

// parseRules returns rules in their parts.
func parseRules(texts []string) []Rule {
	list := make([]Rule, 0, len(texts))
	for _, text := range texts {
		list = append(list, ParseRule(text))
	}
	return list
}

// policy returns the policy of a built-in chain.
func (t Table) policy(chain string) string {
	if c := t[chain]; c != nil {
		return c.Policy
	}
	return "ACCEPT" // before the table's first use
}

// Snapshot lists all tables at one moment, without the xtables lock.
// go-iptables lists each chain at another moment.
func (p *Programs) Snapshot(ctx context.Context) (Snapshot, error) { return p.list(ctx) }

// SnapshotTable lists one table.
func (p *Programs) SnapshotTable(ctx context.Context, table string) (Table, error) {
	s, err := p.list(ctx, "-t", table)
	return s[table], err
}

// list lists tables.
func (p *Programs) list(ctx context.Context, args ...string) (Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	path := p.path + "-save"
	text, err := run(ctx, nil, path, args...)
	if err != nil {
		return nil, err
	}
	s, err := ParseSnapshot(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// ParseSnapshot parses the output of iptables-save. Inside a table it ignores
// unknown lines; they are not rules.
func ParseSnapshot(text string) (Snapshot, error) {
	s := make(Snapshot)
	var t Table
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case strings.HasPrefix(word, "*"):
			t = make(Table)
			s[word[1:]] = t
		case t == nil:
			if err := checkOutside(line); err != nil {
				return nil, err
			}
		case line == "COMMIT":
			t = nil
		case strings.HasPrefix(word, ":"):
			policy, _, _ := strings.Cut(rest, " ")
			t.chain(word[1:]).Policy = policy
		case word == "-A":
			name, rule, _ := strings.Cut(rest, " ")
			c := t.chain(name)
			c.Rules = append(c.Rules, rule)
		}
	}
	if t != nil {
		return nil, errors.New("its output ends in the middle of a table")
	}
	return s, nil
}

// checkOutside returns an error for a line outside the tables that is not
// iptables-save's, or that says that it could not list a table which the daemon
// uses.
func checkOutside(line string) error {
	if name, ok := incompatible(line); ok {
		return fmt.Errorf("table %s has rules that only nft can list: move them to another table", name)
	}
	if line != "" && !strings.HasPrefix(line, "#") {
		return fmt.Errorf("its output has the unknown line %.80q", line)
	}
	return nil
}

// chain returns a chain, which it creates if it does not exist.
func (t Table) chain(name string) *Chain {
	if t[name] == nil {
		t[name] = new(Chain)
	}
	return t[name]
}

// incompatible returns the table that iptables-save cannot list, if the daemon
// uses it. A table that only "contains incompatible base-chains" is listed
// without them.
func incompatible(line string) (table string, ok bool) {
	_, rest, ok := strings.Cut(line, "Table `")
	name, rest, _ := strings.Cut(rest, "'")
	return name, ok && strings.Contains(rest, "is incompatible") && (name == "nat" || name == "filter")
}

// Count is what a rule has matched.
type Count struct{ Packets, Bytes uint64 }

// Counters lists the rules of a chain with what they have matched, without the
// xtables lock.
func (p *Programs) Counters(ctx context.Context, table, chain string) (map[string]Count, error) {
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	text, err := run(ctx, nil, p.path+"-save", "-c", "-t", table)
	if err != nil {
		return nil, err
	}
	counts := make(map[string]Count)
	for line := range strings.Lines(text) {
		numbers, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		rule, found := strings.CutPrefix(rest, "-A "+chain+" ")
		if n, ok := parseCount(numbers); ok && found {
			counts[rule] = counts[rule].Plus(n)
		}
	}
	return counts, nil
}

// Plus returns the sum of both.
func (c Count) Plus(o Count) Count { return Count{c.Packets + o.Packets, c.Bytes + o.Bytes} }

// parseCount parses "[PACKETS:BYTES]".
func parseCount(text string) (Count, bool) {
	inner, ok := strings.CutPrefix(text, "[")
	packets, bytes, _ := strings.Cut(strings.TrimSuffix(inner, "]"), ":")
	var c Count
	var errs [2]error
	c.Packets, errs[0] = strconv.ParseUint(packets, 10, 64)
	c.Bytes, errs[1] = strconv.ParseUint(bytes, 10, 64)
	return c, ok && errs[0] == nil && errs[1] == nil
}

// Jump is a rule that calls another chain, and the chain that it is in.
type Jump struct{ Chain, Rule string }

// JumpsTo returns the jumps to a chain.
func (t Table) JumpsTo(to string) []Jump {
	var list []Jump
	for _, name := range slices.Sorted(maps.Keys(t)) {
		for _, rule := range t[name].Rules {
			if strings.Contains(rule, to) && ParseRule(rule).Target == to {
				list = append(list, Jump{name, rule})
			}
		}
	}
	return list
}

// After returns the table after edits, as the kernel would carry them out. Each chain
// is copied once, however many edits it has.
func (t Table) After(edits ...Edit) Table {
	t = maps.Clone(t)
	if t == nil {
		t = make(Table)
	}
	copied := make(map[string]bool)
	for _, e := range edits {
		if e.Op == Remove {
			delete(t, e.Chain)
			continue
		}
		if !copied[e.Chain] || !t.Has(e.Chain) {
			t[e.Chain], copied[e.Chain] = t[e.Chain].clone(), true
		}
		t[e.Chain].carryOut(e)
	}
	return t
}

// clone returns a copy of the chain; of one that does not exist, nil, an empty one.
func (c *Chain) clone() *Chain {
	if c == nil {
		return &Chain{Policy: "-"}
	}
	n := &Chain{Policy: c.Policy, Rules: slices.Clone(c.Rules)}
	if len(c.parsed) == len(c.Rules) {
		n.parsed = slices.Clone(c.parsed)
	}
	return n
}

// carryOut carries out an edit.
func (c *Chain) carryOut(e Edit) {
	switch e.Op {
	case Append:
		c.replace(len(c.Rules), len(c.Rules), e.Rule)
	case Insert:
		at := min(e.Index, len(c.Rules))
		c.replace(at, at, e.Rule)
	case Delete:
		if i := slices.Index(c.Rules, e.Rule); i >= 0 {
			c.replace(i, i+1)
		}
	case Create, Flush:
		c.Rules, c.parsed = nil, nil
	}
}

// replace replaces the rules from one index up to another by new ones.
func (c *Chain) replace(from, to int, rules ...string) {
	if len(c.parsed) == len(c.Rules) {
		c.parsed = slices.Replace(c.parsed, from, to, parseRules(rules)...)
	}
	c.Rules = slices.Replace(c.Rules, from, to, rules...)
}
