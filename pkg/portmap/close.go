package portmap

import "slices"

// close gives up the requester's claims.
func (d *allocator) close(req *Request) Answer {
	if req.External != 0 {
		return d.closeByPort(req)
	}
	if d.policy.Secure && !req.ThirdParty && req.Client != req.Internal.Addr() {
		return Answer{Refusal: NotAuthorized}
	}
	var a Answer
	for _, m := range d.mappingsTo(req) {
		if c, ok := m.Claim(req.Origin); !ok || !req.provesOwnership(m, c) {
			a.Refusal, a.Mapping = NotAuthorized, m
			continue
		}
		d.drop(m, req.releases)
		a.Closed++
	}
	if a.Closed > 0 && req.Internal.Port() != 0 {
		return Answer{Closed: a.Closed} // what others hold on that target is no concern
	}
	return a
}

// releases reports whether c is what the requester of a Close holds: what PCP's
// PEER holds stays until it ends (RFC 6887, section 15).
func (req *Request) releases(c Claim) bool { return c.Origin == req.Origin && !c.Outbound() }

// mappingsTo returns the mappings of the request's target, or of a whole host
// for port 0, the administrator's included.
func (d *allocator) mappingsTo(req *Request) []*Mapping {
	p, to := req.Protocol, req.Internal
	if to.Port() != 0 {
		if list := d.index.byTarget[target{p, to}]; len(list) > 0 {
			return slices.Clone(list)
		}
		if m := d.static(req); m != nil {
			return []*Mapping{m}
		}
		return nil
	}
	var list []*Mapping
	for _, m := range d.index.byHost[to.Addr()] {
		if m.Protocol == p {
			list = append(list, m)
		}
	}
	for _, f := range d.network.Forwards {
		if f.Protocol == p && f.Target.Addr() == to.Addr() {
			list = append(list, &Mapping{Key: Key{Protocol: p}, Internal: f.Target})
		}
	}
	return list
}

// closeByPort gives up UPnP claims by external port, one or a range, of
// entries that have the same remote host.
func (d *allocator) closeByPort(req *Request) Answer {
	a := Answer{Refusal: NotFound}
	for _, m := range d.index.inRange(req.Protocol, PortRange{req.External, max(req.External, req.Last)}) {
		switch c, held := m.Claim(req.Origin); {
		case !m.Inbound(): // PCP's PEER is no entry of UPnP's
		case (d.policy.Secure || req.Own) && m.Internal.Addr() != req.Client, !held:
			if a.Closed == 0 {
				a.Refusal, a.Mapping = NotAuthorized, m
			}
		case req.Last == 0 && !slices.Equal(c.Filters, req.Filters):
		default:
			d.drop(m, req.releases)
			a.Refusal, a.Mapping = Granted, nil
			a.Closed++
		}
	}
	return a
}

// drop takes claims off m, and with the last of them the mapping itself.
func (d *allocator) drop(m *Mapping, which func(Claim) bool) {
	after := m.without(which)
	if after == nil && m.External != 0 && slices.ContainsFunc(m.Claims, func(c Claim) bool { return c.Origin == PCP }) {
		d.holdDown.add(m, d.now)
	}
	d.change(Change{Before: m, After: after})
}

// expire drops the claims of a family that are due.
func (d *allocator) expire(v Family) {
	due := func(c Claim) bool { return !c.Expires.IsZero() && !c.Expires.After(d.now) }
	for m := d.deadlines[v].due(d.now); m != nil; m = d.deadlines[v].due(d.now) {
		d.drop(m, due)
	}
}
