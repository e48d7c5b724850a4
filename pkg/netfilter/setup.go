package netfilter

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"igdd/pkg/portmap"
	"igdd/pkg/xtables"
)

// Setup creates missing chains and missing jumps to them. Rules in existing
// chains stay: a restart does not interrupt forwarding. What an earlier process
// left and is not needed with these settings is removed. The first Sync of each
// family goes on from what Setup has seen. An error is one of IPv4; those of
// IPv6 are only noted.
func (f *Firewall) Setup() (err error) {
	f.removeLeftover()
	for _, family := range f.families() {
		failed := f.setUp(family)
		if family == f.ipv4 && failed != nil {
			err = fmt.Errorf("netfilter: set up chains: %w", failed)
		}
		if errors.Is(failed, portmap.ErrLocked) {
			break // the other family would wait as long
		}
	}
	return err
}

// setUp creates the chains and jumps of a family, and notes the result.
func (f *Firewall) setUp(family *family) error {
	family.mu.Lock()
	defer family.mu.Unlock()
	began := time.Now()
	if err := family.unavailable(began); err != nil {
		return err
	}
	err := f.setUpChains(family)
	if isFailure(err) {
		family.retry.fail(began, time.Now())
		family.failing = err
	}
	if family == f.ipv6 {
		f.noteResult(family, plan{}, err)
	} else { // the caller logs it
		family.update(func(h *health) { h.trouble, h.works = err, err == nil })
		family.known = err != nil
	}
	return err
}

// setUpChains creates the chains and jumps of a family.
func (f *Firewall) setUpChains(family *family) error {
	s, err := family.snapshot(f.ctx)
	if err != nil {
		return err
	}
	p := plan{tables: maps.Clone(s)}
	for _, c := range family.chains {
		if err := f.setUpChain(c, p); err != nil {
			return err
		}
	}
	family.fresh = p.tables
	f.report(family, p)
	return nil
}

// setUpChain creates a chain and the jumps to it, if it is needed.
func (f *Firewall) setUpChain(c *chain, p plan) error {
	t := p.tables[c.table]
	switch {
	case c.isOptional() || !c.present && !c.isNeeded(0):
		return nil
	case c.isStopped(t):
		return ErrStopped
	}
	var edits []xtables.Edit
	if !c.present {
		edits = append(edits, xtables.Edit{Op: xtables.Create, Chain: c.name})
	}
	edits = append(edits, c.planJumps(t, f.currentNetwork()).edits...)
	for _, e := range edits {
		if err := f.do(c, t, e); err != nil {
			return markLocked(err)
		}
		t = t.After(e)
		p.tables[c.table] = t
	}
	c.present = true
	c.forgetMissingJumps(t)
	f.saveOwnership(c.family)
	return nil
}

// do carries out one edit by a command of its own.
func (f *Firewall) do(c *chain, t xtables.Table, e xtables.Edit) error {
	before := c.owned
	c.noteIntent(t, e)
	f.saveOwnership(c.family)
	work := f.watch.Begin()
	defer work.End()
	err := c.family.programs.Do(c.table, e)
	if err != nil {
		c.owned = before
		return err
	}
	work.Committed(1)
	return nil
}
