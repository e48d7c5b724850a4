package portmap

import "slices"

// restore takes over a saved mapping if the present settings allow it. Its
// nonces are unbound: clients that see the new epoch may use another one.
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

// evict closes the mappings that the present settings forbid, and makes those
// dormant for which that depends on an unknown host.
func (al *allocator) evict() {
	for _, m := range slices.Clone(al.index.order) {
		al.recheck(m, m.Host)
	}
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
