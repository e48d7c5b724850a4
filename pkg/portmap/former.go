package portmap

import (
	"net/netip"
	"slices"
)

// Former returns the address that the host of a request may have had before it
// got the one that it asks from: a mapping that leads there, for a host with the
// same hardware address, is in the way of a new one.
func (t *Table) Former(req *Request) (netip.Addr, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if joins := len(t.inForce.byTarget[target{req.Protocol, req.Internal}]) > 0; joins && !req.Exact {
		return netip.Addr{}, false
	}
	for _, m := range t.inForce.formerMappings(req) {
		return m.Internal.Addr(), true
	}
	return netip.Addr{}, false
}

// formerMappings returns the mappings in the way of a request that were made for other
// addresses of a host with its hardware address. Only who asks to be let in, and
// for itself, has any.
func (ix *index) formerMappings(req *Request) []*Mapping {
	own := req.Op == Open && req.Client == req.Internal.Addr() && req.Client.Is4() && !req.ThirdParty
	if !own || req.Remote.IsValid() || req.Host.Hardware == "" {
		return nil
	}
	return slices.DeleteFunc(ix.conflicting(req), func(m *Mapping) bool { return m.Host.Hardware != req.Host.Hardware })
}

// conflicting returns the mappings of other hosts for which a request does not get
// the external port that it wants.
func (ix *index) conflicting(req *Request) (list []*Mapping) {
	foreign := func(m *Mapping) bool { return m != nil && m.Internal.Addr() != req.Internal.Addr() }
	port := req.preferredPort()
	if m := ix.byKey[Key{Protocol: req.Protocol, External: port}]; foreign(m) {
		list = append(list, m)
	}
	if ix.companion[req.Protocol].Has(port) {
		if m := ix.byKey[Key{Protocol: otherProtocol(req.Protocol), External: port}]; foreign(m) {
			list = append(list, m)
		}
	}
	return list
}

// closeFormer closes what is in the way of a request and leads to its host's former
// address, and returns the number of claims. The port does not rest: it stays
// with its host.
func (al *allocator) closeFormer(req *Request) (claims int) {
	if !req.Former.IsValid() {
		return 0
	}
	for _, m := range al.index.formerMappings(req) {
		if m.Internal.Addr() == req.Former && al.mayReplace(m, req) {
			claims += len(m.Claims)
			al.change(Change{Before: m})
		}
	}
	return claims
}

// mayReplace reports whether m, which leads to its host's former address, may end
// for a request. Where only their nonces renew PCP's claims, nothing else does.
func (al *allocator) mayReplace(m *Mapping, req *Request) bool {
	keeps := func(c Claim) bool {
		return c.Origin == PCP && c.Bound && !(req.Origin == PCP && req.Nonce == c.Nonce)
	}
	return al.policy.LenientNonce || !slices.ContainsFunc(m.Claims, keeps)
}
