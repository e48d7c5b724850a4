package portmap

import (
	"context"
	"slices"
	"time"
)

// decideArrived decides, as one batch, the queued requests that need no kernel;
// the others are held for the next transaction of their lane.
func (t *Table) decideArrived(first pending) {
	t.drainQueue(first)
	t.alloc.begin()
	decided := t.arrived[:0]
	t.answers = t.answers[:0]
	for i := range t.arrived {
		p := &t.arrived[i]
		if a, ok := t.decideWithoutKernel(p); ok {
			decided, t.answers = append(decided, *p), append(t.answers, a)
		} else {
			l := t.lane(&p.Request)
			l.held = append(l.held, *p)
		}
	}
	t.publish(t.alloc.changes, false)
	t.answer(&transaction{waiting: decided, answers: t.answers})
	clear(t.arrived) // so that their callbacks can be freed
	clear(t.answers)
}

// drainQueue moves queued requests to arrived, up to the length of a batch.
func (t *Table) drainQueue(first pending) {
	t.arrived = append(t.arrived[:0], first)
	for len(t.arrived) < batchLength {
		select {
		case p := <-t.queue:
			t.arrived = append(t.arrived, p)
		default:
			return
		}
	}
}

// lane returns the lane whose rules a request may change.
func (t *Table) lane(req *Request) *lane { return &t.lanes[req.family()] }

// decideWithoutKernel decides a request if the decision changes no rules and
// does not depend on changes that the kernel may still refuse. Otherwise it
// leaves everything as it was.
func (t *Table) decideWithoutKernel(p *pending) (Answer, bool) {
	l := t.lane(&p.Request)
	if l.hasEarlier(&p.Request) {
		return Answer{}, false
	}
	serial, id, n := t.alloc.serial, t.alloc.lastID, len(t.alloc.changes)
	a := t.alloc.decide(&p.Request)
	needsKernel := func(c Change) bool { return c.Alters() || l.isChanging(c.key()) }
	if slices.ContainsFunc(t.alloc.changes[n:], needsKernel) || a.dependsOnOthers() || a.Mapping != nil && l.isChanging(a.Mapping.Key) || !p.take() {
		t.alloc.undo(n)
		t.alloc.serial, t.alloc.lastID = serial, id
		return Answer{}, false
	}
	return a, true
}

// hasEarlier reports whether a held or busy request of the same client may be
// about the same mapping.
func (l *lane) hasEarlier(req *Request) bool {
	touches := func(p pending) bool { return req.mayAffect(&p.Request) }
	return slices.ContainsFunc(l.held, touches) || l.busy != nil && slices.ContainsFunc(l.busy.waiting, touches)
}

// startBatch decides the held requests of a lane and starts the transaction
// that results.
func (t *Table) startBatch(ctx context.Context, l *lane) {
	tx := new(transaction)
	t.alloc.begin()
	for _, p := range l.takeBatch() {
		if p.take() {
			tx.waiting, tx.answers = append(tx.waiting, p), append(tx.answers, t.alloc.decide(&p.Request))
		}
	}
	tx.changes = t.alloc.changes
	switch {
	case !slices.ContainsFunc(tx.changes, Change.Alters):
		t.publish(tx.changes, false)
		t.answer(tx)
	default:
		t.start(ctx, l, tx)
	}
}

// takeBatch takes the requests for the next transaction from those that are held: of
// each host only the oldest ones, so that others wait no longer than for these.
func (l *lane) takeBatch() (batch []pending) {
	if l.held[0].alone {
		batch, l.held = l.held[:1], l.held[1:]
		return batch
	}
	counts := make(map[string]int)
	var left []pending
	for _, p := range l.held {
		host := p.clientHost()
		if len(batch) == batchLength || counts[host] == batchPerHost {
			left = append(left, p)
			continue
		}
		counts[host]++
		batch = append(batch, p)
	}
	l.held = left
	return batch
}

// answer gives each client of a transaction its answer.
func (t *Table) answer(tx *transaction) {
	for i := range tx.waiting {
		p, a := &tx.waiting[i], tx.answers[i]
		t.countHit(a.Block)
		t.closeLeftOpen(&p.Request, a)
		if !t.park(p, a) {
			t.reply(p, a)
		}
	}
}

// reply gives a client its answer.
func (t *Table) reply(p *pending, a Answer) {
	p.answer(a)
	if t.decided != nil {
		t.decided(p.Request, a)
	}
	if t.waited != nil {
		t.waited(time.Since(p.since))
	}
}

// publish commits changes, or the new epoch if reset is set, unless there are
// none.
func (t *Table) publish(changes []Change, reset bool) {
	if len(changes) > 0 || reset {
		t.commit(changes, reset)
	}
}

// commit saves changes and makes them visible to readers; reset is set if the
// epoch has restarted.
func (t *Table) commit(changes []Change, reset bool) {
	t.save(changes)
	t.mu.Lock()
	for _, c := range changes {
		t.inForce.apply(c)
		if c.concernsPortMapping() {
			t.updates++
		}
		t.alloc.forgetForwarding(c)
	}
	t.mu.Unlock()
	t.committed(changes, reset)
	if t.upstream != nil {
		t.upstream.Update(changes)
	}
}

// save saves changes, and the epoch and the blocks if they have changed.
func (t *Table) save(changes []Change) error {
	err := t.store.Save(changes)
	if err != nil && !t.unsaved {
		t.log.Error("cannot save mappings; they are in force, but a restart would lose them", "err", err)
	}
	t.unsaved = err != nil
	return err
}
