package netfilter

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"igdd/pkg/portmap"
)

// look lists the tables of families and notes of our chains what later
// decisions depend on. Without an error there is a listing for each chain.
func (f *Firewall) look(families ...*family) (map[*chain]listing, error) {
	views := make(map[*chain]listing)
	var errs []error
	for _, family := range families {
		tables, err := family.look()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, c := range f.chains() {
			if c.family == family {
				views[c] = tables[c.table] // nil, without chains, before the table's first use
				c.know(views[c])
			}
		}
	}
	return views, errors.Join(errs...)
}

// Setup makes the chains that are missing and hooks those that nothing leads
// to. The rules in chains that exist stay: a restart leaves no hole.
func (f *Firewall) Setup() error {
	f.begin()
	defer f.end()
	views, err := f.look(f.families()...)
	errs := []error{err}
	for _, c := range f.chains() {
		if l, seen := views[c]; seen {
			f.quietly(func() { errs = append(errs, c.setUp(l, c.holds.rules)) })
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("netfilter: set up chains: %w", err)
	}
	return nil
}

// setUp makes and hooks the chain, if it is needed for this many rules.
func (c *chain) setUp(l listing, rules int) error {
	c.present = l.has(c.name)
	switch {
	case c.optional() || !c.present && !c.needed(rules):
		return nil
	case c.stopped(l):
		return ErrStopped
	case !c.present:
		if err := (edit{op: opCreate, chain: c.name}).do(c.family, c.table); err != nil {
			return err
		}
		c.present = true
		c.made()
	}
	for _, e := range c.mend(l) {
		if err := e.do(c.family, c.table); err != nil {
			return err
		}
	}
	return nil
}

// Healthy reports whether chains, jumps and rules of a family are as last
// written. The error is ErrStopped when there is nothing to mend before others
// act.
func (f *Firewall) Healthy(v portmap.Family) (bool, error) {
	f.begin()
	defer f.end()
	family := f.family(v)
	if family == nil {
		return true, nil
	}
	views, err := f.look(family)
	if err != nil {
		return false, fmt.Errorf("netfilter: %w", err)
	}
	for c, l := range views {
		if c.stopped(l) && c.holds.rules > 0 {
			return false, fmt.Errorf("netfilter: %w", ErrStopped)
		}
	}
	for c, l := range views {
		if !c.stopped(l) && !c.stands(l) {
			return false, nil
		}
	}
	return true, nil
}

// stands reports whether the chain is as last written, and hooked.
func (c *chain) stands(l listing) bool {
	if !l.has(c.name) {
		return !c.needed(c.holds.rules) && !c.present
	}
	return tallyOf(l[c.name]) == c.holds && len(c.mend(l)) == 0
}

// Teardown removes the chains that we made, and the jumps to them. Those that
// somebody else made are left to him, who may be at it this moment.
func (f *Firewall) Teardown() error {
	f.begin()
	defer f.end()
	defer f.dismiss()
	if !slices.ContainsFunc(f.chains(), func(c *chain) bool { return c.ours }) {
		return nil
	}
	views, err := f.look(f.families()...)
	errs := []error{err}
	b := f.newBatch()
	for c, l := range views {
		if c.ours {
			b.add(c, c.remove(l)...)
		}
	}
	_, err = f.commit(context.Background(), b)
	for c := range views {
		c.ours = c.ours && err != nil
	}
	errs = append(errs, err)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("netfilter: remove chains: %w", err)
	}
	return nil
}

// dismiss lets the committers go.
func (f *Firewall) dismiss() {
	for _, family := range f.families() {
		family.restore.dismiss()
	}
}

// remove returns the edits after which there is no such chain.
func (c *chain) remove(l listing) []edit {
	if !l.has(c.name) {
		return nil
	}
	return append(c.callers(l), edit{op: opFlush, chain: c.name}, edit{op: opRemove, chain: c.name})
}
