package upstream

import (
	"context"
	"errors"
	"sync"
	"time"

	"igdd/pkg/portmap"
)

// engine keeps what is wanted and asks the router in front for it. All but its reporter
// belongs to the goroutine that runs it.
type engine struct {
	*Client
	ctx      context.Context
	running  sync.WaitGroup
	posted   chan func(time.Time) // what other goroutines have for this one
	reporter *reporter

	wants     map[portmap.Key]*want
	suspects  suspects
	timetable timetable
	queue     queue
	bucket    bucket

	session       *session // nil: there is no router in front
	heard         chan struct{}
	stopListening context.CancelFunc
}

func newEngine(ctx context.Context, c *Client) *engine {
	return &engine{
		Client: c, ctx: ctx,
		posted:   make(chan func(time.Time)),
		reporter: newReporter(c.options),
		wants:    make(map[portmap.Key]*want),
		suspects: make(suspects),
		heard:    make(chan struct{}, 1),
	}
}

// run asks the router in front until the context ends.
func (e *engine) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-e.wake:
			e.takeChanges(time.Now())
		case f := <-e.posted:
			f(time.Now())
		case <-e.heard:
			e.announced(time.Now())
		case <-timer.C:
		}
		timer.Stop()
		now := time.Now()
		if next := e.step(now); !next.IsZero() {
			timer.Reset(next.Sub(now))
		}
		e.setStatus(e.currentStatus())
	}
}

// post makes the engine's goroutine call f, unless another session has begun or the
// context has ended.
func (e *engine) post(s *session, f func(time.Time)) {
	inSession := func(now time.Time) {
		if e.session == s {
			f(now)
		}
	}
	select {
	case e.posted <- inSession:
	case <-e.ctx.Done():
	}
}

// currentStatus returns what the operator is told.
func (e *engine) currentStatus() Status {
	s := e.session
	if s == nil {
		return Status{}
	}
	st := Status{Gateway: s.gateway.Address, External: s.external, Err: s.err}
	if s.router != nil {
		st.Method = s.method
	}
	return st
}

// takeChanges takes over what was set and changed since the last time.
func (e *engine) takeChanges(now time.Time) {
	changes, g := e.take()
	e.setGateway(g)
	for _, c := range changes {
		if c.Before.WantsForwarding() && (!c.After.WantsForwarding() || c.After.Key != c.Before.Key) {
			e.end(c.Before.Key, now)
		}
		if c.After.WantsForwarding() {
			e.add(c.After, now)
		}
	}
}

// add takes over a mapping that is to be forwarded. What is known of it already is told
// again where nothing has to be asked.
func (e *engine) add(m *portmap.Mapping, now time.Time) {
	w := e.wants[m.Key]
	switch {
	case w == nil:
		w = newWant(m, e.options.Secret)
		e.wants[m.Key] = w
	case w.told.State != portmap.NotAsked && w.isFor(m):
		e.reporter.add(w.told)
		return
	default:
		w.take(m, e.options.Secret)
	}
	if s := e.session; s != nil && s.isFutile(w, now) {
		e.tellUnreachable(w, s.err)
	}
	e.askNow(w, now)
}

// end gives back the forwarding of a mapping that has ended.
func (e *engine) end(k portmap.Key, now time.Time) {
	w := e.wants[k]
	if w == nil {
		return
	}
	w.ended = true
	e.reporter.drop(k)
	e.askNow(w, now)
}

// askNow makes the next request for w due, if there is a router to ask.
func (e *engine) askNow(w *want, now time.Time) {
	switch {
	case w.asking:
		w.stale = true
	case w.ended && !w.lease.asked:
		e.forget(w)
	case e.isDown():
	default:
		w.due = earlier(w.due, now)
		e.schedule(w)
	}
}

// schedule has w wait until it is due, if it may be asked for at all.
func (e *engine) schedule(w *want) {
	if e.session.mayAsk(w) {
		e.timetable.set(w)
	} else {
		w.withdraw()
	}
}

