package netfilter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"igdd/pkg/portmap"
	"igdd/pkg/xtables"
)

// Apply carries out all changes, which are of one family, or none of them.
// Changes that alter no rule do not reach the kernel.
func (f *Firewall) Apply(ctx context.Context, changes []portmap.Change) error {
	family := f.familyOf(changes)
	if family == nil {
		return f.applyWithout(changes)
	}
	if err := family.mu.LockContext(ctx); err != nil {
		return fmt.Errorf("netfilter: %w", err)
	}
	defer family.mu.Unlock()
	d, err := f.difference(family, changes)
	if err == nil && !d.isEmpty() {
		err = family.unavailable(time.Now())
	}
	if err != nil {
		return fmt.Errorf("netfilter: %w", err)
	}
	refused := maps.Clone(family.refused)
	family.hold(changes)
	if err = f.carryOut(ctx, family, d); err == nil {
		for _, c := range changes {
			f.logDoubt(family, c.After)
		}
		return nil
	}
	for _, c := range slices.Backward(changes) {
		family.hold([]portmap.Change{c.Inverse()})
	}
	family.refused = refused
	if ctx.Err() != nil || errors.Is(err, portmap.ErrLocked) || isFailure(f.reconcile(ctx, family)) {
		family.wake()
	}
	return fmt.Errorf("netfilter: %w", err)
}

// isFailure reports whether the kernel may lack rules that it can have.
func isFailure(err error) bool { return err != nil && !errors.Is(err, ErrStopped) }

// Force takes over changes, of one family, that are in force whatever the kernel
// does: what it refuses now the reconciler carries out as soon as it can.
func (f *Firewall) Force(ctx context.Context, changes []portmap.Change) {
	family := f.familyOf(changes)
	if family == nil || family.mu.LockContext(ctx) != nil {
		return
	}
	defer family.mu.Unlock()
	d, err := f.difference(family, changes)
	family.hold(changes)
	if err == nil && d.isEmpty() {
		return
	}
	if failed := family.unavailable(time.Now()); failed != nil {
		notify(family.unsure) // the next try is due by itself
		family.noteLeft(d, failed)
		return
	}
	if err == nil {
		err = f.carryOut(ctx, family, d)
	}
	if isFailure(err) {
		family.wake()
		family.noteLeft(d, err)
	}
}

// noteLeft notes that the rules that a difference deletes, if any, are still in the
// kernel, and why.
func (f *family) noteLeft(d difference, why error) {
	if d.deletesAny() {
		f.update(func(h *health) { h.left = why })
	}
}

// familyOf returns the family of changes, nil if it is disabled.
func (f *Firewall) familyOf(changes []portmap.Change) *family {
	if len(changes) == 0 {
		return f.ipv4
	}
	m := changes[0].After
	if m == nil {
		m = changes[0].Before
	}
	return f.family(m.Family())
}

// applyWithout refuses what needs rules while the family is disabled.
func (f *Firewall) applyWithout(changes []portmap.Change) error {
	for _, c := range changes {
		if _, err := f.rules(c.After); err != nil {
			return fmt.Errorf("netfilter: %w", err)
		}
	}
	return nil
}

// Refresh takes over changes in force that alter no rules.
func (f *Firewall) Refresh(changes []portmap.Change) {
	for _, c := range changes {
		if family := f.familyOf([]portmap.Change{c}); family != nil {
			family.refresh(c)
		}
	}
}

// refresh replaces a mapping by its new version, or forgets it.
func (f *family) refresh(c portmap.Change) {
	if c.Before == nil {
		return
	}
	f.holding.Lock()
	defer f.holding.Unlock()
	i, found := f.position(c.Before)
	switch {
	case !found:
	case c.After == nil:
		f.held = slices.Delete(f.held, i, i+1)
	case c.After.Key == c.Before.Key:
		f.held[i] = c.After
	}
}

// hold takes over changes.
func (f *family) hold(changes []portmap.Change) {
	f.holding.Lock()
	defer f.holding.Unlock()
	for _, c := range changes {
		if c.Before != nil {
			f.drop(c.Before)
		}
		if c.Before != nil && c.Alters() {
			delete(f.refused, c.Before.Key)
		}
		if c.After != nil {
			i, _ := f.position(c.After)
			f.held = slices.Insert(f.held, i, c.After)
		}
	}
}

// drop drops a mapping, if the family holds it.
func (f *family) drop(m *portmap.Mapping) {
	if i, found := f.position(m); found {
		f.held = slices.Delete(f.held, i, i+1)
	}
}

