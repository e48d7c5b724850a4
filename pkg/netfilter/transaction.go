package netfilter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"igdd/pkg/portmap"
)

// section is the part of a batch that concerns one table: the kernel takes it
// whole or not at all.
type section struct {
	family *family
	table  string
	edits  []edit
}

// transaction is what happens to all tables, in this order.
type transaction []section

// newTransaction returns a batch with an empty section for each table that chains
// of ours are in.
func (f *Firewall) newTransaction() transaction {
	b := transaction{{family: f.ipv4, table: f.nat.table}, {family: f.ipv4, table: f.forward.table}}
	if f.forward6 != nil {
		b = append(b, section{family: f.ipv6, table: f.forward6.table})
	}
	return b
}

// add enters edits into the section of the chain's table.
func (b transaction) add(c *chain, edits ...edit) {
	for i := range b {
		if b[i].family == c.family && b[i].table == c.table {
			b[i].edits = append(b[i].edits, edits...)
		}
	}
}

// has reports whether a section for the chain's table is in the batch.
func (b transaction) has(c *chain) bool {
	return slices.ContainsFunc(b, func(s section) bool { return s.family == c.family && s.table == c.table })
}

// nonEmpty returns the sections that have edits.
func (b transaction) nonEmpty() transaction {
	return slices.DeleteFunc(b, func(s section) bool { return len(s.edits) == 0 })
}

// committer hands batches of one family to the kernel.
type committer interface {
	// commit carries out the sections in order up to the first that fails, or
	// until ctx ends, and returns how many it carried out. With errInterrupted
	// those that follow may be in force as well.
	commit(context.Context, []section) (done int, err error)
	// close lets go what is kept for the next batch.
	close()
}

// errInterrupted is the end of a committer that had no time to say how far it came.
var errInterrupted = errors.New("interrupted")

// committed is a comment that iptables-restore, told to be verbose, repeats
// when it reads it: after the section's COMMIT.
const committed = "# committed"

// render returns the sections as iptables-restore reads them.
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

// inverse returns the batch that takes back what a batch of rules did.
func (b transaction) inverse() transaction {
	var back transaction
	for _, s := range slices.Backward(b) {
		r := s
		r.edits = nil
		for _, e := range slices.Backward(s.edits) {
			r.edits = append(r.edits, e.inverse())
		}
		back = append(back, r)
	}
	return back
}

// commit carries out the sections, each family's in one go, up to the first
// that fails, and returns those that are in force. Where a committer is
// interrupted another one takes over, once.
func (b transaction) commit(ctx context.Context) (done transaction, err error) {
	again := true
	for rest := b; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].family == rest[0].family {
			n++
		}
		landed, err := rest[0].family.restore.commit(ctx, rest[:n])
		if errors.Is(err, errInterrupted) && ctx.Err() == nil {
			for landed < n && rest[landed].applied() {
				landed++
			}
			if again {
				again, err = false, nil
			}
		}
		done = append(done, rest[:landed]...)
		if err != nil {
			return done, fmt.Errorf("commit: %w", err)
		}
		rest = rest[landed:]
	}
	return done, nil
}

// commit carries out a batch.
func (f *Firewall) commit(ctx context.Context, b transaction) (done transaction, err error) {
	f.withoutNotices(func() { done, err = b.nonEmpty().commit(ctx) })
	return done, err
}

// applied asks the kernel whether it took a section of rules; one of them is
// enough. Two mappings to one target share the text of a rule: should that one
// mislead us here, the count of the chain's rules tells Healthy. A section that
// makes a chain can be carried out twice.
func (s section) applied() bool {
	e := s.edits[0]
	there, err := s.family.tables.Exists(s.table, e.chain, splitRule(e.rule)...)
	return err == nil && e.op != opCreate && there == (e.op != opDelete)
}

// difference is what a batch of changes does to rules: those that it leaves as
// they are, or that come and go within it, do not appear.
type difference struct {
	order []rule // in which the rules were first mentioned
	net   map[rule]int
}

// difference returns what the changes do to rules.
func (f *Firewall) difference(changes []portmap.Change) (difference, error) {
	d := difference{net: make(map[rule]int)}
	for _, c := range changes {
		if !c.Alters() {
			continue
		}
		// A mapping for which no rules could be made has none to take away.
		if gone, err := f.rules(c.Before); err == nil {
			d.count(gone, -1)
		}
		come, err := f.rules(c.After)
		if err != nil {
			return d, err
		}
		d.count(come, +1)
	}
	return d, nil
}

// count notes that each of the rules comes n times.
func (d *difference) count(rules []rule, n int) {
	for _, r := range rules {
		if _, known := d.net[r]; !known {
			d.order = append(d.order, r)
		}
		d.net[r] += n
	}
}

// edits enters the difference into a batch.
func (d *difference) edits(b transaction) {
	for _, r := range d.order {
		op, n := opAppend, d.net[r]
		if n < 0 {
			op, n = opDelete, -n
		}
		for range n {
			b.add(r.chain, edit{op, r.chain.name, r.text})
		}
	}
}
