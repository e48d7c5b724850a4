package portmap

import "slices"

// restore takes a stored mapping into the book if the settings of today let it
// stand. Its nonce is forgotten: clients that see the new epoch may come with
// another one.
func (d *desk) restore(m *Mapping) Refusal {
	if d.book.byKey[m.Key] != nil {
		return Conflict
	}
	if d.around.knows(m.Internal.Addr()) && !d.around.hosts(m.Internal.Addr()) {
		return BadTarget
	}
	if r := d.quota(&Request{Internal: m.Internal}); r != Granted {
		return r
	}
	if r := d.stands(m); r != Granted {
		return r
	}
	if m.External != 0 && d.listening(m.Protocol, m.External) {
		return PortInUse
	}
	d.serial++
	n := *m
	n.Serial = d.serial
	n.Claims = unbound(m.Claims)
	n.Dormant = m.Family() == IPv6 && d.around.NoIPv6
	d.change(Change{After: &n})
	return Granted
}

// stands says why today's settings would not let m be made: the rules, or the
// administrator's own use of the port.
func (d *desk) stands(m *Mapping) Refusal {
	if !d.policy.Permits(m.outside().Port(), m.Internal, m.Description()) {
		return NotAuthorized
	}
	if m.External != 0 && d.reserved(m.Protocol, m.External) {
		return PortInUse
	}
	return Granted
}

// evict closes the mappings that today's settings forbid.
func (d *desk) evict() {
	for _, m := range slices.Clone(d.book.order) {
		if d.stands(m) != Granted {
			d.change(Change{Before: m})
		}
	}
}

// unbind lets every PCP client renew with a new nonce, as some do when they
// see a new epoch.
func (d *desk) unbind() {
	bound := func(c Claim) bool { return c.Bound }
	for _, m := range slices.Clone(d.book.order) {
		if slices.ContainsFunc(m.Claims, bound) {
			n := *m
			n.Claims = unbound(m.Claims)
			d.change(Change{Before: m, After: &n})
		}
	}
}

// unbound returns claims that any nonce renews.
func unbound(claims []Claim) []Claim {
	claims = slices.Clone(claims)
	for i := range claims {
		claims[i].Bound = false
	}
	return claims
}
