package netfilter

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"igdd/pkg/portmap"
)

// Apply carries out all changes or none of them. Changes that alter no rule
// do not reach the kernel.
func (f *Firewall) Apply(ctx context.Context, changes []portmap.Change) error {
	f.begin()
	defer f.end()
	d, err := f.difference(changes)
	if err != nil {
		return fmt.Errorf("netfilter: %w", err)
	}
	if err := f.ensureLazyChain(d); err != nil {
		return fmt.Errorf("netfilter: %w", err)
	}
	b := f.newTransaction()
	d.edits(b)
	done, err := f.commit(ctx, b)
	if err != nil {
		if _, undo := f.commit(ctx, done.inverse()); undo != nil {
			err = errors.Join(err, fmt.Errorf("take back what was done of it: %w", undo))
		}
		return fmt.Errorf("netfilter: %w", f.explain(d, err))
	}
	for r, n := range d.net {
		r.chain.applied.add(r.text, n)
	}
	return nil
}

// ensureLazyChain makes the lazy chain if the batch is the first to need it.
func (f *Firewall) ensureLazyChain(d difference) error {
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

// explain says why a batch failed if the chains that it was for are gone.
func (f *Firewall) explain(d difference, err error) error {
	views, _ := f.snapshot(f.families()...)
	for _, r := range d.order {
		if l, seen := views[r.chain]; seen && r.chain.stopped(l) {
			return fmt.Errorf("%w: %w", ErrStopped, err)
		}
	}
	return err
}

// Sync makes the kernel hold exactly these mappings of a family: chains, jumps
// and rules, in one transaction for each table. What is as it should be stays
// untouched. What can be done is done, even if the error tells that not all of
// it could.
func (f *Firewall) Sync(ctx context.Context, v portmap.Family, mappings []*portmap.Mapping) error {
	f.begin()
	defer f.end()
	family := f.family(v)
	if family == nil {
		return nil // there is nothing to keep in line, and no mapping has rules
	}
	views, err := f.snapshot(family)
	if err != nil {
		return fmt.Errorf("netfilter: %w", err)
	}
	for c, l := range views {
		c.present = l.has(c.name)
	}
	if err := f.restore(ctx, family, views, f.wanted(mappings)); err != nil {
		return fmt.Errorf("netfilter: %w", err)
	}
	return nil
}

// wanted returns the rules of the mappings, by chain. A mapping that cannot be
// said in rules has none: that is its own trouble alone.
func (f *Firewall) wanted(mappings []*portmap.Mapping) map[*chain][]string {
	wanted := make(map[*chain][]string)
	for _, m := range mappings {
		rules, err := f.rules(m)
		if err != nil {
			f.log.Warn("a mapping is not in force", "mapping", m.Key, "err", err)
			continue
		}
		for _, r := range rules {
			wanted[r.chain] = append(wanted[r.chain], r.text)
		}
	}
	return wanted
}

// restore brings the chains of one family into line.
func (f *Firewall) restore(ctx context.Context, family *family, views map[*chain]listing, wanted map[*chain][]string) error {
	b := f.newTransaction()
	var errs []error
	plans := make(map[*chain][]edit)
	for _, c := range f.chains() {
		l, seen := views[c]
		switch {
		case !seen || c.family != family:
		case c.stopped(l):
			if len(wanted[c]) > 0 {
				errs = append(errs, ErrStopped)
			}
		case !l.has(c.name) && !c.needed(len(wanted[c])):
		default:
			plans[c] = append(c.ruleEdits(l, wanted[c]), c.jumpEdits(l)...)
			b.add(c, plans[c]...)
		}
	}
	done, err := f.carryOut(ctx, b, views, plans)
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

// carryOut commits a batch of these plans, and has the record say before what
// will be ours, whatever happens.
func (f *Firewall) carryOut(ctx context.Context, b transaction, views map[*chain]listing, plans map[*chain][]edit) (transaction, error) {
	before := make(map[*chain]owned)
	for c, edits := range plans {
		before[c] = c.owned
		for _, e := range edits {
			c.expect(views[c], e)
		}
	}
	f.saveOwnership()
	done, err := f.commit(ctx, b)
	for c, edits := range plans {
		switch {
		case err == nil || done.has(c):
			c.settle(views[c], edits)
		case !errors.Is(err, errInterrupted): // then it may have come that far
			c.owned = before[c]
		}
	}
	return done, err
}

// ruleEdits returns the edits after which the chain has exactly the wanted rules.
// A chain that only lacks some keeps its others, with their counters.
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
