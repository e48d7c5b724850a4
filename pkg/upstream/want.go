package upstream

import (
	"cmp"
	"container/heap"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"igdd/pkg/portmap"
	"igdd/pkg/upnp"
)

// leaseTime is the lease that is asked for. minRetry, from RFC 6887, section 11.2.1, is the
// shortest time between two requests for one forwarding. A router that refused is asked
// again after firstRetry at the earliest, and lastRetry at the latest.
const (
	leaseTime  = time.Hour
	maxLease   = 24 * time.Hour
	minRetry   = 4 * time.Second
	firstRetry = 30 * time.Second
	lastRetry  = 30 * time.Minute
)

// want is a mapping whose port is to be forwarded by the router in front, or whose
// forwarding is to be given back.
type want struct {
	key         portmap.Key
	serial      uint64 // of the mapping
	host        netip.Addr
	exact       bool // no other external port will do than the mapping's own
	ended       bool // the forwarding is to be given back
	nonce       portmap.Nonce
	other       portmap.Nonce // for a router that does not know that one
	filters     []portmap.Filter
	description string

	lease  lease
	former uint16 // external port of the last lease, else the mapping's own

	told     portmap.Report // last; the zero Report: none yet
	failures int            // requests in a row that failed, without a lease
	asking   bool           // a request waits for its answer
	alone    bool           // the next request is sent while no other one waits for its answer
	stale    bool           // it has changed since it was asked for
	due      time.Time      // when the next request is
	in       *timetable     // where it waits; nil: nowhere
	index    int            // there
}

// lease is what the router in front forwards.
type lease struct {
	asked     bool // the router may forward the port
	nonce     portmap.Nonce
	filtered  bool
	expires   time.Time // zero: nothing is granted
	permanent bool      // it does not end at expires
	until     time.Time // when the router has ended it, even if it did not answer; unless permanent
	before    time.Time // until, without the last request
	doubtful  bool      // the router may have lost it
	unwanted  bool      // it is for another port than the one that will do, or leads back
}

// newWant returns the want of a mapping.
func newWant(m *portmap.Mapping, secret []byte) *want {
	w := &want{key: m.Key, former: m.OuterPort()}
	w.take(m, secret)
	return w
}

// take takes over what is wanted. A mapping keeps the nonce that it had first: that of
// its PCP client (RFC 7648, section 3), else one that is the same after a restart.
func (w *want) take(m *portmap.Mapping, secret []byte) {
	if w.serial != m.Serial || w.ended {
		w.nonce, w.other = nonceOf(m, secret), secretNonce(m.Key, secret)
		w.told, w.failures = portmap.Report{}, 0
	}
	w.serial, w.host, w.ended = m.Serial, m.Internal.Addr(), false
	w.exact, w.filters, w.description = m.Forwarding.Exact, m.Filters(), m.Description()
	if w.exact && w.former != w.key.External && !w.lease.expires.IsZero() {
		w.lease.unwanted = true
	}
}

// isFor reports whether what is wanted is what a mapping needs.
func (w *want) isFor(m *portmap.Mapping) bool {
	return !w.ended && w.serial == m.Serial && w.exact == m.Forwarding.Exact && slices.Equal(w.filters, m.Filters())
}

// nonceOf returns the nonce of requests for a mapping.
func nonceOf(m *portmap.Mapping, secret []byte) (n portmap.Nonce) {
	if c, found := m.Claim(portmap.PCP); found && c.Nonce != n {
		return c.Nonce
	}
	return secretNonce(m.Key, secret)
}

// secretNonce returns the nonce of requests for a mapping that no PCP client asked for.
func secretNonce(k portmap.Key, secret []byte) (n portmap.Nonce) {
	id := upnp.UUIDOf(string(secret) + k.String())
	copy(n[:], id[:])
	return n
}

// changeNonce has a router that does not know the nonce asked by the other one of two: that
// of the PCP client, and the one that the mapping had if it was there before that client, and
// before a restart. It reports whether that is to be tried at once.
func (w *want) changeNonce() bool {
	w.nonce, w.other = w.other, w.nonce
	return w.nonce != w.other && w.failures == 1
}

// givesBack reports whether the next request gives a forwarding back: one that is not, or
// no longer, wanted, or that another client's nonce keeps.
func (w *want) givesBack() bool {
	return w.lease.asked && (w.ended || w.lease.unwanted || w.lease.nonce != w.nonce)
}

