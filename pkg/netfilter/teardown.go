package netfilter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"igdd/pkg/xtables"
)

// Teardown flushes the chains of the daemon's names, and removes the jumps and
// chains that the daemon created. Chains and jumps of other programs are left
// alone: they may be changing them right now. It ends with ctx; what was not
// removed by then stays in the ownership record. The Firewall cannot be used
// afterwards.
func (f *Firewall) Teardown(ctx context.Context) error {
	f.cancel()
	var list []inventory
	var err error
	var released []string
	for i, family := range f.families() {
		share, cancel := shareOfTime(ctx, len(f.families())-i)
		if failed := family.mu.LockContext(share); failed != nil {
			err = joinErrors(err, fmt.Errorf("ports stay open: another operation on %s does not end: %w", family.name, failed))
		} else {
			list, released = append(list, family.release()...), append(released, family.name)
			defer family.mu.Unlock()
		}
		cancel()
	}
	list = mergeInventories(append(list, f.ownership.leftover...))
	left, failed := removeAll(ctx, list)
	f.ownership.update(func(o *ownership) {
		o.leftover = left
		for _, name := range released {
			delete(o.owned, name)
		}
	})
	if err = joinErrors(err, failed); err != nil {
		return fmt.Errorf("netfilter: remove rules: %w", err)
	}
	return nil
}

// release ends the resident process, so that no process of the daemon's has the
// xtables lock, and gives up what the family owns.
func (f *family) release() (list []inventory) {
	if f.programs != nil {
		f.programs.Close()
	}
	for _, c := range f.chains {
		v := c.inventory()
		if !c.created && f.seen {
			v.borrowed = []string{c.name}
		}
		list = append(list, v)
		c.present, c.borrowed, c.rules, c.owned = false, false, 0, owned{}
	}
	return list
}

// RemoveRecorded removes what the ownership record names: rules, jumps and chains
// of an earlier process. Without a record it does nothing. It ends with ctx;
// afterwards the record names what is left. If the record cannot be read, the
// chains that the options name are emptied as far as it is safe, and the error
// says what is left.
func RemoveRecorded(ctx context.Context, options Options) error {
	log := options.Log
	o := newOwnership(options.OwnershipFile, log)
	list, err := o.read()
	if err != nil {
		return fmt.Errorf("netfilter: read the ownership record: %w", options.closeWithout(ctx, err))
	}
	if len(list) == 0 {
		return nil
	}
	left, err := removeAll(ctx, list)
	if failed := o.write(left); failed != nil {
		log.Warn("cannot write the record of chains that the daemon created", "err", failed)
	}
	if err != nil {
		return fmt.Errorf("netfilter: remove rules: %w", err)
	}
	log.Info("removed the rules and jumps of an earlier process")
	return nil
}

// removeAll removes what the inventories name and returns what is left of them.
// Each may take an equal share of the time until ctx ends; those that need more
// are tried again in the time that the others did not use.
func removeAll(ctx context.Context, list []inventory) (left []inventory, err error) {
	for pending := list; len(pending) > 0; {
		var timedOut []inventory
		for i, v := range pending {
			share, cancel := shareOfTime(ctx, len(pending)-i)
			rest, failed := v.remove(share)
			if errors.Is(failed, xtables.ErrTimeout) && ctx.Err() == nil {
				timedOut = append(timedOut, rest)
			} else {
				left, err = append(left, rest), joinErrors(err, failed)
			}
			cancel()
		}
		if len(timedOut) == len(pending) { // there is no time of others left
			left = append(left, timedOut...)
			err = joinErrors(err, xtables.ErrTimeout)
			break
		}
		pending = timedOut
	}
	return mergeInventories(left), err
}

// joinErrors joins two errors in one line, unlike errors.Join.
func joinErrors(err, more error) error {
	switch {
	case err == nil:
		return more
	case more == nil:
		return err
	}
	return fmt.Errorf("%w; %w", err, more)
}

// shareOfTime returns a context for one of n things to be done before ctx ends.
func shareOfTime(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(end)/time.Duration(n))
}

// remove removes what the inventory names, and returns what is left: first rules
// and jumps, since they keep ports open, then the chains.
func (v inventory) remove(ctx context.Context) (left inventory, err error) {
	programs, err := xtables.Find(v.program, slog.Default())
	if err != nil {
		return v, err
	}
	t, err := v.removeRules(ctx, programs)
	if err != nil {
		return v, err
	}
	left = inventory{program: v.program, table: v.table}
	for _, name := range v.created {
		if !t.Has(name) || len(t.JumpsTo(name)) > 0 {
			continue // a rule of another program needs it; it stays, empty
		}
		if failed := programs.CommitOnce(ctx, v.table, xtables.Edit{Op: xtables.Remove, Chain: name}); failed != nil {
			left.created, err = append(left.created, name), joinErrors(err, failed)
		}
	}
	return left, err
}

// removeRules removes rules and jumps, and returns the table without them. If
// that fails another program may have changed the table since it was listed, so
// it tries once more.
func (v inventory) removeRules(ctx context.Context, programs *xtables.Programs) (t xtables.Table, err error) {
	for range 2 {
		if t, err = programs.SnapshotTable(ctx, v.table); err != nil {
			return nil, err
		}
		edits := v.removals(t)
		if err = programs.CommitOnce(ctx, v.table, edits...); err == nil {
			return t.After(edits...), nil
		}
	}
	return nil, err
}

// removals returns the edits that flush the chains and delete the jumps.
func (v inventory) removals(t xtables.Table) []xtables.Edit {
	var edits []xtables.Edit
	for _, name := range slices.Concat(v.created, v.borrowed) {
		if len(t.Rules(name)) > 0 {
			edits = append(edits, xtables.Edit{Op: xtables.Flush, Chain: name})
		}
	}
	for _, j := range append(v.adoptedJumps(t), v.jumps...) {
		removal := xtables.Edit{Op: xtables.Delete, Chain: j.Chain, Rule: j.Rule}
		if slices.Contains(t.Rules(j.Chain), j.Rule) && !slices.Contains(edits, removal) {
			edits = append(edits, removal)
		}
	}
	return edits
}

// adoptedJumps returns the jumps in the daemon's hooks to the chains that it
// created, if the record does not name its jumps.
func (v inventory) adoptedJumps(t xtables.Table) []xtables.Jump {
	if !v.adoptJumps {
		return nil
	}
	var list []xtables.Jump
	for _, name := range v.created {
		for _, j := range t.JumpsTo(name) {
			isIn := func(h hook) bool { return h.chain == j.Chain }
			if slices.ContainsFunc(slices.Concat(natHooks[:], peerHooks[:], filterHooks[:]), isIn) {
				list = append(list, j)
			}
		}
	}
	return list
}
