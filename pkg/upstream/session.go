package upstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"igdd/pkg/portmap"
)

// A router in front is asked every checkInterval whether it is still the same, and after
// checkPause at the earliest if there is doubt, renewalPause if a client renews. It is gone
// after maxUnanswered requests in a row without answer. It leads back to this router if
// maxLedBack grants in a row do, which is looked at again after minLoopPause at first and
// maxLoopPause at last.
const (
	checkInterval = time.Minute
	checkPause    = 2 * time.Second
	renewalPause  = 15 * time.Second
	maxUnanswered = 3
	maxLedBack    = 3
	minLoopPause  = 10 * time.Second
	maxLoopPause  = 10 * time.Minute
	maxBackoff    = time.Minute
)

// Why a router in front is not asked.
var (
	errClient = errors.New("the router in front is a client of this router")
	errLoop   = &routerError{cause: invalid, reason: "the router in front leads back to this router"}
	errServed = &routerError{cause: invalid, reason: "the router in front has an external address of a network that is served here"}
)

// session is the dialogue with a router in front, until it does not answer any more.
type session struct {
	gateway Gateway
	ctx     context.Context
	cancel  context.CancelFunc

	discovering bool
	discoveries int       // that failed in a row
	retry       time.Time // of discovery, or when a loop is looked at again

	router   router // nil: none answers
	method   Method
	external netip.Addr
	tells    bool // the last check told the external address; else it is that of forwardings
	epoch    epoch
	err      error // why nothing is forwarded
	looped   bool  // it leads back to this router
	ledBack  int   // grants in a row that do
	loops    int   // since the last grant that did not

	asking     int  // requests for wants that wait for an answer
	alone      bool // one of them, and no other may be sent
	unanswered int  // requests in a row
	checking   bool
	checked    time.Time // when the last check began
	doubt      bool      // check, or discover again, as soon as possible

	granted      bool          // it has forwarded a port
	unauthorized []portmap.Key // mappings that it has refused so, up to maxUnauthorized
	useless      []Method      // it forwards nothing by them
	others       pacer         // of looking for another method

	anew  pacer // of asking for everything anew
	moves pacer // of changes of the external address
	back  pacer // of asking for what was refused when it answers again
}

// newSession returns a session that asks nothing yet.
func (e *engine) newSession(g Gateway) *session {
	ctx, cancel := context.WithCancel(e.ctx)
	return &session{gateway: g, ctx: ctx, cancel: cancel}
}

// setGateway begins anew with another router in front, or with none.
func (e *engine) setGateway(g Gateway) {
	if e.session != nil && e.session.gateway == g || e.session == nil && g == (Gateway{}) {
		return
	}
	if s := e.session; s != nil {
		s.cancel()
		e.stopListening()
		if s.external.IsValid() {
			e.options.Seen(netip.Addr{})
		}
	}
	e.session = nil
	e.reporter.clear()
	for _, w := range e.wants {
		w.lease, w.told = lease{}, portmap.Report{}
	}
	clear(e.suspects)
	e.park()
	if g != (Gateway{}) {
		e.session = e.newSession(g)
		e.listenTo(g)
	}
}

// discover begins to look for a protocol that the router speaks.
func (e *engine) discover(s *session, now time.Time) {
	switch {
	case !s.gateway.Address.IsValid():
		e.setDown(s, fmt.Errorf("%s has no IPv4 gateway", s.gateway.Device), now.Add(maxLoopPause))
		return
	case e.isClient(s.gateway):
		e.setDown(s, errClient, now.Add(maxLoopPause))
		return
	}
	s.discovering = true
	methods := e.methods(s)
	e.running.Go(func() {
		d := e.connect.discover(s.ctx, methods, s.gateway)
		e.post(s, func(now time.Time) { e.discovered(s, d, now) })
	})
}

// discovered takes over what was found.
func (e *engine) discovered(s *session, d discovery, now time.Time) {
	s.discovering = false
	if d.router == nil {
		pause := min(time.Second<<min(s.discoveries, 10), maxBackoff)
		s.discoveries++
		e.setDown(s, d.err, now.Add(pause-pause/10+rand.N(pause/5)))
		if s.doubt {
			e.announced(now)
		}
		return
	}
	s.router, s.method, s.discoveries, s.checked = d.router, d.method, 0, now
	e.options.Log.Info("the router in front answers", "gateway", s.gateway.Address, "protocol", d.method)
	e.takeState(s, d.state, d.denied, now)
	for _, w := range e.wants {
		e.askNow(w, now)
	}
}

// setDown says that nothing is forwarded, and why, until retry.
func (e *engine) setDown(s *session, err error, retry time.Time) {
	if s.err == nil || s.err.Error() != err.Error() {
		e.options.Log.Warn("the router in front forwards nothing", "gateway", s.gateway.Address, "err", err)
	}
	s.err, s.retry = err, retry
	e.setStatus(e.currentStatus()) // before the table hears of it
	for _, w := range e.wants {
		if s.router == nil || !s.mayAsk(w) {
			e.tellUnreachable(w, err)
		}
	}
}

