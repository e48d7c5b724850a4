package netfilter

import (
	"errors"
	"fmt"
)

// Setup makes the chains that are missing and hooks those that nothing leads
// to. The rules in chains that exist stay: a restart leaves no hole.
func (f *Firewall) Setup() error {
	f.begin()
	defer f.end()
	var errs []error
	for _, c := range f.chains() {
		errs = append(errs, c.setUp(f.wan))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("netfilter: set up chains: %w", err)
	}
	return nil
}

// setUp makes and hooks the chain.
func (c *chain) setUp(wan []string) error {
	l, err := c.look()
	if err != nil {
		return err
	}
	c.present = l.has(c.name)
	if c.optional() {
		return nil
	}
	if c.stopped(l) {
		return ErrStopped
	}
	if !c.present {
		if err := (edit{op: opCreate, chain: c.name}).do(c.family, c.table); err != nil {
			return err
		}
		c.present = true
		c.made()
	}
	for _, e := range c.mend(l, wan) {
		if err := e.do(c.family, c.table); err != nil {
			return err
		}
	}
	return nil
}

// look lists all chains of ours and notes which are there.
func (f *Firewall) look() (map[*chain]listing, error) {
	views := make(map[*chain]listing)
	var errs []error
	for _, c := range f.chains() {
		l, err := c.look()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		views[c] = l
		c.present = l.has(c.name)
	}
	return views, errors.Join(errs...)
}

// Healthy reports whether chains, jumps and rules are as last written. The
// error is ErrStopped when there is nothing to mend before others act.
func (f *Firewall) Healthy() (bool, error) {
	f.begin()
	defer f.end()
	for _, c := range f.chains() {
		l, err := c.look()
		if err != nil {
			return false, fmt.Errorf("netfilter: %w", err)
		}
		switch {
		case c.stopped(l):
			if c.rules > 0 {
				return false, fmt.Errorf("netfilter: %w", ErrStopped)
			}
		case !l.has(c.name):
			if !c.optional() || c.present {
				return false, nil
			}
		case len(l[c.name]) != c.rules || len(c.mend(l, f.wan)) > 0:
			return false, nil
		}
	}
	return true, nil
}

// Teardown removes the chains that we made, and the jumps to them. Those that
// somebody else made are left to him, who may be at it this moment.
func (f *Firewall) Teardown() error {
	f.begin()
	defer f.end()
	defer f.dismiss()
	b := f.newBatch()
	var errs []error
	for _, c := range f.chains() {
		if !c.ours {
			continue
		}
		l, err := c.look()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		b.add(c, c.remove(l)...)
	}
	if _, err := b.filled().commit(); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("netfilter: remove chains: %w", err)
	}
	return nil
}

// dismiss lets the committers go.
func (f *Firewall) dismiss() {
	f.ipv4.restore.dismiss()
	if f.ipv6 != nil {
		f.ipv6.restore.dismiss()
	}
}

// remove returns the edits after which there is no such chain.
func (c *chain) remove(l listing) []edit {
	if !l.has(c.name) {
		return nil
	}
	return append(c.callers(l), edit{op: opFlush, chain: c.name}, edit{op: opRemove, chain: c.name})
}
