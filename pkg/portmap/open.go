package portmap

import "slices"

// open creates or renews a mapping.
func (d *allocator) open(req *Request) Answer {
	if r := d.checkRequest(req); r != Granted {
		return Answer{Refusal: r}
	}
	if req.Remote.IsValid() {
		req = d.follow(req)
	}
	if m, r := d.existing(req); m != nil && m.Internal.Addr() != req.Former {
		if r == Granted {
			r = d.readmits(m, req)
		}
		if r != Granted {
			return Answer{Refusal: r, Mapping: m}
		}
		return d.join(m, req)
	}
	if d.wantsOtherAddress(req) {
		return Answer{Refusal: Conflict}
	}
	return d.replace(req)
}

// replace makes a new mapping, in place of those that are in its way and lead to
// its host's former address.
func (d *allocator) replace(req *Request) Answer {
	n := len(d.changes)
	claims := d.vacate(req)
	a := d.create(req)
	if claims == 0 || a.Refusal == Granted && a.Mapping.External == req.wanted() {
		a.Closed = claims
		return a
	}
	d.undo(n) // something else is in the way too
	return d.create(req)
}

// create makes a new mapping.
func (d *allocator) create(req *Request) Answer {
	if r := d.checkQuota(req); r != Granted {
		return Answer{Refusal: r}
	}
	key, inTheWay, r := d.choose(req)
	if r != Granted {
		return Answer{Refusal: r, Mapping: inTheWay}
	}
	m := Mapping{Key: key, Internal: req.Internal, Host: req.Host, Serial: d.serial + 1, Created: d.now}
	a := d.grant(nil, m, req)
	if a.Refusal == Granted {
		d.serial++
	}
	return a
}

// checkRequest judges who asks for what, before any port is looked at.
func (d *allocator) checkRequest(req *Request) Refusal {
	to := req.Internal
	switch {
	case to.Port() == 0:
		return BadTarget
	case d.policy.Secure && !req.ThirdParty && !req.comesFrom(to.Addr()):
		return NotAuthorized
	case !d.network.isHost(to.Addr()):
		return BadTarget
	case to.Addr().Is4() && !d.network.External.IsValid():
		return NoExternalAddress
	}
	return Granted
}

// existing returns the mapping that answers the request without a new one, or
// the one that forbids it together with the reason.
func (d *allocator) existing(req *Request) (*Mapping, Refusal) {
	if req.Remote.IsValid() {
		return d.existingOutbound(req)
	}
	if req.Origin == UPnP && req.Internal.Addr().Is4() {
		if m := d.index.byKey[Key{Protocol: req.Protocol, External: req.External}]; m != nil {
			if r := d.checkOverwrite(m, req); r == Granted || req.Exact {
				return m, r
			}
		}
		if req.Exact {
			return nil, Granted
		}
	}
	for _, m := range d.index.byTarget[target{req.Protocol, req.Internal}] {
		if c, ok := m.Claim(UPnP); req.Origin == UPnP && ok && m.External != 0 && !slices.Equal(c.Filters, req.Filters) {
			continue
		}
		return m, d.checkJoin(m, req)
	}
	if m := d.static(req); m != nil && req.Origin != UPnP {
		return m, d.checkJoin(m, req)
	}
	return nil, Granted
}

// static returns the administrator's forward that leads to the request's
// target, if the request may have its external port.
func (d *allocator) static(req *Request) *Mapping {
	return d.network.forwardTo(req.Protocol, req.Internal, func(external uint16) bool {
		return d.policy.Permits(external, d.aim(req), req.Description) && d.blockFor(req.Protocol, external, req.Internal.Addr()) == nil
	})
}

// checkJoin reports whether the request may hold on to m, which leads where it asks.
func (d *allocator) checkJoin(m *Mapping, req *Request) Refusal {
	if req.Exact && req.External != m.External {
		return Conflict
	}
	if req.Description != "" && len(m.Claims) > 0 && !d.policy.Permits(m.externalEndpoint().Port(), d.destination(m.Internal, req.host(m)), req.Description) {
		return NotAuthorized
	}
	c, held := m.Claim(PCP)
	if req.Origin == PCP && held && !d.renews(m, c, req) {
		return NotAuthorized
	}
	return Granted
}

