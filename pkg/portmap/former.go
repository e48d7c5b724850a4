package portmap

import (
	"net/netip"
	"slices"
)

// Former returns the address that the host of a request may have had before its
// present one, if a mapping of that address has the port that the host asks
// for: one whose host has the same hardware address.
func (t *Table) Former(req *Request) (netip.Addr, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if joins := len(t.inForce.toTarget(target{req.Protocol, req.Internal})) > 0; joins && !req.Exact {
		return netip.Addr{}, false
	}
	for _, m := range t.inForce.formerMappings(req) {
		return m.Internal.Addr(), true
	}
	return netip.Addr{}, false
}

// formerMappings returns the mappings that have the request's port and belong
// to another address of a host with the same hardware address. There are none
// unless the client asks for an inbound IPv4 mapping for itself.
func (ix *index) formerMappings(req *Request) []*Mapping {
	own := req.Op == Open && req.Client == req.Internal.Addr() && req.Client.Is4() && !req.ThirdParty
	if !own || req.Remote.IsValid() || req.Host.Hardware == "" {
		return nil
	}
	return slices.DeleteFunc(ix.conflicting(req), func(m *Mapping) bool { return m.Host.Hardware != req.Host.Hardware })
}

// conflicting returns the mappings of other addresses that keep the request's
// preferred port from it.
func (ix *index) conflicting(req *Request) (list []*Mapping) {
	port := req.preferredPort()
	if m := ix.atPort(Key{Protocol: req.Protocol, External: port}); m != nil && m.Internal.Addr() != req.Internal.Addr() {
		list = append(list, m)
	}
	if m := ix.foreignCompanion(req, port); m != nil {
		list = append(list, m)
	}
	return list
}

// closeFormer closes the mappings to the former address of the request's host
// that have its port, and returns the number of their claims. There is no
// hold-down, since the port stays with its host.
func (al *allocator) closeFormer(req *Request) (claims int) {
	if !req.Former.IsValid() {
		return 0
	}
	for _, m := range al.index.formerMappings(req) {
		if m.Internal.Addr() == req.Former && al.mayReplace(m, req) {
			claims += len(m.Claims)
			al.change(Change{Before: m, Cause: HostMoved})
		}
	}
	return claims
}

// mayReplace reports whether the request may replace m, which leads to the
// former address of its host. A claim of PCP is replaced with its nonce only,
// except for a while after a reset, unless the policy is lenient about nonces.
func (al *allocator) mayReplace(m *Mapping, req *Request) bool {
	keeps := func(c Claim) bool {
		return c.Origin == PCP && !c.Rebind.After(al.now) && !(req.Origin == PCP && req.Nonce == c.Nonce)
	}
	return al.policy.LenientNonce || !slices.ContainsFunc(m.Claims, keeps)
}
