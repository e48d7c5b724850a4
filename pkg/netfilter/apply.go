package netfilter

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"igdd/pkg/portmap"
)

// Apply carries out all changes or none of them. Changes that alter no rule do
// not reach the kernel.
func (f *Firewall) Apply(ctx context.Context, changes []portmap.Change) error {
	f.begin()
	defer f.end()
	d, err := f.difference(changes)
	if err != nil {
		return fmt.Errorf("netfilter: %w", err)
	}
	if err := f.ensurePeerChain(d); err != nil {
		return fmt.Errorf("netfilter: %w", err)
	}
	t := f.newTransaction()
	d.addTo(t)
	done, err := f.commit(ctx, t)
	if err != nil {
		if _, failed := f.commit(ctx, done.inverse()); failed != nil {
			err = errors.Join(err, fmt.Errorf("roll back: %w", failed))
		}
		return fmt.Errorf("netfilter: %w", f.explainError(d, err))
	}
	for r, n := range d.net {
		r.chain.applied.add(r.text, n)
	}
	return nil
}

// ensurePeerChain creates the chain for outbound mappings if these changes are
// the first to need it.
func (f *Firewall) ensurePeerChain(d difference) error {
	needs := func(r rule) bool { return r.chain == f.peer && d.net[r] > 0 }
	if f.peer.present || !slices.ContainsFunc(d.order, needs) {
		return nil
	}
	views, err := f.snapshot(f.ipv4)
	if err != nil {
		return err
	}
	f.withoutNotices(func() { err = f.setUp(f.peer, views[f.peer], 1) })
	return err
}

// explainError adds ErrStopped to the error of a transaction if the firewall is
// stopped.
func (f *Firewall) explainError(d difference, err error) error {
	views, _ := f.snapshot(f.families()...)
	for _, r := range d.order {
		if l, seen := views[r.chain]; seen && r.chain.isStopped(l) {
			return fmt.Errorf("%w: %w", ErrStopped, err)
		}
	}
	return err
}

// Sync makes the kernel agree with these mappings of a family, and with nothing
// else: chains, jumps and rules, in one transaction for each table. What is in
// place stays untouched. If there is an error, the rest is done all the same.
func (f *Firewall) Sync(ctx context.Context, v portmap.Family, mappings []*portmap.Mapping) error {
	f.begin()
	defer f.end()
	family := f.family(v)
	if family == nil {
		return nil // no mapping has rules
	}
	views, err := f.snapshot(family)
	if err != nil {
		return fmt.Errorf("netfilter: %w", err)
	}
	for c, l := range views {
		c.present = l.has(c.name)
	}
	if err := f.reconcile(ctx, family, views, f.wanted(mappings)); err != nil {
		return fmt.Errorf("netfilter: %w", err)
	}
	return nil
}

// wanted returns the rules of the mappings, by chain. A mapping that cannot be
// expressed as rules is skipped and does not affect the others.
func (f *Firewall) wanted(mappings []*portmap.Mapping) map[*chain][]string {
	wanted := make(map[*chain][]string)
	for _, m := range mappings {
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

// reconcile gives the chains of one family the wanted rules.
func (f *Firewall) reconcile(ctx context.Context, family *family, views map[*chain]listing, wanted map[*chain][]string) error {
	t := f.newTransaction()
	var errs []error
	plans := make(map[*chain][]edit)
	for _, c := range f.chains() {
		l, seen := views[c]
		switch {
		case !seen || c.family != family:
		case c.isStopped(l):
			if len(wanted[c]) > 0 {
				errs = append(errs, ErrStopped)
			}
		case !l.has(c.name) && !c.isNeeded(len(wanted[c])):
		default:
			plans[c] = append(c.ruleEdits(l, wanted[c]), c.jumpEdits(l)...)
			t.add(c, plans[c]...)
		}
	}
	done, err := f.commitPlans(ctx, t, views, plans)
	if len(done) > 0 && f.notifier != nil {
		f.notifier.notify()
	}
	for c := range plans {
		if err == nil || done.has(c) {
			c.applied = digestOf(wanted[c])
		}
	}
	return errors.Join(append(errs, err)...)
}

// commitPlans commits a transaction of these plans. Before that it saves in the
// ownership record what the daemon will own afterwards.
func (f *Firewall) commitPlans(ctx context.Context, t transaction, views map[*chain]listing, plans map[*chain][]edit) (transaction, error) {
	before := make(map[*chain]owned)
	for c, edits := range plans {
		before[c] = c.owned
		for _, e := range edits {
			c.noteIntent(views[c], e)
		}
	}
	f.saveOwnership()
	done, err := f.commit(ctx, t)
	for c, edits := range plans {
		switch {
		case err == nil || done.has(c):
			c.forgetMissingJumps(views[c], edits)
		case !errors.Is(err, errInterrupted): // if interrupted, it may have been carried out
			c.owned = before[c]
		}
	}
	return done, err
}

// ruleEdits returns the edits after which the chain has exactly the wanted
// rules. A chain without other rules is not flushed: its rules keep their
// counters.
func (c *chain) ruleEdits(l listing, wanted []string) []edit {
	lacking := make(map[string]int, len(wanted))
	for _, text := range wanted {
		lacking[text]++
	}
	foreign := false
	for _, text := range l[c.name] {
		lacking[text]--
		foreign = foreign || lacking[text] < 0
	}
	var edits []edit
	if foreign || !l.has(c.name) {
		edits = append(edits, edit{op: opCreate, chain: c.name})
	}
	for _, text := range wanted {
		if foreign || lacking[text] > 0 {
			edits = append(edits, edit{opAppend, c.name, text})
			lacking[text]--
		}
	}
	return edits
}
