package portmap

import (
	"context"
	"fmt"
	"slices"
	"time"
)

const (
	// upstreamWait is how long an answer waits for the router in front: NAT-PMP clients
	// repeat their request after 250 ms (RFC 6886, section 3.1), and some give up.
	upstreamWait = 250 * time.Millisecond
	// unforwardedLease is the longest lease that NAT-PMP and PCP clients are told of what
	// the router in front does not forward, or not yet: at its renewal they learn more.
	unforwardedLease = 2 * time.Minute
	// resetPause is the shortest time between two restarts of the epoch because the router
	// in front forwards other ports: with each all clients ask anew.
	resetPause = time.Minute
)

// parked is an answer that waits for the router in front.
type parked struct {
	pending
	given Answer    // without the router in front
	until time.Time // when it is given after all
}

// holds reports whether m, which may be nil, is the mapping that was granted, and has the
// client's claim still.
func (p *parked) holds(m *Mapping) bool {
	if m == nil || m.Serial != p.given.Mapping.Serial {
		return false
	}
	_, held := m.Claim(p.Origin)
	return held
}

// setForwarding makes the mapping that a change leaves say whether a router in front is
// asked to forward its port. It does not say more before the change is made.
func (al *allocator) setForwarding(c Change) {
	switch m := c.After; {
	case m == nil:
	case !al.network.Upstream || !m.WantsForwarding():
		m.Forwarding = Forwarding{Exact: m.Forwarding.Exact}
	case m.Forwarding.State == NotAsked:
		m.Forwarding.State = Asking
	}
}

// recheckForwardings changes the mappings for which the router in front is asked now but
// was not before, or the other way round.
func (al *allocator) recheckForwardings() {
	for _, m := range slices.Clone(al.index.order) {
		if isAsked := m.Forwarding.State != NotAsked; isAsked != (al.network.Upstream && m.WantsForwarding()) {
			n := *m
			al.change(Change{Before: m, After: &n, Cause: Rechecked})
		}
	}
}

// toldLease returns the part of a lease on m that its client is told; 0 means for ever.
// NAT-PMP and PCP clients are told no longer one than the router in front forwards the
// port for, so that they ask again. The mapping stays for the whole lease, since some
// clients renew by their own clock.
func (al *allocator) toldLease(m *Mapping, c Claim, lease time.Duration) time.Duration {
	if m.Forwarding.State == NotAsked || c.Origin == UPnP || c.Outbound() {
		return lease
	}
	limit := unforwardedLease
	until, known := al.forwardedUntil[m.Key]
	if known && m.Forwarding.State == Reachable && (until.IsZero() || until.After(time.Now())) {
		limit = remaining(until, time.Now())
	}
	if lease == 0 || limit != 0 && limit < lease {
		return limit
	}
	return lease
}

// ToldLease returns the lease of a claim on m that its client is told; 0 means for ever.
func (t *Table) ToldLease(m *Mapping, c Claim) time.Duration {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.alloc.toldLease(m, c, remaining(c.Expires, time.Now()))
}

// needsOtherPort reports whether a request needs another port than the router in front
// forwards, or could forward, for m.
func (req *Request) needsOtherPort(m *Mapping) bool {
	return req.Exact && req.External != 0 && (req.External != m.OuterPort() || m.Forwarding.OtherPort)
}

// dependsOnUpstream reports whether the router in front decides how useful a granted
// mapping is.
func (p *pending) dependsOnUpstream(a Answer) bool {
	return p.Op == Open && a.Refusal == Granted && !p.Remote.IsValid() && len(a.Mapping.Claims) > 0 && a.Mapping.WantsForwarding()
}

// park keeps an answer that depends on what the router in front does while that is not
// known, for upstreamWait since the mapping was made, and reports whether it keeps it.
func (t *Table) park(p *pending, a Answer) bool {
	if !t.alloc.network.Upstream || !p.dependsOnUpstream(a) {
		return false
	}
	m := t.alloc.index.byKey[a.Mapping.Key]
	if m == nil || m.Forwarding.State != Asking {
		return false
	}
	until := m.Created.Add(upstreamWait)
	if !until.After(time.Now()) {
		return false
	}
	t.parked = append(t.parked, parked{*p, a, until})
	return true
}

// releaseParked gives the answers that have waited long enough for the router in front.
func (t *Table) releaseParked(now time.Time) {
	for len(t.parked) > 0 && !t.parked[0].until.After(now) {
		p := t.parked[0]
		t.parked = t.parked[1:]
		t.reply(&p.pending, p.given)
	}
}

// Report takes over what became of forwardings, and waits until the answers that depended
// on that are given. The epoch restarts if a NAT-PMP client was told another port, since
// nothing else makes it ask again (RFC 6886, section 3.7).
func (t *Table) Report(ctx context.Context, reports []Report) error {
	return t.runTask(ctx, func() {
		t.alloc.begin()
		waiting := t.parkedByKey()
		t.setForwardedUntil(reports)
		for _, r := range reports {
			t.portMoved = t.alloc.report(r, waiting[r.Key]) || t.portMoved
		}
		t.concludeParked()
		t.force(false)
	})
}