// ask returns the next request: to give the forwarding back, or to open it.
func (w *want) ask(back bool) ask {
	a := ask{
		protocol: w.key.Protocol, port: w.key.External, suggested: w.former, lifetime: leaseTime,
		nonce: w.nonce, exact: w.exact, filters: w.filters, filtered: w.lease.filtered, description: w.description,
	}
	if back {
		a.nonce = w.lease.nonce
	}
	if w.exact {
		a.suggested = w.key.External
	}
	return a
}

// sent notes that the router may forward the port from now on.
func (w *want) sent(a ask, now time.Time) {
	w.lease.before = w.lease.until
	w.lease.until = later(w.lease.until, now.Add(a.lifetime))
	w.lease.asked, w.lease.nonce = true, a.nonce
	w.lease.filtered = w.lease.filtered || len(a.filters) > 0
}

// granted takes over a lease, and plans its renewal: a random time between one half and
// five eighths of it (RFC 6887, section 11.2.1).
func (w *want) granted(g grant, now time.Time) {
	lifetime := min(max(cmp.Or(g.lifetime, leaseTime), time.Second), maxLease)
	w.lease.expires, w.lease.permanent, w.lease.doubtful = now.Add(lifetime), g.lifetime == 0, false
	w.lease.until = later(w.lease.until, now.Add(g.lifetime))
	w.former, w.failures = g.external.Port(), 0
	w.due = now.Add(max(minRetry, lifetime/2+rand.N(lifetime/8)))
}

// reachable returns the report on a lease.
func (w *want) reachable(g grant) portmap.Report {
	r := portmap.Report{Forwarding: portmap.Forwarding{State: portmap.Reachable, External: g.external}}
	if !w.lease.permanent {
		r.Expires = w.lease.expires
	}
	return r
}

// reject has a forwarding given back that is of no use, and returns why.
func (w *want) reject(g grant, why *routerError) *routerError {
	w.lease.unwanted, w.lease.permanent, w.lease.expires = true, g.lifetime == 0, time.Time{}
	return why
}

// errInsists returns the error of a forwarding for another port than the one that will do.
func errInsists(k portmap.Key, g grant) *routerError {
	return &routerError{cause: taken, reason: fmt.Sprintf("the router in front forwards port %d, but a client insists on %d", g.external.Port(), k.External)}
}

// failed plans the next request after one that failed, and reports whether the router
// still forwards the port as far as is known.
func (w *want) failed(now time.Time, e *routerError) bool {
	left := w.lease.expires.Sub(now)
	if left > 0 && !(w.lease.doubtful && e.cause != silent) {
		w.due = now.Add(min(left, max(minRetry, left/2)))
		return true
	}
	w.backOff(now, e.retry)
	if w.lease.permanent && e.cause == silent {
		return true
	}
	w.lease.expires = time.Time{}
	if e.cause == denied || e.cause == taken {
		if w.lease.until = w.lease.before; w.hasLapsed(now) {
			w.lease = lease{}
		}
	}
	return false
}

// backOff plans the next request after one more that failed.
func (w *want) backOff(now time.Time, retry time.Duration) {
	pause := firstRetry << min(w.failures, 6)
	w.failures++
	w.due = now.Add(min(max(pause, retry), lastRetry))
}

// hasLapsed reports whether the router has ended the forwarding by itself.
func (w *want) hasLapsed(now time.Time) bool {
	return !w.lease.permanent && !now.Before(w.lease.until)
}

// timetable is a heap of wants that wait, the one that is due first at its head.
type timetable []*want

func (t timetable) Len() int           { return len(t) }
func (t timetable) Less(i, j int) bool { return t[i].due.Before(t[j].due) }
func (t timetable) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].index, t[j].index = i, j
}

// Push is heap.Interface's.
func (t *timetable) Push(w any) {
	w.(*want).in, w.(*want).index = t, len(*t)
	*t = append(*t, w.(*want))
}

// Pop is heap.Interface's.
func (t *timetable) Pop() any {
	old := *t
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*t = old[:len(old)-1]
	w.in = nil
	return w
}

// set has w wait here, and nowhere else, until it is due.
func (t *timetable) set(w *want) {
	w.withdraw()
	heap.Push(t, w)
}

// withdraw has w wait nowhere.
func (w *want) withdraw() {
	if w.in != nil {
		heap.Remove(w.in, w.index)
	}
}
