package portmap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// lane is what the table has under way for one family. The kernel carries out
// one transaction at a time; meanwhile the table goes on with what needs no
// kernel, and what needs it is held for the next transaction.
type lane struct {
	family Family
	resync resyncSchedule
	busy   *transaction // being carried out; nil: none
	held   []pending    // requests for the next ones, oldest first
	forced []Change     // in force whatever the kernel says; they go first

	lastErr error // why the last request was refused; guarded by the table's mu
}

// transaction is what the kernel is told in one go.
type transaction struct {
	changes []Change
	waiting []pending // who asked for them, with their answers; nobody: they are forced
	answers []Answer
	sync    bool // bring everything into line instead
}

// forced reports whether the transaction's changes are in force whatever the
// kernel says, so that they are never undone.
func (tx *transaction) forced() bool { return len(tx.waiting) == 0 }

// isChanging reports whether the mapping of a key is about to change.
func (l *lane) isChanging(k Key) bool {
	about := func(c Change) bool { return c.key() == k }
	return slices.ContainsFunc(l.forced, about) || l.busy != nil && slices.ContainsFunc(l.busy.changes, about)
}

// result is what the kernel made of a lane's transaction.
type result struct {
	lane    *lane
	err     error // of the changes
	synced  bool  // everything was brought into line
	syncErr error // of that
}

// start has the kernel carry out a transaction beside the table's goroutine,
// which finds the result in t.done.
func (t *Table) start(ctx context.Context, l *lane, tx *transaction) {
	l.busy = tx
	repairs := l.resync.allows(time.Now())
	go func() { t.done <- t.execute(ctx, l, tx, repairs) }()
}

// execute tells the kernel a transaction and waits for it. If the kernel
// refuses changes somebody may have flushed the chains: where repairs allows
// it, it is asked once more when all other rules stand.
func (t *Table) execute(ctx context.Context, l *lane, tx *transaction, repairs bool) result {
	r := result{lane: l}
	if !tx.sync {
		r.err = t.firewall.Apply(ctx, tx.changes)
		if r.err == nil || tx.forced() || !repairs || rulesIntact(r.err) || ctx.Err() != nil {
			return r
		}
	}
	r.synced, r.syncErr = true, t.firewall.Sync(ctx, l.family, t.mappingsInForce(l.family))
	if !tx.sync && r.syncErr == nil {
		if r.err = t.firewall.Apply(ctx, tx.changes); r.err == nil {
			t.log.Warn("rules were not as expected and have been written anew", "family", l.family)
		}
	}
	return r
}

// rulesIntact reports whether changes were refused by a kernel whose other rules
// are as they should be.
func rulesIntact(err error) bool { return errors.Is(err, ErrNoRules) || errors.Is(err, ErrLocked) }

// mappingsInForce returns the mappings of a family that are in force.
func (t *Table) mappingsInForce(f Family) []*Mapping {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.inForce.ofFamily(f)
}

// finish takes note of a result and answers who waits for it.
func (t *Table) finish(ctx context.Context, r result) {
	l, tx := r.lane, r.lane.busy
	l.busy = nil
	if r.synced {
		t.noteSync(l, r.syncErr)
	}
	switch {
	case tx.sync:
	case tx.forced():
		t.publish(tx.changes, false)
		t.logExpired(tx.changes)
		if r.err != nil {
			l.resync.request(time.Now())
		}
	case r.err == nil:
		t.publish(tx.changes, false)
		t.setLastErr(l, nil)
		t.answer(tx)
	case len(tx.waiting) > 1 && !l.resync.failing() && !errors.Is(r.err, ErrLocked) && ctx.Err() == nil:
		t.log.Warn("firewall refused a batch, trying its requests one by one", "requests", len(tx.waiting), "err", r.err)
		t.alloc.takeBack(tx.changes)
		for i := range tx.waiting {
			tx.waiting[i].alone = true
		}
		l.held = append(tx.waiting, l.held...)
	default:
		t.reject(l, tx)
		if !errors.Is(r.err, ErrNoRules) && ctx.Err() == nil {
			t.setLastErr(l, fmt.Errorf("the last request was refused: %w", r.err))
		}
		if !r.synced && !rulesIntact(r.err) && ctx.Err() == nil {
			l.resync.request(time.Now())
		}
	}
}

