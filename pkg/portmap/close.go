package portmap

import "slices"

// close deletes the client's claims on mappings to a target, or by external
// port.
func (al *allocator) close(req *Request) Answer {
	if req.External != 0 {
		return al.closeByPort(req)
	}
	if al.policy.Secure && !req.ThirdParty && req.Client != req.Internal.Addr() {
		return Answer{Refusal: NotOwner}
	}
	var a Answer
	for _, m := range al.mappingsTo(req) {
		if c, ok := m.Claim(req.Origin); !ok || !al.provesOwnership(req, m, c) {
			a.Refusal, a.Mapping = NotOwner, m
			continue
		}
		al.drop(m, req.releases, Deleted)
		a.Closed++
	}
	if a.Closed > 0 && req.Internal.Port() != 0 {
		return Answer{Closed: a.Closed} // other protocols' claims on the target do not matter
	}
	return a
}

// releases reports whether a Close deletes c: a claim of the same protocol, but
// not an outbound one, which stays until it expires (RFC 6887, section 15).
func (req *Request) releases(c Claim) bool { return c.Origin == req.Origin && !c.Outbound() }

// mappingsTo returns the mappings to the request's target, or to its whole host
// if the port is 0, static port forwards included.
func (al *allocator) mappingsTo(req *Request) []*Mapping {
	p, to := req.Protocol, req.Internal
	if to.Port() != 0 {
		if list := al.index.toTarget(target{p, to}); len(list) > 0 {
			return slices.Clone(list)
		}
		if m := al.staticForward(req); m != nil {
			return []*Mapping{m}
		}
		return nil
	}
	var list []*Mapping
	for _, m := range al.index.toHost(to.Addr()) {
		if m.Protocol == p {
			list = append(list, m)
		}
	}
	for _, f := range al.network.Forwards {
		if f.Protocol == p && f.Target.Addr() == to.Addr() {
			list = append(list, &Mapping{Key: Key{Protocol: p}, Internal: f.Target})
		}
	}
	return list
}

// closeByPort deletes UPnP claims by external port: of one port, if the entry
// has the request's remote host, or of a range of ports.
func (al *allocator) closeByPort(req *Request) Answer {
	a := Answer{Refusal: NotFound}
	for _, m := range al.index.outerInRange(req.Protocol, PortRange{req.External, max(req.External, req.Last)}) {
		switch c, held := m.Claim(req.Origin); {
		case !m.Inbound(): // PCP's outbound mappings are no entries for UPnP
		case (al.policy.Secure || req.Own) && m.Internal.Addr() != req.Client, !held:
			if a.Closed == 0 {
				a.Refusal, a.Mapping = NotOwner, m
			}
		case req.Last == 0 && !slices.Equal(c.Filters, req.Filters):
		default:
			al.drop(m, req.releases, Deleted)
			a.Refusal, a.Mapping = Granted, nil
			a.Closed++
		}
	}
	return a
}

// drop removes claims from m, and with the last one the mapping itself. What the router
// in front does not forward is not held down: its client has never had the port.
func (al *allocator) drop(m *Mapping, which func(Claim) bool, cause Cause) {
	after := m.without(which)
	if after == nil && cause != ByUpstream && m.needsHoldDown() {
		host, _ := al.quotaOf(m)
		al.holdDown.add(m, host, al.sharerOf(m.Internal.Addr(), host.name), al.now)
	}
	al.change(Change{Before: m, After: after, Cause: cause})
}

// allClaims selects every claim of a mapping.
func allClaims(Claim) bool { return true }

// withdraw closes the mappings for which which is true.
func (al *allocator) withdraw(which func(*Mapping) bool, cause Cause) {
	for _, m := range slices.Clone(al.index.order) {
		if which(m) {
			al.drop(m, allClaims, cause)
		}
	}
}

// expire drops the claims of a family whose leases have ended.
func (al *allocator) expire(f Family) {
	due := func(c Claim) bool { return !c.Expires.IsZero() && !c.Expires.After(al.now) }
	for m := al.deadlines[f].due(al.now); m != nil; m = al.deadlines[f].due(al.now) {
		al.drop(m, due, Expired)
	}
}
