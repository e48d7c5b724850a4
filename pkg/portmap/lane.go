package portmap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// lane is the table's queue to the kernel for one family, so that neither
// family waits for the other or fails with it. The kernel carries out one
// transaction of a lane at a time. Meanwhile requests that need the kernel are
// held for the next transaction, and all others are decided at once.
type lane struct {
	family Family
	busy   *transaction // being carried out; nil: none
	held   []pending    // requests for the next transactions, oldest first
	forced []Change     // changes that the kernel cannot refuse; they go first

	lastErr error // why the firewall refused the last request; guarded by the table's mu
}

// transaction is one unit of work for the kernel: changes that are carried out
// together.
type transaction struct {
	changes []Change
	waiting []pending // the requests that they come from; none: they are forced
	answers []Answer  // one for each request
}

// isForced reports whether the transaction's changes are in force even if the
// kernel refuses them, so that they are never reverted.
func (tx *transaction) isForced() bool { return len(tx.waiting) == 0 }

// isChanging reports whether the mapping of a key has a change under way.
func (l *lane) isChanging(k Key) bool {
	about := func(c Change) bool { return c.key() == k }
	return slices.ContainsFunc(l.forced, about) || l.busy != nil && slices.ContainsFunc(l.busy.changes, about)
}

// result is the outcome of a lane's transaction.
type result struct {
	lane *lane
	err  error
}

// start executes a transaction on a goroutine of its own, which sends the
// result to t.done.
func (t *Table) start(ctx context.Context, l *lane, tx *transaction) {
	l.busy = tx
	go func() {
		r := result{lane: l}
		if tx.isForced() {
			t.firewall.Force(ctx, tx.changes)
		} else {
			r.err = t.firewall.Apply(ctx, tx.changes)
		}
		t.done <- r
	}()
}

// finish ends a lane's transaction: it publishes or reverts the changes and
// answers the requests.
func (t *Table) finish(ctx context.Context, r result) {
	l, tx := r.lane, r.lane.busy
	l.busy = nil
	isShared := errors.Is(r.err, ErrLocked) || errors.Is(r.err, ErrUnavailable) // by all requests
	switch {
	case tx.isForced():
		t.publish(tx.changes, false)
	case r.err == nil:
		t.publish(tx.changes, false)
		t.setLastErr(l, nil)
		t.answer(tx)
	case len(tx.waiting) > 1 && !isShared && ctx.Err() == nil:
		t.log.Warn("firewall refused a batch, trying its requests one by one", "requests", len(tx.waiting), "err", r.err)
		t.alloc.revert(tx.changes)
		for i := range tx.waiting {
			tx.waiting[i].alone = true
		}
		l.held = append(tx.waiting, l.held...)
	default:
		t.reject(l, tx)
		if !errors.Is(r.err, ErrNoRules) && ctx.Err() == nil {
			t.setLastErr(l, fmt.Errorf("the last request was refused: %w", r.err))
		}
	}
}

// setLastErr sets what LastError returns for a lane's family.
func (t *Table) setLastErr(l *lane, err error) {
	t.mu.Lock()
	l.lastErr = err
	t.mu.Unlock()
}

// LastError returns why the firewall refused the last request of a family that
// needed new rules; nil if it granted it.
func (t *Table) LastError(f Family) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.lanes[f].lastErr
}

// reject reverts changes that the kernel refused and turns their answers into refusals:
// grants, and deletions of some of the mappings asked for. Held repetitions of a refused
// request are refused with it: a client that has been refused does not expect a mapping
// any more.
func (t *Table) reject(l *lane, tx *transaction) {
	t.alloc.revert(tx.changes)
	for i := range tx.answers {
		if a := tx.answers[i]; a.Refusal == Granted || a.Closed > 0 {
			tx.answers[i] = Answer{Refusal: FirewallFailed}
			l.refuseRepeats(tx, i)
		}
	}
	t.answer(tx)
}

// refuseRepeats moves the held requests that repeat the i-th one of a
// transaction into the transaction, with the same answer.
func (l *lane) refuseRepeats(tx *transaction, i int) {
	first := tx.waiting[i].Request
	l.held = slices.DeleteFunc(l.held, func(p pending) bool {
		repeats := p.repeats(&first) && p.take()
		if repeats {
			tx.waiting, tx.answers = append(tx.waiting, p), append(tx.answers, tx.answers[i])
		}
		return repeats
	})
}

// advance starts all work that can start: the tasks, as soon as no change under
// way can be refused, and each lane's next transaction. Then it calls
// afterForced if nothing forced is left.
func (t *Table) advance(ctx context.Context) {
	now := time.Now()
	t.endBlocks(now)
	t.releaseParked(now)
	if len(t.tasks) > 0 && !t.hasUndecided() {
		for _, task := range t.tasks {
			task()
		}
		t.tasks = nil
	}
	for i := range t.lanes {
		t.startNext(ctx, &t.lanes[i])
	}
	t.followPorts(now)
	if !slices.ContainsFunc(t.lanes[:], func(l lane) bool { return l.hasForced() }) {
		for _, done := range t.afterForced {
			done()
		}
		t.afterForced = nil
	}
}

// hasUndecided reports whether changes are under way that the kernel can
// refuse.
func (t *Table) hasUndecided() bool {
	return slices.ContainsFunc(t.lanes[:], func(l lane) bool { return l.busy != nil && !l.busy.isForced() })
}

// hasForced reports whether forced changes have not been carried out yet.
func (l *lane) hasForced() bool {
	return len(l.forced) > 0 || l.busy != nil && l.busy.isForced()
}

// startNext starts the lane's next transaction, if none is under way: forced
// changes first, then expired leases, and held requests unless tasks are
// waiting.
func (t *Table) startNext(ctx context.Context, l *lane) {
	for l.busy == nil {
		now := time.Now()
		switch {
		case len(l.forced) > 0:
			t.startForced(ctx, l)
		case t.alloc.deadlines[l.family].due(now) != nil:
			t.expire(l)
		case len(l.held) > 0 && len(t.tasks) == 0:
			t.startBatch(ctx, l)
		default:
			return
		}
	}
}

// startForced starts a transaction of the forced changes.
func (t *Table) startForced(ctx context.Context, l *lane) {
	changes := l.forced
	l.forced = nil
	if !slices.ContainsFunc(changes, Change.Alters) {
		t.publish(changes, false)
		return
	}
	t.start(ctx, l, &transaction{changes: changes})
}

// force queues the allocator's changes as forced: they are in force even if the
// kernel cannot carry them out at once.
func (t *Table) force(reset bool) {
	if reset {
		t.publish(nil, true)
	}
	for _, c := range t.alloc.changes {
		l := &t.lanes[c.key().Family()]
		l.forced = append(l.forced, c)
	}
}

// expire drops the expired claims of a family.
func (t *Table) expire(l *lane) {
	t.alloc.begin()
	t.alloc.expire(l.family)
	t.force(false)
}
