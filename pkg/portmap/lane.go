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
	repair resyncSchedule
	busy   *transaction // being carried out; nil: none
	held   []pending    // requests for the next ones, oldest first
	forced []Change     // in force whatever the kernel says; they go first

	trouble error // why the last request was refused; guarded by the table's mu
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
func (x *transaction) forced() bool { return len(x.waiting) == 0 }

// changes reports whether the mapping of a key is about to change.
func (l *lane) changes(k Key) bool {
	about := func(c Change) bool { return c.key() == k }
	return slices.ContainsFunc(l.forced, about) || l.busy != nil && slices.ContainsFunc(l.busy.changes, about)
}

// result is what the kernel made of a lane's transaction.
type result struct {
	lane   *lane
	err    error // of the changes
	synced bool  // everything was brought into line
	failed error // of that
}

// start has the kernel carry out a transaction beside the table's goroutine,
// which finds the result in t.done.
func (t *Table) start(ctx context.Context, l *lane, x *transaction) {
	l.busy = x
	repairs := l.repair.allows(time.Now())
	go func() { t.done <- t.carryOut(ctx, l, x, repairs) }()
}

// carryOut tells the kernel a transaction and waits for it. If the kernel
// refuses changes somebody may have flushed the chains: where repairs allows
// it, it is asked once more when all other rules stand.
func (t *Table) carryOut(ctx context.Context, l *lane, x *transaction, repairs bool) result {
	r := result{lane: l}
	if !x.sync {
		r.err = t.firewall.Apply(ctx, x.changes)
		if r.err == nil || x.forced() || !repairs || inOrder(r.err) || ctx.Err() != nil {
			return r
		}
	}
	r.synced, r.failed = true, t.firewall.Sync(ctx, l.family, t.standing(l.family))
	if !x.sync && r.failed == nil {
		if r.err = t.firewall.Apply(ctx, x.changes); r.err == nil {
			t.log.Warn("rules were not as expected and have been written anew", "family", l.family)
		}
	}
	return r
}

// inOrder reports whether changes were refused by a kernel whose other rules
// are as they should be.
func inOrder(err error) bool { return errors.Is(err, ErrNoRules) || errors.Is(err, ErrLocked) }

// standing returns the mappings of a family that are in force.
func (t *Table) standing(v Family) []*Mapping {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.inForce.family(v)
}

// settle takes note of a result and answers who waits for it.
func (t *Table) settle(ctx context.Context, r result) {
	l, x := r.lane, r.lane.busy
	l.busy = nil
	if r.synced {
		t.noteSync(l, r.failed)
	}
	switch {
	case x.sync:
	case x.forced():
		t.publish(x.changes, false)
		t.noteExpired(x.changes)
		if r.err != nil {
			l.repair.request(time.Now())
		}
	case r.err == nil:
		t.publish(x.changes, false)
		t.note(l, nil)
		t.answer(x)
	case len(x.waiting) > 1 && !l.repair.failing() && !errors.Is(r.err, ErrLocked) && ctx.Err() == nil:
		t.log.Warn("firewall refused a batch, trying its requests one by one", "requests", len(x.waiting), "err", r.err)
		t.alloc.takeBack(x.changes)
		for i := range x.waiting {
			x.waiting[i].alone = true
		}
		l.held = append(x.waiting, l.held...)
	default:
		t.reject(l, x)
		if !errors.Is(r.err, ErrNoRules) && ctx.Err() == nil {
			t.note(l, fmt.Errorf("the last request was refused: %w", r.err))
		}
		if !r.synced && !inOrder(r.err) && ctx.Err() == nil {
			l.repair.request(time.Now())
		}
	}
}

// note keeps for readers why the kernel refused the last request.
func (t *Table) note(l *lane, err error) {
	t.mu.Lock()
	l.trouble = err
	t.mu.Unlock()
}

// Trouble returns why the kernel refused the last request of a family that
// needed it; nil: it did not.
func (t *Table) Trouble(v Family) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.lanes[v].trouble
}

// reject takes back changes that the kernel refused, and turns grants into
// refusals. Repetitions of what is refused are refused with it: a client that
// was told no does not wait for another answer.
func (t *Table) reject(l *lane, x *transaction) {
	t.alloc.takeBack(x.changes)
	for i := range x.answers {
		if x.answers[i].Refusal == Granted {
			x.answers[i] = Answer{Refusal: FirewallFailed}
			l.refuseRepeats(x, i)
		}
	}
	t.answer(x)
}

// refuseRepeats moves requests that repeat the i-th of a transaction from those
// that wait for the next ones to those that get its answer.
func (l *lane) refuseRepeats(x *transaction, i int) {
	first := x.waiting[i].Request
	l.held = slices.DeleteFunc(l.held, func(p pending) bool {
		repeats := p.repeats(&first) && p.take()
		if repeats {
			x.waiting, x.answers = append(x.waiting, p), append(x.answers, x.answers[i])
		}
		return repeats
	})
}

// advance starts what can be started: what the table was told to do, as soon
// as nothing is under way that might be undone, then each lane's next
// transaction.
func (t *Table) advance(ctx context.Context) {
	if len(t.tasks) > 0 && !t.undecided() {
		for _, task := range t.tasks {
			task()
		}
		t.tasks = nil
	}
	for i := range t.lanes {
		t.proceed(ctx, &t.lanes[i])
	}
	if !slices.ContainsFunc(t.lanes[:], func(l lane) bool { return l.unsettled() }) {
		for _, tell := range t.settled {
			tell()
		}
		t.settled = nil
	}
}

// undecided reports whether changes are under way that the kernel may refuse.
func (t *Table) undecided() bool {
	return slices.ContainsFunc(t.lanes[:], func(l lane) bool { return l.busy != nil && !l.busy.forced() })
}

// unsettled reports whether the kernel has yet to be told something that no
// request waits for.
func (l *lane) unsettled() bool {
	return len(l.forced) > 0 || l.busy != nil && l.busy.forced() || l.repair.isDue(time.Now())
}

// proceed starts the lane's next transaction: what is in force anyway, repairs,
// leases that end, and at last what clients ask for, unless the table has been
// told to do something first.
func (t *Table) proceed(ctx context.Context, l *lane) {
	for l.busy == nil {
		now := time.Now()
		switch {
		case len(l.forced) > 0:
			t.startForced(ctx, l)
		case l.repair.isDue(now):
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
	if l.repair.failing() || !slices.ContainsFunc(changes, Change.Alters) {
		t.publish(changes, false)
		t.noteExpired(changes)
		return
	}
	t.start(ctx, l, &transaction{changes: changes})
}

// enforce puts the desk's changes in force, whatever the kernel says: it
// follows when it can.
func (t *Table) enforce(reset bool) {
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
	t.enforce(false)
}

// noteExpired logs mappings whose lease has ended.
func (t *Table) noteExpired(changes []Change) {
	now := time.Now()
	for _, c := range changes {
		if c.After == nil && !c.Before.Expires().IsZero() && !c.Before.Expires().After(now) {
			t.log.Log(context.Background(), LevelNotice, "remove port mapping "+c.Before.logName()+" because it has expired",
				"internal", c.Before.Internal)
		}
	}
}
