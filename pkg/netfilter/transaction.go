package netfilter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"igdd/pkg/portmap"
)

// section is the part of a transaction for one table: the kernel carries out
// all of it or nothing.
type section struct {
	family *family
	table  string
	edits  []edit
}

// transaction is the edits of all tables, in the order in which they are
// committed.
type transaction []section

// newTransaction returns a transaction with an empty section for each table that
// has chains of the daemon's.
func (f *Firewall) newTransaction() transaction {
	t := transaction{{family: f.ipv4, table: f.nat.table}, {family: f.ipv4, table: f.forward.table}}
	if f.forward6 != nil {
		t = append(t, section{family: f.ipv6, table: f.forward6.table})
	}
	return t
}

// add adds edits to the section of the chain's table.
func (t transaction) add(c *chain, edits ...edit) {
	for i := range t {
		if t[i].family == c.family && t[i].table == c.table {
			t[i].edits = append(t[i].edits, edits...)
		}
	}
}

// has reports whether the transaction has a section for the chain's table.
func (t transaction) has(c *chain) bool {
	return slices.ContainsFunc(t, func(s section) bool { return s.family == c.family && s.table == c.table })
}

// withoutEmpty returns the sections that have edits.
func (t transaction) withoutEmpty() transaction {
	return slices.DeleteFunc(t, func(s section) bool { return len(s.edits) == 0 })
}

// committer commits sections of one family by iptables-restore.
type committer interface {
	// commit carries out the sections in order up to the first that fails, or
	// until ctx ends, and returns how many were carried out. After
	// errInterrupted more of them may have been.
	commit(context.Context, []section) (done int, err error)
	// close releases what is kept for the next transaction.
	close()
}

// errInterrupted is the error of a committer that cannot tell how many sections
// were carried out.
var errInterrupted = errors.New("interrupted")

// committed is a comment that iptables-restore --verbose prints when it has
// read it: after the section's COMMIT.
const committed = "# committed"

// render returns the sections as input for iptables-restore.
func render(sections []section) []byte {
	var text bytes.Buffer
	for _, s := range sections {
		text.WriteString("*" + s.table + "\n")
		for _, e := range s.edits {
			text.WriteString(e.String() + "\n")
		}
		text.WriteString("COMMIT\n" + committed + "\n")
	}
	return text.Bytes()
}

// inverse returns the transaction that undoes one of appended and deleted rules.
func (t transaction) inverse() transaction {
	var inverse transaction
	for _, s := range slices.Backward(t) {
		r := s
		r.edits = nil
		for _, e := range slices.Backward(s.edits) {
			r.edits = append(r.edits, e.inverse())
		}
		inverse = append(inverse, r)
	}
	return inverse
}

// commit carries out the sections, those of a family together, up to the first
// that fails, and returns those that were carried out. After an interruption it
// tries once more.
func (t transaction) commit(ctx context.Context) (done transaction, err error) {
	mayRetry := true
	for rest := t; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].family == rest[0].family {
			n++
		}
		applied, err := rest[0].family.committer.commit(ctx, rest[:n])
		if errors.Is(err, errInterrupted) && ctx.Err() == nil {
			for applied < n && rest[applied].isApplied() {
				applied++
			}
			if mayRetry {
				mayRetry, err = false, nil
			}
		}
		done = append(done, rest[:applied]...)
		if err != nil {
			return done, fmt.Errorf("commit: %w", err)
		}
		rest = rest[applied:]
	}
	return done, nil
}

// commit carries out a transaction, without notices of it.
func (f *Firewall) commit(ctx context.Context, t transaction) (done transaction, err error) {
	f.withoutNotices(func() { done, err = t.withoutEmpty().commit(ctx) })
	return done, err
}

// isApplied asks the kernel whether it has carried out the section; the first
// edit tells. Two mappings to one target have the same accept rule: if the
// answer is wrong because of that, Healthy finds it by the digest of the chain.
// A section that creates a chain can be carried out twice.
func (s section) isApplied() bool {
	e := s.edits[0]
	exists, err := s.family.tables.Exists(s.table, e.chain, splitRule(e.rule)...)
	return err == nil && e.op != opCreate && exists == (e.op != opDelete)
}

// difference is how many copies of which rules a list of changes adds.
type difference struct {
	order []rule       // in which the rules were first mentioned
	net   map[rule]int // copies added; negative: deleted
}

// difference returns the rules that the changes add and delete.
func (f *Firewall) difference(changes []portmap.Change) (difference, error) {
	d := difference{net: make(map[rule]int)}
	for _, c := range changes {
		if !c.Alters() {
			continue
		}
		// A mapping that cannot be expressed as rules has none to delete.
		if deleted, err := f.rules(c.Before); err == nil {
			d.count(deleted, -1)
		}
		added, err := f.rules(c.After)
		if err != nil {
			return d, err
		}
		d.count(added, +1)
	}
	return d, nil
}

// count adds n copies of each of the rules.
func (d *difference) count(rules []rule, n int) {
	for _, r := range rules {
		if _, known := d.net[r]; !known {
			d.order = append(d.order, r)
		}
		d.net[r] += n
	}
}

// addTo adds the edits of the difference to a transaction.
func (d *difference) addTo(t transaction) {
	for _, r := range d.order {
		op, n := opAppend, d.net[r]
		if n < 0 {
			op, n = opDelete, -n
		}
		for range n {
			t.add(r.chain, edit{op, r.chain.name, r.text})
		}
	}
}