// renews reports whether a PCP request may renew a claim on m.
func (d *allocator) renews(m *Mapping, c Claim, req *Request) bool {
	return req.provesOwnership(m, c) || d.allowsLenientRenewal(m, c, req)
}

// provesOwnership reports whether the requester may renew or give up a claim of its
// protocol on m: PCP's with its nonce, and once with any if the epoch has begun
// anew and the mapping is the client's own.
func (req *Request) provesOwnership(m *Mapping, c Claim) bool {
	return req.Origin != PCP || c.Nonce == req.Nonce || !c.Bound && req.Client == m.Internal.Addr()
}

// allowsLenientRenewal reports whether a PCP claim on m is renewed without its nonce, by
// the mapping's own host. That changes nothing but the claim's end, so a request
// whose filters would change, which cannot be ignored, is not tolerated.
func (d *allocator) allowsLenientRenewal(m *Mapping, c Claim, req *Request) bool {
	more := func(f Filter) bool { return !slices.Contains(c.Filters, f) }
	return d.policy.LenientNonce && req.Client == m.Internal.Addr() && m.Host.maybe(req.Host) &&
		req.KeepFilters && !slices.ContainsFunc(req.Filters, more)
}

// checkOverwrite reports whether a UPnP request may change m, which has the
// external port it asks for (WANIPConnection:2, figure 2-3).
func (d *allocator) checkOverwrite(m *Mapping, req *Request) Refusal {
	c, ours := m.Claim(UPnP)
	switch {
	case m.Internal.Addr() != req.Internal.Addr():
		return Conflict
	case ours && !slices.Equal(c.Filters, req.Filters):
		return Conflict
	case m.Internal.Port() != req.Internal.Port() && (!ours || len(m.Claims) > 1):
		return Conflict
	case !d.policy.Permits(req.External, d.destination(req.Internal, req.host(m)), req.Description):
		return NotAuthorized
	}
	return Granted
}

// join renews the requester's claim on m, or adds one.
func (d *allocator) join(m *Mapping, req *Request) Answer {
	if len(m.Claims) == 0 { // the administrator's own: nothing to hold
		return Answer{Mapping: m, Lifetime: d.policy.lifetime(req.Origin, req.Lifetime)}
	}
	n := *m
	n.Internal, n.Host, n.Dormant = req.Internal, req.holder(m), d.unreachable(m.Key)
	return d.grant(m, n, req)
}

// grant puts the requester's claim on m into the book in place of before.
func (d *allocator) grant(before *Mapping, m Mapping, req *Request) Answer {
	claim := req.claim()
	lifetime := d.policy.lifetime(req.Origin, req.asks())
	if lifetime > 0 {
		claim.Expires = d.now.Add(lifetime)
	}
	switch held, ok := m.claim(req.Origin, req.Remote); {
	case m.Pinhole.IsValid() && req.Origin == UPnP:
		if claim.ID = d.pinholeID(&m, req.Filters); claim.ID == 0 {
			return Answer{Refusal: QuotaExceeded, Mapping: before}
		}
	case ok:
		claim.amend(&m, held, req)
		lifetime = remaining(claim.Expires, d.now)
	case len(m.Claims) >= maxClaims:
		return Answer{Refusal: QuotaExceeded, Mapping: before}
	}
	if limit := d.policy.MaxFilters; limit > 0 && len(claim.Filters) > limit {
		return Answer{Refusal: TooManyFilters, Mapping: before}
	}
	if claim.Description == "" && req.Origin != UPnP {
		claim.Description = claim.name(m.externalEndpoint().Port(), m.Protocol)
	}
	after := m.with(claim)
	d.change(Change{Before: before, After: after})
	return Answer{Mapping: after, Lifetime: lifetime, ID: claim.ID}
}

// pinholeID returns the UniqueID of UPnP's pinhole for these remote peers: the
// same five-tuple keeps its own, others get the next one that is free, or 0
// when there is none.
func (d *allocator) pinholeID(m *Mapping, filters []Filter) uint16 {
	for _, c := range m.Claims {
		if c.Origin == UPnP && slices.Equal(c.Filters, filters) {
			return c.ID
		}
	}
	if len(m.Claims) >= maxClaims || len(d.index.byID) >= 1<<16-1 {
		return 0
	}
	for d.lastID++; d.lastID == 0 || d.index.byID[d.lastID] != nil; {
		d.lastID++
	}
	return d.lastID
}
