package upstream

import (
	"fmt"
	"net/netip"
	"time"
)

// isClient reports whether a gateway is a client of this router, or this router.
func (e *engine) isClient(g Gateway) bool {
	return e.options.IsOwn(g.Address) || e.options.IsServed(g.Address)
}

// checkAddress returns why an external address of the router in front is none by which
// remote hosts, or routers further out, reach this router; nil: it is one.
func (e *engine) checkAddress(s *session, a netip.Addr) *routerError {
	switch {
	case !a.IsValid():
		return errNoAddress
	case !isOuter(a), a == s.gateway.Address:
		return &routerError{cause: invalid, reason: fmt.Sprintf("the router in front says that its external address is %v", a)}
	case e.options.IsOwn(a):
		return errLoop
	case e.options.IsServed(a):
		return errServed
	}
	return nil
}

// isOuter reports whether hosts behind other routers can send packets to a: not to one of
// 0.0.0.0/8, or of 240.0.0.0/4 (RFC 6890, section 2.2.2).
func isOuter(a netip.Addr) bool {
	return a.Is4() && a.IsGlobalUnicast() && a.As4()[0] > 0 && a.As4()[0] < 240
}

// leadsBack reports whether an address leads to this router or into its networks, according
// to what checkAddress returned. Two routers that ask each other have such addresses.
func leadsBack(err error) bool { return err == errLoop || err == errServed }

// mayAsk reports whether the next request for w may be sent: a router that leads back is
// asked only to renew what it forwards elsewhere, and to take back the rest.
func (s *session) mayAsk(w *want) bool {
	return !s.looped || w.givesBack() || !w.lease.expires.IsZero()
}

// isFutile reports whether w, which is new, cannot be asked for until something changes,
// and the session knows why.
func (s *session) isFutile(w *want, now time.Time) bool {
	isDown := s.router == nil && (s.discovering || now.Before(s.retry))
	return s.err != nil && (isDown || !s.mayAsk(w))
}

// countLedBack takes over that a grant leads back to this router. A single one is no reason
// to give up the others.
func (e *engine) countLedBack(s *session, why *routerError, now time.Time) {
	if s.ledBack++; s.ledBack >= maxLedBack && !s.looped {
		e.loop(s, why, now)
	}
}

// loop asks a router that leads back to this one for nothing more, and looks again after a
// while.
func (e *engine) loop(s *session, why *routerError, now time.Time) {
	pause := min(minLoopPause<<min(s.loops, 6), maxLoopPause)
	s.loops++
	s.looped, s.ledBack = true, 0
	e.setDown(s, why, now.Add(pause))
	for _, w := range e.wants {
		if !s.mayAsk(w) {
			w.withdraw()
		}
	}
}

// endLoop asks a router that does not, or no longer, lead back for what is not forwarded.
func (e *engine) endLoop(s *session, now time.Time) {
	s.looped = false
	if leadsBack(s.err) {
		s.err = nil
	}
	for _, w := range e.wants {
		if w.lease.expires.IsZero() {
			e.askNow(w, now)
		}
	}
}