// setLastErr keeps for readers why the kernel refused the last request.
func (t *Table) setLastErr(l *lane, err error) {
	t.mu.Lock()
	l.lastErr = err
	t.mu.Unlock()
}

// LastError returns why the kernel refused the last request of a family that
// needed it; nil: it did not.
func (t *Table) LastError(f Family) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.lanes[f].lastErr
}

// reject takes back changes that the kernel refused, and turns grants into
// refusals. Repetitions of what is refused are refused with it: a client that
// was told no does not wait for another answer.
func (t *Table) reject(l *lane, tx *transaction) {
	t.alloc.takeBack(tx.changes)
	for i := range tx.answers {
		if tx.answers[i].Refusal == Granted {
			tx.answers[i] = Answer{Refusal: FirewallFailed}
			l.refuseRepeats(tx, i)
		}
	}
	t.answer(tx)
}

// refuseRepeats moves requests that repeat the i-th of a transaction from those
// that wait for the next ones to those that get its answer.
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

// advance starts what can be started: what the table was told to do, as soon
// as nothing is under way that might be undone, then each lane's next
// transaction.
func (t *Table) advance(ctx context.Context) {
	if len(t.tasks) > 0 && !t.hasUndecided() {
		for _, task := range t.tasks {
			task()
		}
		t.tasks = nil
	}
	for i := range t.lanes {
		t.startNext(ctx, &t.lanes[i])
	}
	if !slices.ContainsFunc(t.lanes[:], func(l lane) bool { return l.hasForced() }) {
		for _, tell := range t.afterForced {
			tell()
		}
		t.afterForced = nil
	}
}

// hasUndecided reports whether changes are under way that the kernel may refuse.
func (t *Table) hasUndecided() bool {
	return slices.ContainsFunc(t.lanes[:], func(l lane) bool { return l.busy != nil && !l.busy.forced() })
}

// hasForced reports whether the kernel has yet to be told something that no
// request waits for.
func (l *lane) hasForced() bool {
	return len(l.forced) > 0 || l.busy != nil && l.busy.forced() || l.resync.isDue(time.Now())
}

// startNext starts the lane's next transaction: what is in force anyway, repairs,
// leases that end, and at last what clients ask for, unless the table has been
// told to do something first.
func (t *Table) startNext(ctx context.Context, l *lane) {
	for l.busy == nil {
		now := time.Now()
		switch {
		case len(l.forced) > 0:
			t.startForced(ctx, l)
		case l.resync.isDue(now):
			t.start(ctx, l, &transaction{sync: true})
		case t.alloc.deadlines[l.family].due(now) != nil:
			t.expire(l)
		case len(l.held) > 0 && len(t.tasks) == 0:
			t.startBatch(ctx, l)
		default:
			return
		}
	}
}

// startForced has the kernel carry out what is in force anyway. Where it does
// not take rules the next repair does that, too.
func (t *Table) startForced(ctx context.Context, l *lane) {
	changes := l.forced
	l.forced = nil
	if l.resync.failing() || !slices.ContainsFunc(changes, Change.Alters) {
		t.publish(changes, false)
		t.logExpired(changes)
		return
	}
	t.start(ctx, l, &transaction{changes: changes})
}

// force puts the desk's changes in force, whatever the kernel says: it
// follows when it can.
func (t *Table) force(reset bool) {
	if reset {
		t.publish(nil, true)
	}
	for _, c := range t.alloc.changes {
		l := &t.lanes[c.key().Family()]
		l.forced = append(l.forced, c)
	}
}

// expire drops the claims of a family that are due.
func (t *Table) expire(l *lane) {
	t.alloc.begin()
	t.alloc.expire(l.family)
	t.force(false)
}

// logExpired logs mappings whose lease has ended.
func (t *Table) logExpired(changes []Change) {
	now := time.Now()
	for _, c := range changes {
		if c.After == nil && !c.Before.Expires().IsZero() && !c.Before.Expires().After(now) {
			t.log.Log(context.Background(), LevelNotice, "remove port mapping "+c.Before.logName()+" because it has expired",
				"internal", c.Before.Internal)
		}
	}
}
