package portmap

import (
	"net/netip"
	"slices"
)

// restore takes over the saved mappings that the present settings allow. Their
// nonces are unbound: clients that see the new epoch may use another one.
func (al *allocator) restore(saved []*Mapping) (d digest) {
	for _, m := range saved {
		r := al.checkSaved(m)
		if r != Granted && !r.isTemporary() {
			d.noteClosed(m, r)
			continue
		}
		al.serial++
		n := *m
		n.Serial = al.serial
		n.setState(r)
		n.Claims = unbound(m.Claims)
		al.change(Change{After: &n})
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
	return al.checkMapping(m, m.Description())
}

// recheck checks all mappings again: it closes them, makes them dormant or puts
// them in force. known returns the host of an address, if it is known now; a
// mapping in force gets it only if it had no hardware address.
func (al *allocator) recheck(known func(netip.Addr) (Host, bool)) (d digest) {
	for _, m := range slices.Clone(al.index.order) {
		n := *m
		if h, found := known(m.Internal.Addr()); found && (m.Dormant || m.Host.Hardware == "" && h.Hardware != "") {
			n.Host = h
		}
		r := al.checkMapping(&n, n.Description())
		n.setState(r)
		switch {
		case r != Granted && !r.isTemporary():
			d.noteClosed(m, r)
			al.change(Change{Before: m})
		case r != m.Reason:
			d.noteState(m, r)
			al.change(Change{Before: m, After: &n})
		case !m.Dormant && n.Host.Hardware != m.Host.Hardware:
			al.change(Change{Before: m, After: &n})
		}
	}
	return d
}

// unbindNonces lets every PCP client renew with a new nonce, as some do when
// they see a new epoch.
func (al *allocator) unbindNonces() {
	bound := func(c Claim) bool { return c.Bound }
	for _, m := range slices.Clone(al.index.order) {
		if slices.ContainsFunc(m.Claims, bound) {
			n := *m
			n.Claims = unbound(m.Claims)
			al.change(Change{Before: m, After: &n})
		}
	}
}

// unbound returns a copy of claims that are not bound to their nonces.
func unbound(claims []Claim) []Claim {
	claims = slices.Clone(claims)
	for i := range claims {
		claims[i].Bound = false
	}
	return claims
}
