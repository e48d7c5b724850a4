package portmap

import (
	"context"
	"log/slog"
	"time"
)

// batch decides everything that waits and puts it in force in one go. While
// the kernel works the next batch gathers.
func (t *Table) batch(first pending) {
	t.gather(first)
	switch err := t.attempt(t.waiting); {
	case err == nil:
	case len(t.waiting) == 1 || t.repair.failing():
		fail(t.answers)
	default:
		t.Log.Warn("firewall refused a batch, trying its requests one by one", "requests", len(t.waiting), "err", err)
		t.oneByOne()
	}
	for i := range t.waiting {
		p, a := &t.waiting[i], t.answers[i]
		t.report(&p.Request, &a)
		p.answer(a)
		if t.Decided != nil {
			t.Decided(p.Request, a)
		}
	}
	clear(t.waiting) // they hold on to their senders
	clear(t.answers)
}

// gather takes what waits, up to the length of a batch.
func (t *Table) gather(first pending) {
	t.waiting = append(t.waiting[:0], first)
	for len(t.waiting) < batchLength {
		select {
		case p := <-t.queue:
			t.waiting = append(t.waiting, p)
		default:
			return
		}
	}
}

// attempt decides requests and commits them: kernel, then file, then readers.
// On error nothing of it remains.
func (t *Table) attempt(waiting []pending) error {
	t.desk.begin()
	t.answers = t.answers[:0]
	for i := range waiting {
		t.answers = append(t.answers, t.desk.decide(&waiting[i].Request))
	}
	if err := t.instruct(); err != nil {
		return err
	}
	t.publish(t.desk.changes, false)
	return nil
}

// oneByOne attempts each request of a batch by itself, so that one that the
// firewall does not take spoils no other's answer.
func (t *Table) oneByOne() {
	answers := make([]Answer, 0, len(t.waiting))
	for i := range t.waiting {
		if t.attempt(t.waiting[i:i+1]) != nil {
			fail(t.answers)
		}
		answers = append(answers, t.answers[0])
	}
	t.answers = answers
}

// fail turns grants into refusals.
func fail(answers []Answer) {
	for i := range answers {
		if answers[i].Refusal == Granted {
			answers[i] = Answer{Refusal: FirewallFailed}
		}
	}
}

// enforce commits what no firewall error may hold up; the kernel follows when
// it can.
func (t *Table) enforce(reset bool) {
	changes := t.desk.changes
	refused := len(changes) > 0 && !t.repair.failing() && t.Firewall.Apply(context.Background(), changes) != nil
	t.publish(changes, reset)
	if refused {
		t.resync()
	}
}

// publish writes changes down and shows them to readers.
func (t *Table) publish(changes []Change, reset bool) {
	if len(changes) == 0 && !reset {
		return
	}
	err := t.Store.Save(changes)
	if err != nil && !t.unsaved {
		t.Log.Error("mappings are in force but not written down", "err", err)
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
	t.Committed(changes, reset)
}

// report logs a decision.
func (t *Table) report(req *Request, a *Answer) {
	if !t.Log.Enabled(context.Background(), slog.LevelInfo) {
		return
	}
	log := t.Log.With("client", req.Client, "by", req.Origin)
	switch {
	case a.Refusal != Granted:
		log.Info("refused", "reason", a.Refusal, "protocol", req.Protocol, "external", req.External, "internal", req.Internal)
	case req.Op == Close && a.Closed > 0:
		log.Info("removing redirect rule", "protocol", req.Protocol, "external", req.External, "internal", req.Internal, "count", a.Closed)
	case req.Op == Open && len(a.Mapping.Claims) > 0:
		log.Info("redirecting port "+a.Mapping.logName(), "to", a.Mapping.Internal, "for", a.Mapping.Description(), "lifetime", a.Lifetime)
	}
}