// setForwardedUntil takes over when forwardings end.
func (t *Table) setForwardedUntil(reports []Report) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range reports {
		if m := t.alloc.index.byKey[r.Key]; m != nil {
			t.alloc.forwardedUntil[r.Key] = r.Expires
		}
	}
}

// nextReset returns when the epoch is to restart because of another port; the zero Time:
// it need not.
func (t *Table) nextReset() time.Time {
	if !t.portMoved {
		return time.Time{}
	}
	return t.lastReset.Add(resetPause)
}

// followPorts restarts the epoch if that is due because of another port.
func (t *Table) followPorts(now time.Time) {
	if t.portMoved && !now.Before(t.nextReset()) {
		t.portMoved, t.lastReset = false, now
		t.restartEpoch()
		t.publish(nil, true)
	}
}

// parkedByKey returns the parked answers by the keys of their mappings.
func (t *Table) parkedByKey() map[Key][]parked {
	byKey := make(map[Key][]parked)
	for _, p := range t.parked {
		k := p.given.Mapping.Key
		byKey[k] = append(byKey[k], p)
	}
	return byKey
}

// report takes over what became of a forwarding, and reports whether a NAT-PMP client,
// none of those that wait for it, was told another port.
func (al *allocator) report(r Report, waiting []parked) (isOtherPort bool) {
	m := al.index.byKey[r.Key]
	if m == nil || m.Forwarding.State == NotAsked {
		return false
	}
	r.Forwarding.insist(m)
	if r.Forwarding == m.Forwarding {
		return false
	}
	n := *m
	n.Forwarding = r.Forwarding
	al.takeOver(&n)
	al.change(Change{Before: m, After: &n, Cause: ByUpstream})
	isUntold := slices.ContainsFunc(waiting, func(p parked) bool { return p.Origin == NATPMP })
	_, byNATPMP := m.Claim(NATPMP)
	return byNATPMP && !isUntold && n.OuterPort() != m.OuterPort()
}

// insist makes a forwarding one that does not serve the clients of m if these insist on
// another port.
func (f *Forwarding) insist(m *Mapping) {
	if f.Exact = m.Forwarding.Exact; f.Exact && f.State == Reachable && f.External.Port() != m.External {
		reason := fmt.Sprintf("the router in front forwards port %d, but a client insists on %d", f.External.Port(), m.External)
		*f = Forwarding{State: Unreachable, Exact: true, OtherPort: true, Reason: reason}
	}
}

// takeOver makes the mapping unreachable that had the outermost port of m before.
func (al *allocator) takeOver(m *Mapping) {
	other := al.index.outer(m.outerKey())
	if m.Forwarding.State != Reachable || other == nil || other.Serial == m.Serial || other.Forwarding.State != Reachable {
		return
	}
	n := *other
	n.Forwarding = Forwarding{State: Unreachable, Exact: n.Forwarding.Exact, Reason: "the router in front forwards its port for another mapping"}
	al.change(Change{Before: other, After: &n, Cause: ByUpstream})
}

// concludeParked gives the parked answers of which it is known now what the router in
// front does, once the changes that this makes are in force.
func (t *Table) concludeParked() {
	t.parked = slices.DeleteFunc(t.parked, func(p parked) bool {
		m := t.alloc.index.byKey[p.given.Mapping.Key]
		if m != nil && m.Forwarding.State == Asking {
			return false
		}
		t.conclude(p)
		return true
	})
}

// conclude gives an answer that has waited for the router in front, once the changes that
// it makes are in force. Whose claim has ended meanwhile, or needs another port, has
// nothing.
func (t *Table) conclude(p parked) {
	a := Answer{Refusal: NotForwarded}
	switch m := t.alloc.index.byKey[p.given.Mapping.Key]; {
	case !p.holds(m):
	case p.needsOtherPort(m):
		t.alloc.drop(m, p.releases, ByUpstream)
	default:
		c, _ := m.Claim(p.Origin)
		a = p.given
		a.Mapping, a.Lifetime = m, t.alloc.toldLease(m, c, remaining(c.Expires, t.alloc.now))
	}
	t.afterForced = append(t.afterForced, func() { t.reply(&p.pending, a) })
}

// forgetForwarding forgets when the forwarding of a mapping ends that has ended itself.
func (al *allocator) forgetForwarding(c Change) {
	if c.After == nil && al.index.byKey[c.Before.Key] == nil {
		delete(al.forwardedUntil, c.Before.Key)
	}
}

// dropUnforwarded drops the claim of a client that renews it but needs another port than
// the router in front forwards, which was not known when the client was granted that.
func (al *allocator) dropUnforwarded(m *Mapping, req *Request, r Refusal) {
	if r == NotForwarded && m.Forwarding.Exact && m.Internal == req.Internal {
		al.drop(m, req.releases, ByUpstream)
	}
}
