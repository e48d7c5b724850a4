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
	for _, m := range t.inForce.formerly(req) {
		return m.Internal.Addr(), true
	}
	return netip.Addr{}, false
}

// formerly returns the mappings in the way of a request that were made for other
// addresses of a host with its hardware address. Only who asks to be let in, and
// for itself, has any.
func (b *index) formerly(req *Request) []*Mapping {
	own := req.Op == Open && req.Client == req.Internal.Addr() && req.Client.Is4() && !req.ThirdParty
	if !own || req.Remote.IsValid() || req.Host.Hardware == "" {
		return nil
	}
	return slices.DeleteFunc(b.inTheWay(req), func(m *Mapping) bool { return m.Host.Hardware != req.Host.Hardware })
}

// inTheWay returns the mappings of other hosts for which a request does not get
// the external port that it wants.
func (b *index) inTheWay(req *Request) (list []*Mapping) {
	foreign := func(m *Mapping) bool { return m != nil && m.Internal.Addr() != req.Internal.Addr() }
	port := req.wanted()
	if m := b.byKey[Key{Protocol: req.Protocol, External: port}]; foreign(m) {
		list = append(list, m)
	}
	if b.companion[req.Protocol].Has(port) {
		if m := b.byKey[Key{Protocol: otherProtocol(req.Protocol), External: port}]; foreign(m) {
			list = append(list, m)
		}
	}
	return list
}

// vacate closes what is in the way of a request and leads to its host's former
// address, and returns the number of claims. The port does not rest: it stays
// with its host.
func (d *allocator) vacate(req *Request) (claims int) {
	if !req.Former.IsValid() {
		return 0
	}
	for _, m := range d.index.formerly(req) {
		if m.Internal.Addr() == req.Former && d.yields(m, req) {
			claims += len(m.Claims)
			d.change(Change{Before: m})
		}
	}
	return claims
}

// yields reports whether m, which leads to its host's former address, may end
// for a request. Where only their nonces renew PCP's claims, nothing else does.
func (d *allocator) yields(m *Mapping, req *Request) bool {
	keeps := func(c Claim) bool {
		return c.Origin == PCP && c.Bound && !(req.Origin == PCP && req.Nonce == c.Nonce)
	}
	return d.policy.LenientNonce || !slices.ContainsFunc(m.Claims, keeps)
}
