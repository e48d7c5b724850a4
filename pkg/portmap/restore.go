package portmap

import "slices"

// restore takes a stored mapping into the book if the settings of today let it
// stand. Its nonce is forgotten: clients that see the new epoch may come with
// another one.
func (al *allocator) restore(m *Mapping) Refusal {
	if al.index.byKey[m.Key] != nil {
		return Conflict
	}
	if al.network.hasFamily(m.Internal.Addr()) && !al.network.isHost(m.Internal.Addr()) {
		return BadTarget
	}
	if r := al.checkQuota(&Request{Internal: m.Internal}); r != Granted {
		return r
	}
	dormant, r := al.checkStored(m)
	if r != Granted {
		return r
	}
	if m.External != 0 && al.listening(m.Protocol, m.External) {
		return PortInUse
	}
	al.serial++
	n := *m
	n.Serial, n.Dormant = al.serial, dormant
	n.Claims = unbound(m.Claims)
	al.change(Change{After: &n})
	return Granted
}

// evict closes the mappings that today's settings forbid, and puts to rest those
// of which that cannot be told now.
func (al *allocator) evict() {
	for _, m := range slices.Clone(al.index.order) {
		al.recheck(m, m.Host)
	}
}

// unbindNonces lets every PCP client renew with a new nonce, as some do when they
// see a new epoch.
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

// unbound returns claims that any nonce renews.
func unbound(claims []Claim) []Claim {
	claims = slices.Clone(claims)
	for i := range claims {
		claims[i].Bound = false
	}
	return claims
}
