package upstream

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"igdd/pkg/pcp"
	"igdd/pkg/portmap"
)

// errNoAddress is the error of a router that forwards a port of an unknown address.
var errNoAddress = &routerError{cause: invalid, reason: "the router in front does not tell its external address"}

// startRequests starts as many of the queued requests as are allowed now.
func (e *engine) startRequests(s *session, now time.Time) {
	for e.mayStart(s) && e.bucket.take(now) {
		e.start(s, e.queue.next(), now)
	}
}

// mayStart reports whether the next of the queued requests may be sent, as far as those are
// concerned that wait for an answer. Those that are to be sent alone come last, and only
// while the router answers.
func (e *engine) mayStart(s *session) bool {
	if e.queue.hasAny() {
		return s.asking < maxAsking && !s.alone
	}
	return e.queue.hasAlone() && s.asking == 0 && s.unanswered == 0
}

// start sends the request for w that is due.
func (e *engine) start(s *session, w *want, now time.Time) {
	back := w.givesBack()
	a := w.ask(back)
	w.asking, w.stale = true, false
	s.asking++
	s.alone = w.alone && !back
	if back {
		e.running.Go(func() {
			err := s.router.close(s.ctx, a)
			e.post(s, func(now time.Time) { e.closed(s, w, err, now) })
		})
		return
	}
	w.sent(a, now)
	e.running.Go(func() {
		g, err := s.router.open(s.ctx, a)
		e.post(s, func(now time.Time) { e.opened(s, w, g, err, now) })
	})
}

// closed takes over the answer to a request that gives a forwarding back. If there was
// none, the router is asked again until the lease has ended.
func (e *engine) closed(s *session, w *want, err error, now time.Time) {
	s.asking--
	w.asking = false
	refusal := asRouterError(err)
	if refusal == nil || refusal.cause == denied || refusal.cause == taken {
		s.unanswered = 0
	} else if s.notAnswered(); !w.hasLapsed(now) && w.givesBack() {
		w.backOff(now, 0)
		e.timetable.set(w)
		if w.told.State == portmap.NotAsked {
			e.tellUnreachable(w, refusal)
		}
		return
	}
	wasRejected := w.lease.unwanted && w.told.State == portmap.Unreachable
	w.lease = lease{}
	if wasRejected && !w.ended && !w.stale {
		w.backOff(now, 0)
		e.schedule(w)
		return
	}
	e.askNow(w, now)
}

// opened takes over the answer to a request for a forwarding.
func (e *engine) opened(s *session, w *want, g grant, err error, now time.Time) {
	s.asking--
	s.alone, w.asking = false, false
	e.suspects.asked(w.key, causeOf(err) != silent)
	refusal := asRouterError(err)
	if refusal == nil {
		s.granted = true
		e.answered(s, g.epoch)
		refusal = e.takeGrant(s, w, g, now)
	}
	switch {
	case refusal == nil:
	case refusal.cause == silent || refusal.cause == foreign:
		s.notAnswered()
		e.refused(w, refusal, now)
	default:
		s.unanswered = 0
		e.refused(w, refusal, now)
	}
	if w.stale || w.ended || w.lease.unwanted {
		e.askNow(w, now)
	} else {
		e.schedule(w)
	}
}

// takeGrant takes over what a router gave, unless its answer makes no sense.
func (e *engine) takeGrant(s *session, w *want, g grant, now time.Time) *routerError {
	switch err := e.checkGrant(s, &g); {
	case leadsBack(err):
		e.countLedBack(s, err, now)
		return w.reject(g, err)
	case err != nil:
		return err
	}
	s.ledBack, s.loops = 0, 0
	if !s.tells && (!s.external.IsValid() || w.told.Forwarding.External.Addr() == s.external) {
		e.learn(s, g.external.Addr(), now)
	}
	if w.exact && !w.givesBack() && g.external.Port() != w.key.External {
		return w.reject(g, errInsists(w.key, g))
	}
	w.granted(g, now)
	if !w.givesBack() {
		e.tell(w, w.reachable(g))
	}
	if s.looped {
		e.endLoop(s, now)
	}
	return nil
}

// checkGrant returns why no remote host can connect to what a router gave; nil: it can. An
// address that is not told is the one that the last check told.
func (e *engine) checkGrant(s *session, g *grant) *routerError {
	if !g.external.Addr().IsValid() {
		if causeOf(s.err) == invalid {
			return asRouterError(s.err)
		}
		g.external = netip.AddrPortFrom(s.external, g.external.Port())
	}
	if g.external.Port() == 0 {
		return &routerError{cause: invalid, reason: "the router in front says that it forwards port 0"}
	}
	return e.checkAddress(s, g.external.Addr())
}

// refused takes over that a request for a forwarding failed. The answer to the nonce of
// another mapping, which was there before, says nothing of this one.
func (e *engine) refused(w *want, err *routerError, now time.Time) {
	switch {
	case w.lease.nonce != w.nonce:
	case !w.lease.unwanted && w.failed(now, err):
	case errors.Is(err, pcp.NotAuthorized) && w.changeNonce():
		w.stale = true
	default:
		e.tellUnreachable(w, err)
		e.doubtMethod(e.session, w, err, now)
	}
}

// The end gives back within endTime, and has maxEnding requests at a time.
const (
	endTime   = 2 * time.Second
	maxEnding = 256
)

// giveBack gives some forwardings back after run, first those that no lease ends; once more
// only if there was time for all.
func (e *engine) giveBack(isMeant func(*want) bool) {
	s := e.session
	if s == nil || s.router == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.ctx), endTime)
	defer cancel()
	s.router.hurry()
	e.giveBackAll(ctx, func(w *want) bool { return isMeant(w) && w.lease.permanent })
	e.giveBackAll(ctx, func(w *want) bool { return isMeant(w) && !w.lease.permanent })
	if ctx.Err() != nil {
		e.session = nil // the time is over
	}
}

// giveBackAll gives some forwardings back at once.
func (e *engine) giveBackAll(ctx context.Context, isMeant func(*want) bool) {
	router := e.session.router
	var all sync.WaitGroup
	places := make(chan struct{}, maxEnding)
	for _, w := range e.wants {
		if isMeant(w) {
			all.Go(func() {
				places <- struct{}{}
				if router.close(ctx, w.ask(true)) == nil {
					w.lease = lease{}
				}
				<-places
			})
		}
	}
	all.Wait()
}
