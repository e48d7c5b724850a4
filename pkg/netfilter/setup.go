package netfilter

import (
	"errors"
	"fmt"
	"slices"

	"igdd/pkg/portmap"
)

// snapshot lists the tables of families and notes of our chains what later
// decisions depend on. Without an error there is a listing for each chain.
func (f *Firewall) snapshot(families ...*family) (map[*chain]listing, error) {
	views := make(map[*chain]listing)
	var errs []error
	for _, family := range families {
		tables, err := family.snapshot(f.open)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, c := range f.chains() {
			if c.family == family {
				views[c] = tables[c.table] // nil, without chains, before the table's first use
				c.observe(views[c])
			}
		}
	}
	return views, errors.Join(errs...)
}

// Setup makes the chains that are missing and hooks those that nothing leads
// to. The rules in chains that exist stay: a restart leaves no hole. What an
// earlier process left and these settings have no place for goes.
func (f *Firewall) Setup() error {
	f.begin()
	defer f.end()
	f.clearOut()
	views, err := f.snapshot(f.families()...)
	f.withoutNotices(func() { err = errors.Join(err, f.setUpAll(views)) })
	if err != nil {
		return fmt.Errorf("netfilter: set up chains: %w", err)
	}
	return nil
}

// setUpAll makes and hooks the chains of these views. The first that does not
// get the xtables lock is the last to wait for it.
func (f *Firewall) setUpAll(views map[*chain]listing) error {
	for c, l := range views {
		c.present = l.has(c.name)
	}
	var errs []error
	for _, c := range f.chains() {
		l, seen := views[c]
		if !seen {
			continue
		}
		err := f.setUp(c, l, c.applied.rules)
		errs = append(errs, err)
		if errors.Is(err, portmap.ErrLocked) {
			break
		}
	}
	return errors.Join(errs...)
}

// setUp makes and hooks a chain, if it is needed for this many rules.
func (f *Firewall) setUp(c *chain, l listing, rules int) error {
	c.present = l.has(c.name)
	switch {
	case c.optional() || !c.present && !c.needed(rules):
		return nil
	case c.stopped(l):
		return ErrStopped
	}
	edits := c.jumpEdits(l)
	if !c.present {
		edits = slices.Insert(edits, 0, edit{op: opCreate, chain: c.name})
	}
	for _, e := range edits {
		before := c.owned
		c.expect(l, e)
		f.saveOwnership()
		if err := locked(e.do(c.family, c.table)); err != nil {
			c.owned = before
			return err
		}
		c.present = true
	}
	c.settle(l, edits)
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
		return f.no6 == nil, f.no6
	}
	views, err := f.snapshot(family)
	if err != nil {
		return false, fmt.Errorf("netfilter: %w", err)
	}
	for c, l := range views {
		if c.stopped(l) && c.applied.rules > 0 {
			return false, fmt.Errorf("netfilter: %w", ErrStopped)
		}
	}
	for c, l := range views {
		if !c.stopped(l) && !c.intact(l) {
			return false, nil
		}
	}
	return true, nil
}

// Stopped reports whether the router's firewall of IPv4 was stopped when it was
// last looked at. Whoever looks for the first time then cannot know.
func (f *Firewall) Stopped() bool {
	f.begin()
	defer f.end()
	return f.nat.bereft || f.forward.bereft
}

// intact reports whether the chain is as last written, and hooked.
func (c *chain) intact(l listing) bool {
	if !l.has(c.name) {
		return !c.needed(c.applied.rules) && !c.present
	}
	return digestOf(l[c.name]) == c.applied && len(c.jumpEdits(l)) == 0
}
