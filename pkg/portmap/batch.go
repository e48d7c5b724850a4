package portmap

import (
	"context"
	"log/slog"
	"slices"
	"time"
)

// sortOut decides what has come in and needs no kernel, in one go; what needs
// it is held for its lane's next transaction.
func (t *Table) sortOut(first pending) {
	t.gather(first)
	t.alloc.begin()
	decided := t.fresh[:0]
	t.answers = t.answers[:0]
	for i := range t.fresh {
		p := &t.fresh[i]
		if a, ok := t.quick(p); ok {
			decided, t.answers = append(decided, *p), append(t.answers, a)
		} else {
			l := t.lane(&p.Request)
			l.held = append(l.held, *p)
		}
	}
	t.publish(t.alloc.changes, false)
	t.answer(&transaction{waiting: decided, answers: t.answers})
	clear(t.fresh) // they hold on to their senders
	clear(t.answers)
}

// gather takes what waits, up to the length of a batch.
func (t *Table) gather(first pending) {
	t.fresh = append(t.fresh[:0], first)
	for len(t.fresh) < batchLength {
		select {
		case p := <-t.queue:
			t.fresh = append(t.fresh, p)
		default:
			return
		}
	}
}

// lane returns where a request waits for the kernel.
func (t *Table) lane(req *Request) *lane { return &t.lanes[req.family()] }

// quick decides a request if that needs no kernel and does not depend on what
// the kernel is just told.
func (t *Table) quick(p *pending) (Answer, bool) {
	l := t.lane(&p.Request)
	if l.before(&p.Request) {
		return Answer{}, false
	}
	serial, id, n := t.alloc.serial, t.alloc.lastID, len(t.alloc.changes)
	a := t.alloc.decide(&p.Request)
	kernel := func(c Change) bool { return c.Alters() || l.changes(c.key()) }
	if slices.ContainsFunc(t.alloc.changes[n:], kernel) || a.contended() || a.Mapping != nil && l.changes(a.Mapping.Key) || !p.take() {
		t.alloc.undo(n)
		t.alloc.serial, t.alloc.lastID = serial, id
		return Answer{}, false
	}
	return a, true
}

// before reports whether a request of the same client that waits or is under
// way may be about the same mapping.
func (l *lane) before(req *Request) bool {
	touches := func(p pending) bool { return req.touches(&p.Request) }
	return slices.ContainsFunc(l.held, touches) || l.busy != nil && slices.ContainsFunc(l.busy.waiting, touches)
}

// startBatch decides what waits in a lane and has the kernel carry it out.
func (t *Table) startBatch(ctx context.Context, l *lane) {
	n := min(len(l.held), batchLength)
	if l.held[0].alone {
		n = 1
	}
	x := &transaction{waiting: make([]pending, 0, n), answers: make([]Answer, 0, n)}
	t.alloc.begin()
	for _, p := range l.held[:n] {
		if p.take() {
			x.waiting, x.answers = append(x.waiting, p), append(x.answers, t.alloc.decide(&p.Request))
		}
	}
	clear(l.held[:n]) // they hold on to their senders
	if l.held = l.held[n:]; len(l.held) == 0 {
		l.held = nil
	}
	x.changes = t.alloc.changes
	switch {
	case !slices.ContainsFunc(x.changes, Change.Alters):
		t.publish(x.changes, false)
		t.answer(x)
	case l.repair.failing():
		t.reject(l, x)
	default:
		t.start(ctx, l, x)
	}
}

// answer tells those who wait what was decided.
func (t *Table) answer(x *transaction) {
	for i := range x.waiting {
		p, a := &x.waiting[i], x.answers[i]
		t.report(&p.Request, &a)
		p.answer(a)
		if t.decided != nil {
			t.decided(p.Request, a)
		}
	}
}

// publish writes changes down and shows them to readers.
func (t *Table) publish(changes []Change, reset bool) {
	if len(changes) == 0 && !reset {
		return
	}
	err := t.store.Save(changes)
	if err != nil && !t.unsaved {
		t.log.Error("mappings are in force but not written down", "err", err)
	}
	t.unsaved = err != nil
	t.mu.Lock()
	for _, c := range changes {
		t.inForce.apply(c)
		if c.port() {
			t.updates++
		}
	}
	if reset {
		t.epoch = time.Now()
	}
	t.mu.Unlock()
	t.committed(changes, reset)
}

// report logs a decision.
func (t *Table) report(req *Request, a *Answer) {
	if !t.log.Enabled(context.Background(), slog.LevelInfo) {
		return
	}
	log := t.log.With("client", req.Client, "by", req.Origin)
	switch {
	case a.Refusal != Granted:
		log.Info("refused", "reason", a.Refusal, "protocol", req.Protocol, "external", req.External, "internal", req.Internal)
	case req.Op == Close && a.Closed > 0:
		log.Info("removing redirect rule", "protocol", req.Protocol, "external", req.External, "internal", req.Internal, "count", a.Closed)
	case req.Op == Open && len(a.Mapping.Claims) > 0:
		if a.Closed > 0 {
			log.Log(context.Background(), LevelNotice, "remove port mapping "+a.Mapping.logName()+" because its host has another address now", "internal", req.Former, "count", a.Closed)
		}
		log.Info("redirecting port "+a.Mapping.logName(), "to", a.Mapping.Internal, "for", a.Mapping.Description(), "lifetime", a.Lifetime)
	}
}
