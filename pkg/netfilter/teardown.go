package netfilter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Teardown flushes the chains of the daemon's names, and removes the jumps and
// chains that the daemon created. Chains and jumps of other programs are left
// alone: they may be changing them right now. It ends with ctx; what was not
// removed by then stays in the ownership record. The Firewall cannot be used
// afterwards.
func (f *Firewall) Teardown(ctx context.Context) error {
	f.cancel()
	if err := f.mu.LockContext(ctx); err != nil {
		return fmt.Errorf("netfilter: ports stay open: another operation on the firewall does not end: %w", err)
	}
	defer f.end()
	f.closeCommitters() // so that no process of the daemon's has the xtables lock
	list := slices.Clone(f.leftover)
	for _, c := range f.chains() {
		v := c.inventory()
		if !c.created {
			v.borrowed = []string{c.name}
		}
		list = append(list, v)
		c.present, c.borrowed, c.applied, c.owned = false, false, digest{}, owned{}
	}
	var err error
	f.withoutNotices(func() { f.leftover, err = removeAll(ctx, mergeInventories(list)) })
	if err != nil {
		return fmt.Errorf("netfilter: remove rules: %w", err)
	}
	return nil
}

// closeCommitters closes the committers of all families.
func (f *Firewall) closeCommitters() {
	for _, family := range f.families() {
		family.committer.close()
	}
}

// RemoveRecorded removes what the ownership record at a path names: rules, jumps
// and chains of an earlier process. Without a record it does nothing. It ends
// with ctx; afterwards the record names what is left.
func RemoveRecorded(ctx context.Context, record string, log *slog.Logger) error {
	o := ownership{path: record}
	list, err := o.read()
	if err != nil {
		return fmt.Errorf("netfilter: read the ownership record: %w", err)
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
			if errors.Is(failed, errTimeout) && ctx.Err() == nil {
				timedOut = append(timedOut, rest)
			} else {
				left, err = append(left, rest), joinErrors(err, failed)
			}
			cancel()
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
	path, err := findProgram(v.program)
	if err != nil {
		return v, err
	}
	l, err := v.removeRules(ctx, path)
	if err != nil {
		return v, err
	}
	left = inventory{program: v.program, table: v.table}
	for _, name := range v.created {
		if !l.has(name) || len(l.jumpsTo(name)) > 0 {
			continue // a rule of another program needs it; it stays, empty
		}
		if failed := v.commit(ctx, path, edit{op: opRemove, chain: name}); failed != nil {
			left.created, err = append(left.created, name), joinErrors(err, failed)
		}
	}
	return left, err
}

// removeRules removes rules and jumps, and returns the table without them. If
// that fails another program may have changed the table since it was listed, so
// it tries once more.
func (v inventory) removeRules(ctx context.Context, path string) (l listing, err error) {
	for range 2 {
		if l, err = v.listTable(ctx, path); err != nil {
			return nil, err
		}
		edits := v.removals(l)
		if err = v.commit(ctx, path, edits...); err == nil {
			return l.after(edits), nil
		}
	}
	return nil, err
}

// removals returns the edits that flush the chains and delete the jumps.
func (v inventory) removals(l listing) []edit {
	var edits []edit
	for _, name := range slices.Concat(v.created, v.borrowed) {
		if len(l[name]) > 0 {
			edits = append(edits, edit{op: opFlush, chain: name})
		}
	}
	for _, j := range append(v.adoptedJumps(l), v.jumps...) {
		removal := edit{opDelete, j.hook, j.rule}
		if slices.Contains(l[j.hook], j.rule) && !slices.Contains(edits, removal) {
			edits = append(edits, removal)
		}
	}
	return edits
}

// adoptedJumps returns the jumps in the daemon's hooks to the chains that it
// created, if the record does not name its jumps.
func (v inventory) adoptedJumps(l listing) []jump {
	if !v.adoptJumps {
		return nil
	}
	var list []jump
	for _, name := range v.created {
		for _, j := range l.jumpsTo(name) {
			isIn := func(h hook) bool { return h.chain == j.hook }
			if slices.ContainsFunc(slices.Concat(natHooks[:], peerHooks[:], filterHooks[:]), isIn) {
				list = append(list, j)
			}
		}
	}
	return list
}
