package portmap

import "slices"

// open creates or renews a mapping.
func (al *allocator) open(req *Request) Answer {
	if r := al.checkRequest(req); r != Granted {
		return Answer{Refusal: r}
	}
	req.nameHost()
	if a, blocked := al.refuseBlocked(req, 0); blocked {
		return a
	}
	if req.Remote.IsValid() {
		req = al.withFlowPort(req)
	}
	if m, r := al.existing(req); m != nil && m.Internal.Addr() != req.Former {
		if r != Granted {
			al.dropUnforwarded(m, req, r)
			return Answer{Refusal: r, Mapping: m}
		}
		return al.join(m, req)
	}
	if al.wantsOtherAddress(req) {
		return Answer{Refusal: Conflict}
	}
	return al.replace(req)
}

// replace makes a new mapping in place of those to its host's former address
// that have its port.
func (al *allocator) replace(req *Request) Answer {
	n := len(al.changes)
	claims := al.closeFormer(req)
	a := al.create(req)
	if claims == 0 || a.Refusal == Granted && a.Mapping.External == req.preferredPort() {
		a.Closed = claims
		return a
	}
	al.undo(n) // another mapping has the port too
	return al.create(req)
}

// create makes a new mapping.
func (al *allocator) create(req *Request) Answer {
	m := Mapping{Internal: req.Internal, Host: req.Host, Serial: al.serial + 1, Created: al.now}
	if r := al.checkQuota(&m, req.claim().size()); r != Granted {
		return Answer{Refusal: r}
	}
	key, holder, r := al.choose(req)
	if r != Granted {
		return Answer{Refusal: r, Mapping: holder, Block: al.blockBehind(req, r), Forward: al.forwardBehind(req, r)}
	}
	m.Key = key
	a := al.grant(nil, m, req)
	if a.Refusal == Granted {
		al.serial++
	}
	return a
}

// forwardBehind returns the static port forward because of which a request was refused a
// port, or every port; nil if there is none.
func (al *allocator) forwardBehind(req *Request, r Refusal) *Forward {
	if r != Forwarded && r != NoPorts {
		return nil
	}
	f, forwarded := al.network.forward(req.Protocol, req.externalPort())
	if !forwarded {
		return nil
	}
	return &f
}

// checkRequest checks the client and the target of a request, before any port.
func (al *allocator) checkRequest(req *Request) Refusal {
	to := req.Internal
	switch {
	case to.Port() == 0:
		return BadTarget
	case al.policy.Secure && !req.ThirdParty && !req.comesFrom(to.Addr()):
		return NotOwner
	case al.network.checkTarget(to.Addr()) != Granted:
		return BadTarget
	case to.Addr().Is4() && !al.network.External.IsValid():
		return NoExternalAddress
	}
	return Granted
}

// existing returns the mapping that the request can join instead of making a
// new one, or the one that prevents it together with the reason.
func (al *allocator) existing(req *Request) (*Mapping, Refusal) {
	if req.Remote.IsValid() {
		return al.existingOutbound(req)
	}
	if req.Origin == UPnP && req.Internal.Addr().Is4() {
		if m := al.index.atPort(Key{Protocol: req.Protocol, External: req.External}); m != nil {
			if r := al.checkOverwrite(m, req); r == Granted || req.Exact {
				return m, r
			}
		}
		if req.Exact {
			return nil, Granted
		}
	}
	for _, m := range al.index.toTarget(target{req.Protocol, req.Internal}) {
		if c, ok := m.Claim(UPnP); req.Origin == UPnP && ok && m.External != 0 && !slices.Equal(c.Filters, req.Filters) {
			continue
		}
		return m, al.checkJoin(m, req)
	}
	if m := al.staticForward(req); m != nil && req.Origin != UPnP {
		return m, al.checkJoin(m, req)
	}
	return nil, Granted
}

// staticForward returns the static port forward to the request's target, if the
// rules and blocks allow the request its external port.
func (al *allocator) staticForward(req *Request) *Mapping {
	return al.network.forwardTo(req.Protocol, req.Internal, func(external uint16) bool {
		return al.policy.Permits(external, al.destinationOf(req), req.Description) && !al.isBlocked(req, external)
	})
}

// checkJoin checks whether the request may join m, which has its target.
func (al *allocator) checkJoin(m *Mapping, req *Request) Refusal {
	switch {
	case req.Exact && req.External != m.OuterPort():
		return Conflict
	case req.needsOtherPort(m):
		return NotForwarded
	}
	if req.Description != "" && len(m.Claims) > 0 && !al.policy.Permits(m.externalEndpoint().Port(), al.destinationIn(m, m.Internal, req), req.Description) {
		return NotAuthorized
	}
	c, held := m.Claim(PCP)
	if req.Origin == PCP && held && !al.mayRenew(m, c, req) {
		return NotOwner
	}
	return Granted
}

// mayRenew reports whether a PCP request may renew a claim on m.
func (al *allocator) mayRenew(m *Mapping, c Claim, req *Request) bool {
	return al.provesOwnership(req, m, c) || al.allowsLenientRenewal(m, c, req)
}