// position returns where the family holds a version of m, or where it would.
func (f *family) position(m *portmap.Mapping) (int, bool) {
	return slices.BinarySearchFunc(f.held, m, func(a, b *portmap.Mapping) int { return cmp.Compare(a.Serial, b.Serial) })
}

// Sync makes the kernel agree with these mappings of a family, and with nothing
// else: chains, jumps and rules, in one transaction for each table. What is in
// place stays untouched.
func (f *Firewall) Sync(ctx context.Context, v portmap.Family, mappings []*portmap.Mapping) error {
	family := f.family(v)
	if family == nil {
		return nil // no mapping has rules
	}
	if err := family.mu.LockContext(ctx); err != nil {
		return fmt.Errorf("netfilter: %w", err)
	}
	defer family.mu.Unlock()
	family.holding.Lock()
	family.held = slices.Clone(mappings)
	family.holding.Unlock()
	err := family.unavailable(time.Now())
	if !errors.Is(err, xtables.ErrTimeout) { // else the start would wait once more
		_, err = f.restore(ctx, family)
	}
	if err != nil {
		return fmt.Errorf("netfilter: %w", err)
	}
	return nil
}

// carryOut makes the rules of a difference, which the family holds already. If
// that fails another program may have changed the tables: then they are listed,
// and made as they should be.
func (f *Firewall) carryOut(ctx context.Context, family *family, d difference) error {
	if d.isEmpty() || family.stopped && !d.addsAny() { // the rules have gone with the firewall's
		return nil
	}
	if family.programs == nil || family.stopped || d.needsChain() {
		return f.reconcile(ctx, family)
	}
	err := f.commitDifference(ctx, family, d)
	if err == nil {
		for r, n := range d.net {
			r.chain.rules += n
		}
		return nil
	}
	if errors.Is(err, portmap.ErrLocked) || ctx.Err() != nil {
		return err
	}
	if failed := f.reconcile(ctx, family); failed != nil {
		return failed
	}
	f.log.Warn("a transaction failed, and succeeded after all rules were checked", "family", family.kind, "err", err)
	return nil
}

// commitDifference commits a difference in one transaction, or in two where deletions are
// much faster without additions: a rule that replaces another comes before that goes.
func (f *Firewall) commitDifference(ctx context.Context, family *family, d difference) error {
	additions := family.newTransaction()
	deletions := additions
	if f.watch.DeletesByHandle() {
		deletions = family.newTransaction()
	}
	d.addTo(additions, deletions)
	_, err := additions.commit(ctx, f.watch)
	if err == nil && deletions != additions {
		_, err = deletions.commit(ctx, f.watch)
	}
	return err
}

// difference is how many copies of which rules a list of changes adds.
type difference struct {
	order []rule       // in which the rules were first mentioned
	net   map[rule]int // copies added; negative: deleted
}

// difference returns the rules that the changes add and delete. What the kernel
// refuses, and what cannot be expressed as rules, is not there to be deleted.
func (f *Firewall) difference(family *family, changes []portmap.Change) (difference, error) {
	d := difference{net: make(map[rule]int)}
	refused := maps.Clone(family.refused)
	for _, c := range changes {
		if !c.Alters() {
			continue
		}
		if c.Before != nil && refused[c.Before.Key] != nil {
			delete(refused, c.Before.Key)
		} else if deleted, err := f.rules(c.Before); err == nil {
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

// isEmpty reports whether no rule is added or deleted.
func (d *difference) isEmpty() bool {
	return !slices.ContainsFunc(d.order, func(r rule) bool { return d.net[r] != 0 })
}

// addsAny reports whether any rule is added.
func (d *difference) addsAny() bool {
	return slices.ContainsFunc(d.order, func(r rule) bool { return d.net[r] > 0 })
}

// deletesAny reports whether any rule is deleted.
func (d *difference) deletesAny() bool {
	return slices.ContainsFunc(d.order, func(r rule) bool { return d.net[r] < 0 })
}

// needsChain reports whether rules are added to a chain that is created for its first
// rule, and does not exist yet.
func (d *difference) needsChain() bool {
	return slices.ContainsFunc(d.order, func(r rule) bool { return d.net[r] > 0 && r.chain.onDemand && !r.chain.present })
}

// addTo adds the edits of the difference to transactions, which may be the same.
func (d *difference) addTo(additions, deletions *transaction) {
	for _, r := range d.order {
		for range d.net[r] {
			additions.add(r.chain, r.addition())
		}
		for range -d.net[r] {
			deletions.add(r.chain, xtables.Edit{Op: xtables.Delete, Chain: r.chain.name, Rule: r.text})
		}
	}
}