// lose ends the session with a router that does not answer any more, and looks for it.
func (e *engine) lose(s *session, err error, now time.Time) {
	e.setDown(e.succeed(s), err, now)
}

// succeed ends a session, and begins the next one with the same router.
func (e *engine) succeed(s *session) *session {
	s.cancel()
	for _, w := range e.wants {
		w.lease.doubtful = true
	}
	e.park()
	n := e.newSession(s.gateway)
	n.external, n.epoch, n.err, n.anew, n.moves, n.back = s.external, s.epoch, s.err, s.anew, s.moves, s.back
	n.granted, n.useless = s.granted, s.useless
	e.session = n
	return n
}

// check begins to ask whether the router is still the same.
func (e *engine) check(s *session, now time.Time) {
	if e.isClient(s.gateway) {
		e.lose(s, errClient, now)
		return
	}
	s.checking, s.checked, s.doubt = true, now, false
	e.renewed.Store(false)
	e.running.Go(func() {
		st, err := s.router.check(s.ctx)
		e.post(s, func(now time.Time) { e.checkedState(s, st, err, now) })
	})
}

// nextCheck returns when the router is to be checked; the zero Time: never.
func (e *engine) nextCheck(s *session) time.Time {
	switch {
	case s.checking:
	case s.doubt:
		return s.checked.Add(checkPause)
	case s.looped && len(e.wants) > 0:
		return s.retry
	case s.looped:
	case e.renewed.Load() && len(e.wants) > 0:
		return s.checked.Add(renewalPause)
	case len(e.wants) > 0:
		return s.checked.Add(checkInterval)
	}
	return time.Time{}
}

// checkedState takes over the answer to a check.
func (e *engine) checkedState(s *session, st state, err error, now time.Time) {
	s.checking = false
	e.suspects.judge(causeOf(err) != silent, now)
	switch refusal := asRouterError(err); {
	case refusal == nil, refusal.cause == denied, refusal.cause == invalid:
		e.takeState(s, st, err, now)
	default:
		s.notAnswered()
		if refusal.cause == foreign || s.unanswered >= maxUnanswered {
			e.lose(s, refusal, now)
		}
	}
}

// takeState takes over what a router says of itself. It can refuse to tell its address
// and yet forward ports.
func (e *engine) takeState(s *session, st state, denied error, now time.Time) {
	failed, unknown := s.err != nil, !s.external.IsValid()
	s.back.due = s.back.due || s.unanswered > 0
	e.answered(s, st.epoch)
	s.anew.due = s.anew.due || st.lost
	refusal := e.checkAddress(s, st.external)
	if s.tells = refusal == nil; leadsBack(refusal) {
		e.loop(s, refusal, now)
		return
	}
	s.err = denied
	switch {
	case s.tells:
		e.learn(s, st.external, now)
	case st.external.IsValid():
		s.err = refusal
	}
	switch {
	case s.looped:
		e.endLoop(s, now)
	case failed && s.err == nil, unknown && s.external.IsValid(), s.back.take(now):
		e.retryFailed(now)
	}
}

// retryFailed asks again for what was refused.
func (e *engine) retryFailed(now time.Time) {
	for _, w := range e.wants {
		if w.failures > 0 {
			e.askNow(w, now)
		}
	}
}

// answered notes that the router has answered. If it has lost what it forwarded, it is to
// be asked for everything anew.
func (e *engine) answered(s *session, ep epoch) {
	s.unanswered = 0
	s.anew.due = s.anew.due || !ep.follows(s.epoch)
	if ep.at.After(s.epoch.at) {
		s.epoch = ep
	}
}

// notAnswered counts a request that was not answered. A check is to show whether the
// router is gone, or just does not answer that request.
func (s *session) notAnswered() {
	s.unanswered++
	s.doubt = true
}

// announced looks at a router that has announced something: it may have restarted.
func (e *engine) announced(now time.Time) {
	switch s := e.session; {
	case s == nil:
	case s.router == nil && !s.discovering:
		s.retry, s.doubt = earlier(s.retry, now.Add(checkPause)), false
	default:
		s.doubt = true
	}
}

// learn takes over the external address. A change means that everything is to be asked
// for anew; one that follows the last too soon is left for later, since it is told again.
func (e *engine) learn(s *session, a netip.Addr, now time.Time) {
	if a == s.external {
		return
	}
	if s.external.IsValid() {
		if s.moves.due = true; !s.moves.take(now) {
			return
		}
		s.anew.due = true
	}
	s.external = a
	e.options.Log.Info("the router in front has told its external address", "gateway", s.gateway.Address, "external", a)
	e.options.Seen(a)
}