// provesOwnership reports whether the client may renew or delete a claim of its
// protocol on m. For PCP it needs the claim's nonce or, for a while after a
// reset, to come from the mapping's own host.
func (al *allocator) provesOwnership(req *Request, m *Mapping, c Claim) bool {
	return req.Origin != PCP || c.Nonce == req.Nonce ||
		c.Rebind.After(al.now) && req.Client == m.Internal.Addr() && m.Host.mayBe(req.Host)
}

// allowsLenientRenewal reports whether the policy lets the mapping's own host
// renew a PCP claim on m without its nonce. That changes nothing but the
// claim's end, so a request with other filters, which must not be ignored, is
// not allowed.
func (al *allocator) allowsLenientRenewal(m *Mapping, c Claim, req *Request) bool {
	more := func(f Filter) bool { return !slices.Contains(c.Filters, f) }
	return al.policy.LenientNonce && req.Client == m.Internal.Addr() && m.Host.mayBe(req.Host) &&
		req.KeepFilters && !slices.ContainsFunc(req.Filters, more)
}

// checkOverwrite checks whether a UPnP request may change m, which has the
// external port that it asks for (WANIPConnection:2, figure 2-3).
func (al *allocator) checkOverwrite(m *Mapping, req *Request) Refusal {
	c, claimed := m.Claim(UPnP)
	switch {
	case m.Internal.Addr() != req.Internal.Addr():
		return Conflict
	case claimed && !slices.Equal(c.Filters, req.Filters):
		return Conflict
	case m.Internal.Port() != req.Internal.Port() && (!claimed || len(m.Claims) > 1):
		return Conflict
	case m.OuterPort() != req.External, req.needsOtherPort(m):
		return NotForwarded
	case !al.policy.Permits(m.External, al.destinationIn(m, req.Internal, req), req.Description):
		return NotAuthorized
	}
	return Granted
}

// join renews the client's claim on m, or adds one.
func (al *allocator) join(m *Mapping, req *Request) Answer {
	if len(m.Claims) == 0 { // a static port forward, which has no claims
		return Answer{Mapping: m, Lifetime: al.policy.lifetime(req.Origin, req.Lifetime)}
	}
	n, r := al.renewed(m, req.Internal, req)
	if r != Granted {
		return Answer{Refusal: r, Mapping: m}
	}
	return al.grant(m, n, req)
}

// grant adds the client's claim to m, or renews it, and puts the result in the
// place of before.
func (al *allocator) grant(before *Mapping, m Mapping, req *Request) Answer {
	if a, blocked := al.refuseBlocked(req, m.externalEndpoint().Port()); blocked {
		return a
	}
	claim := req.claim()
	lifetime := al.policy.lifetime(req.Origin, req.requestedLifetime())
	if lifetime > 0 {
		claim.Expires = al.now.Add(lifetime)
	}
	held, isHeld := m.claim(req.Origin, req.Remote)
	isProved := !isHeld || al.provesOwnership(req, &m, held)
	switch {
	case m.Pinhole.IsValid() && req.Origin == UPnP:
		if claim.ID = al.pinholeID(&m, req.Filters); claim.ID == 0 {
			return Answer{Refusal: QuotaExceeded, Mapping: before}
		}
	case isHeld:
		claim.amend(held, req, isProved)
		lifetime = remaining(claim.Expires, al.now)
	case len(m.Claims) >= maxClaims:
		return Answer{Refusal: QuotaExceeded, Mapping: before}
	}
	if limit := al.policy.MaxFilters; limit > 0 && len(claim.Filters) > limit {
		return Answer{Refusal: TooManyFilters, Mapping: before}
	}
	if claim.Description == "" && req.Origin != UPnP {
		claim.Description = claim.defaultDescription(m.externalEndpoint().Port(), m.Protocol)
	}
	m.Forwarding.Exact = m.Forwarding.Exact || isProved && req.Exact && req.External == m.External
	after := m.with(claim)
	if r := al.checkQuota(after, after.size()-m.size()); r != Granted {
		return Answer{Refusal: r, Mapping: before}
	}
	al.change(Change{Before: before, After: after})
	return Answer{Mapping: after, Lifetime: al.toldLease(after, claim, lifetime), ID: claim.ID}
}

// pinholeID returns the UniqueID of the UPnP pinhole for these remote peers:
// the existing one for the same five-tuple, otherwise the next free one, or 0
// if there is none.
func (al *allocator) pinholeID(m *Mapping, filters []Filter) uint16 {
	for _, c := range m.Claims {
		if c.Origin == UPnP && slices.Equal(c.Filters, filters) {
			return c.ID
		}
	}
	if len(m.Claims) >= maxClaims || len(al.index.byID) >= 1<<16-1 {
		return 0
	}
	for al.lastID++; al.lastID == 0 || al.index.byID[al.lastID] != nil; {
		al.lastID++
	}
	return al.lastID
}
