package portmap

import (
	"net/netip"
	"slices"
	"time"
)

// restore takes over the saved mappings that the present settings allow.
// With reset, clients may use other nonces for a while.
func (al *allocator) restore(saved []*Mapping, reset bool) (d digest) {
	for _, m := range saved {
		n, denied := al.split(m)
		r := al.checkSaved(&n)
		if r != Granted && !r.isTemporary() {
			d.noteClosed(m, r)
			continue
		}
		al.serial++
		n.Serial = al.serial
		n.setState(r)
		n.Forwarding = Forwarding{Exact: m.Forwarding.Exact} // nothing else is known yet
		if reset {
			n.Claims = unbound(n.Claims, al.now.Add(rebindPeriod))
		}
		d.noteDenied(m, denied)
		al.change(Change{After: &n, Cause: Restarted})
		if n.Dormant {
			d.noteState(&n, r)
		}
	}
	return d
}

// checkSaved returns whether a saved mapping may be in force beside those that
// were taken over before it.
func (al *allocator) checkSaved(m *Mapping) Refusal {
	if al.index.byKey[m.Key] != nil {
		return Conflict
	}
	return al.checkExisting(m)
}

// recheck checks all mappings again: it closes them, makes them dormant or puts
// them in force. known returns the host of an address, if it is known now; a
// mapping in force gets it only if that tells its hardware address.
func (al *allocator) recheck(known func(netip.Addr) (Host, bool)) (d digest) {
	for _, m := range slices.Clone(al.index.order) {
		now := *m
		if h, found := known(m.Internal.Addr()); found && (m.Dormant || m.Host.learns(h)) {
			now.Host = h
		}
		al.recheckMapping(m, now, &d)
	}
	al.recheckForwardings()
	return d
}

// recheckMapping checks m again with what is known of its host now.
func (al *allocator) recheckMapping(m *Mapping, now Mapping, d *digest) {
	n, denied := al.split(&now)
	r := al.checkExisting(&n)
	n.setState(r)
	switch {
	case r != Granted && !r.isTemporary():
		d.noteClosed(m, r)
		al.change(Change{Before: m, Cause: Rechecked, Reason: r})
		return
	case r != m.Reason:
		d.noteState(m, r)
		al.change(Change{Before: m, After: &n, Cause: Rechecked, Reason: r})
	case len(denied) > 0, !m.Dormant && m.Host.learns(n.Host):
		al.change(Change{Before: m, After: &n, Cause: Rechecked})
	}
	d.noteDenied(m, denied)
}

// rebindPeriod is how long after a reset a PCP client may use another nonce.
// Some draw a new one when they see a new epoch and renew within seconds of the
// announcement; its last copy comes after 128 s, and a client may be asleep.
const rebindPeriod = 10 * time.Minute

// unbindNonces lets every PCP client use another nonce, once, for a while. It is
// called at a reset.
func (al *allocator) unbindNonces() {
	isPCP := func(c Claim) bool { return c.Origin == PCP }
	for _, m := range slices.Clone(al.index.order) {
		if slices.ContainsFunc(m.Claims, isPCP) {
			n := *m
			n.Claims = unbound(m.Claims, al.now.Add(rebindPeriod))
			al.change(Change{Before: m, After: &n, Cause: Restarted})
		}
	}
}

// unbound returns a copy of claims whose hosts may use other nonces until then.
func unbound(claims []Claim, until time.Time) []Claim {
	claims = slices.Clone(claims)
	for i := range claims {
		if claims[i].Origin == PCP {
			claims[i].Rebind = until
		}
	}
	return claims
}
