package netfilter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Teardown takes all of our rules out of every chain of our names, and the
// jumps and chains that we made away. Chains and jumps of others stay. It ends
// with ctx; what could not be done by then stays in the ownership record. The
// Firewall is of no use afterwards.
func (f *Firewall) Teardown(ctx context.Context) error {
	f.close()
	if err := f.mu.LockContext(ctx); err != nil {
		return fmt.Errorf("netfilter: ports stay open, other work on the firewall does not end: %w", err)
	}
	defer f.end()
	f.closeCommitters() // so that no process of ours has the lock
	list := slices.Clone(f.leftover)
	for _, c := range f.chains() {
		h := c.holding()
		if !c.made {
			h.used = []string{c.name}
		}
		list = append(list, h)
		c.present, c.used, c.applied, c.owned = false, false, digest{}, owned{}
	}
	var err error
	f.withoutNotices(func() { f.leftover, err = takeDown(ctx, merge(list)) })
	if err != nil {
		return fmt.Errorf("netfilter: take down: %w", err)
	}
	return nil
}

// closeCommitters lets the committers go.
func (f *Firewall) closeCommitters() {
	for _, family := range f.families() {
		family.restore.close()
	}
}

// TakeDown takes away what the ownership record at a path says of an earlier
// process: its rules, jumps and chains. Where there is no record nothing is
// done. It ends with ctx; the record names afterwards what is still there.
func TakeDown(ctx context.Context, record string, log *slog.Logger) error {
	o := ownership{path: record}
	list, err := o.read()
	if err != nil {
		return fmt.Errorf("netfilter: what is ours in the firewall: %w", err)
	}
	if len(list) == 0 {
		return nil
	}
	left, err := takeDown(ctx, list)
	if failed := o.write(left); failed != nil {
		log.Warn("the record of what is ours in the firewall cannot be written", "err", failed)
	}
	if err != nil {
		return fmt.Errorf("netfilter: take down: %w", err)
	}
	log.Info("rules and jumps that an earlier process left have been removed")
	return nil
}

// takeDown takes away what is held, each table by itself, and returns what
// could not be. Each has its share of the time that is left; who needs more
// gets what others leave.
func takeDown(ctx context.Context, list []holding) (left []holding, err error) {
	for waiting := list; len(waiting) > 0; {
		var late []holding
		for i, h := range waiting {
			share, cancel := fraction(ctx, len(waiting)-i)
			rest, failed := h.takeDown(share)
			if errors.Is(failed, errLate) && ctx.Err() == nil {
				late = append(late, rest)
			} else {
				left, err = append(left, rest), also(err, failed)
			}
			cancel()
		}
		waiting = late
	}
	return merge(left), err
}

// also adds to an error, for one line of the log.
func also(err, more error) error {
	switch {
	case err == nil:
		return more
	case more == nil:
		return err
	}
	return fmt.Errorf("%w; %w", err, more)
}

// fraction returns a context for one of n things to be done before ctx ends.
func fraction(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(end)/time.Duration(n))
}

// takeDown takes away what is held in one table: rules and jumps first, for
// those keep ports open, and then the chains.
func (h holding) takeDown(ctx context.Context) (left holding, err error) {
	path, err := find(h.program)
	if err != nil {
		return h, err
	}
	l, err := h.close(ctx, path)
	if err != nil {
		return h, err
	}
	left = holding{program: h.program, table: h.table}
	for _, name := range h.made {
		if !l.has(name) || len(l.calls(name)) > 0 {
			continue // who leads to it keeps it, empty
		}
		if failed := h.alter(ctx, path, edit{op: opRemove, chain: name}); failed != nil {
			left.made, err = append(left.made, name), also(err, failed)
		}
	}
	return left, err
}

// close takes rules and jumps away and returns what stands then. If it is
// refused somebody has changed the table since it was listed: it tries again.
func (h holding) close(ctx context.Context, path string) (l listing, err error) {
	for range 2 {
		if l, err = h.list(ctx, path); err != nil {
			return nil, err
		}
		edits := h.closing(l)
		if err = h.alter(ctx, path, edits...); err == nil {
			return l.after(edits), nil
		}
	}
	return nil, err
}

// closing returns the edits after which nothing of ours is open.
func (h holding) closing(l listing) []edit {
	var edits []edit
	for _, name := range slices.Concat(h.made, h.used) {
		if len(l[name]) > 0 {
			edits = append(edits, edit{op: opFlush, chain: name})
		}
	}
	for _, j := range append(h.adopted(l), h.jumps...) {
		away := edit{opDelete, j.hook, j.rule}
		if slices.Contains(l[j.hook], j.rule) && !slices.Contains(edits, away) {
			edits = append(edits, away)
		}
	}
	return edits
}

// adopted returns the jumps that stand where an older version made its own,
// if they have to be found.
func (h holding) adopted(l listing) []jump {
	if !h.adopts {
		return nil
	}
	var list []jump
	for _, name := range h.made {
		for _, call := range l.calls(name) {
			inHook := func(h hook) bool { return h.chain == call.hook }
			if slices.ContainsFunc(slices.Concat(natHooks[:], peerHooks[:], filterHooks[:]), inHook) {
				list = append(list, call)
			}
		}
	}
	return list
}
