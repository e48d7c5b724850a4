package portmap

import "slices"

// restore takes a stored mapping into the book if the settings of today let it
// stand. Its nonce is forgotten: clients that see the new epoch may come with
// another one.
func (d *allocator) restore(m *Mapping) Refusal {
	if d.index.byKey[m.Key] != nil {
		return Conflict
	}
	if d.network.hasFamily(m.Internal.Addr()) && !d.network.isHost(m.Internal.Addr()) {
		return BadTarget
	}
	if r := d.checkQuota(&Request{Internal: m.Internal}); r != Granted {
		return r
	}
	dormant, r := d.checkStored(m)
	if r != Granted {
		return r
	}
	if m.External != 0 && d.listening(m.Protocol, m.External) {
		return PortInUse
	}
	d.serial++
	n := *m
	n.Serial, n.Dormant = d.serial, dormant
	n.Claims = unbound(m.Claims)
	d.change(Change{After: &n})
	return Granted
}

// evict closes the mappings that today's settings forbid, and puts to rest those
// of which that cannot be told now.
func (d *allocator) evict() {
	for _, m := range slices.Clone(d.index.order) {
		d.reconsider(m, m.Host)
	}
}

// unbindNonces lets every PCP client renew with a new nonce, as some do when they
// see a new epoch.
func (d *allocator) unbindNonces() {
	bound := func(c Claim) bool { return c.Bound }
	for _, m := range slices.Clone(d.index.order) {
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
