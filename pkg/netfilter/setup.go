package netfilter

import (
	"errors"
	"fmt"
	"slices"

	"igdd/pkg/portmap"
)

// snapshot lists the tables of families and updates what is known of their
// chains. Without an error it has a listing for each chain.
func (f *Firewall) snapshot(families ...*family) (map[*chain]listing, error) {
	views := make(map[*chain]listing)
	var errs []error
	for _, family := range families {
		tables, err := family.snapshot(f.ctx)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, c := range f.chains() {
			if c.family == family {
				views[c] = tables[c.table] // nil before the table's first use
				c.observe(views[c])
			}
		}
	}
	return views, errors.Join(errs...)
}

// Setup creates missing chains and missing jumps to them. Rules in existing
// chains stay: a restart does not interrupt forwarding. What an earlier process
// left and is not needed with these settings is removed.
func (f *Firewall) Setup() error {
	f.begin()
	defer f.end()
	f.removeLeftover()
	views, err := f.snapshot(f.families()...)
	f.withoutNotices(func() { err = errors.Join(err, f.setUpAll(views)) })
	if err != nil {
		return fmt.Errorf("netfilter: set up chains: %w", err)
	}
	return nil
}

// setUpAll creates the chains of these views and the jumps to them. After one
// that did not get the xtables lock it does not try the others.
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

// setUp creates a chain and the jumps to it if it is needed for this many rules.
func (f *Firewall) setUp(c *chain, l listing, rules int) error {
	c.present = l.has(c.name)
	switch {
	case c.isOptional() || !c.present && !c.isNeeded(rules):
		return nil
	case c.isStopped(l):
		return ErrStopped
	}
	edits := c.jumpEdits(l)
	if !c.present {
		edits = slices.Insert(edits, 0, edit{op: opCreate, chain: c.name})
	}
	for _, e := range edits {
		before := c.owned
		c.noteIntent(l, e)
		f.saveOwnership()
		if err := markLocked(e.do(c.family, c.table)); err != nil {
			c.owned = before
			return err
		}
		c.present = true
	}
	c.forgetMissingJumps(l, edits)
	return nil
}

// Healthy reports whether chains, jumps and rules of a family are as last
// applied. The error is ErrStopped while nothing can be restored because the
// router's firewall is stopped.
func (f *Firewall) Healthy(v portmap.Family) (bool, error) {
	f.begin()
	defer f.end()
	family := f.family(v)
	if family == nil {
		return f.ipv6Err == nil, f.ipv6Err
	}
	views, err := f.snapshot(family)
	if err != nil {
		return false, fmt.Errorf("netfilter: %w", err)
	}
	for c, l := range views {
		if c.isStopped(l) && c.applied.rules > 0 {
			return false, fmt.Errorf("netfilter: %w", ErrStopped)
		}
	}
	for c, l := range views {
		if !c.isStopped(l) && !c.isIntact(l) {
			return false, nil
		}
	}
	return true, nil
}

// Stopped reports whether the router's IPv4 firewall was stopped at the last
// snapshot. A process that has not seen it running before cannot know.
func (f *Firewall) Stopped() bool {
	f.begin()
	defer f.end()
	return f.nat.hookChainGone || f.forward.hookChainGone
}

// isIntact reports whether the chain has its rules and the jumps to it.
func (c *chain) isIntact(l listing) bool {
	if !l.has(c.name) {
		return !c.isNeeded(c.applied.rules) && !c.present
	}
	return digestOf(l[c.name]) == c.applied && len(c.jumpEdits(l)) == 0
}