// isDown reports whether there is no router to ask.
func (e *engine) isDown() bool { return e.session == nil || e.session.router == nil }

// forget forgets a want that has ended.
func (e *engine) forget(w *want) {
	w.withdraw()
	delete(e.wants, w.key)
}

// forgetLapsed forgets what need not be given back any more, since its lease has ended.
func (e *engine) forgetLapsed(now time.Time) {
	for _, w := range e.wants {
		if w.ended && w.hasLapsed(now) {
			e.forget(w)
		}
	}
}

// park makes all wants wait for a router.
func (e *engine) park() {
	e.timetable, e.queue = nil, queue{}
	for k, w := range e.wants {
		w.in, w.asking, w.stale, w.failures = nil, false, false, 0
		if w.ended && !w.lease.asked {
			delete(e.wants, k)
		}
	}
}

// askAll asks for everything anew.
func (e *engine) askAll(now time.Time) {
	for _, w := range e.wants {
		w.lease.doubtful = true
		e.askNow(w, now)
	}
}

// tellUnreachable reports that a mapping is not forwarded.
func (e *engine) tellUnreachable(w *want, err error) {
	e.tell(w, portmap.Report{Forwarding: portmap.Forwarding{
		State: portmap.Unreachable, OtherPort: w.exact && causeOf(err) == taken, Reason: err.Error(),
	}})
}

// tell reports what became of a forwarding, if that is new.
func (e *engine) tell(w *want, r portmap.Report) {
	r.Key = w.key
	if !w.ended && r != w.told {
		w.told = r
		e.reporter.add(r)
	}
}

// step does what is due, and returns when something is due next; the zero Time: nothing.
func (e *engine) step(now time.Time) time.Time {
	s := e.session
	switch {
	case s == nil || s.discovering:
		return time.Time{}
	case s.router == nil:
		return e.stepDown(s, now)
	}
	if s.anew.take(now) {
		e.options.Log.Info("the router in front may have lost what it forwards, and is asked anew", "gateway", s.gateway.Address)
		e.askAll(now)
	}
	if next := e.nextCheck(s); !next.IsZero() && !next.After(now) {
		if e.check(s, now); e.session != s {
			return now
		}
	}
	for len(e.timetable) > 0 && !e.timetable[0].due.After(now) {
		e.enqueue(e.timetable[0], now)
	}
	e.startRequests(s, now)
	return e.nextStep(s)
}

// stepDown looks for a router, the first time or when it may answer again. Without wants
// it is looked for once only.
func (e *engine) stepDown(s *session, now time.Time) time.Time {
	switch {
	case len(e.wants) == 0 && s.err != nil:
		return time.Time{}
	case now.Before(s.retry):
		return s.retry
	}
	e.forgetLapsed(now)
	e.discover(s, now)
	if s.discovering {
		return time.Time{}
	}
	return s.retry
}

// nextStep returns when something is due next.
func (e *engine) nextStep(s *session) time.Time {
	next := e.nextCheck(s)
	if s.anew.due {
		next = earlier(next, s.anew.next)
	}
	if len(e.timetable) > 0 {
		next = earlier(next, e.timetable[0].due)
	}
	if e.mayStart(s) {
		next = earlier(next, e.bucket.next())
	}
	return next
}

// earlier returns the earlier of two times, of which a may be zero.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// later returns the later of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// causeOf returns the cause of a *routerError; 0 if err is none.
func causeOf(err error) cause {
	if e, ok := errors.AsType[*routerError](err); ok {
		return e.cause
	}
	return 0
}

// asRouterError returns err as a *routerError; nil if it is nil.
func asRouterError(err error) *routerError {
	if e, ok := errors.AsType[*routerError](err); ok || err == nil {
		return e
	}
	return &routerError{cause: silent, reason: err.Error()}
}
