package portmap

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// maxClaims bounds the claims on one mapping: UPnP's pinholes to one target
// and PCP's flows from one port.
const maxClaims = 64

// forIPv6 is how many times more mappings an IPv6 address may have than an IPv4
// one: clients open ports for each of their addresses, and those of old ones
// end by expiry alone.
const forIPv6 = 4

// open creates or renews a mapping.
func (d *desk) open(req *Request) Answer {
	if r := d.admits(req); r != Granted {
		return Answer{Refusal: r}
	}
	if req.Remote.IsValid() {
		req = d.follow(req)
	}
	if m, r := d.existing(req); m != nil {
		if r != Granted {
			return Answer{Refusal: r, Mapping: m}
		}
		return d.join(m, req)
	}
	if d.elsewhere(req) {
		return Answer{Refusal: Conflict}
	}
	if r := d.quota(req); r != Granted {
		return Answer{Refusal: r}
	}
	key, inTheWay, r := d.choose(req)
	if r != Granted {
		return Answer{Refusal: r, Mapping: inTheWay}
	}
	m := Mapping{Key: key, Internal: req.Internal, Serial: d.serial + 1, Created: d.now}
	a := d.grant(nil, m, req)
	if a.Refusal == Granted {
		d.serial++
	}
	return a
}

// admits judges who asks for what, before any port is looked at.
func (d *desk) admits(req *Request) Refusal {
	to := req.Internal
	switch {
	case to.Port() == 0:
		return BadTarget
	case d.policy.Secure && !req.ThirdParty && req.Client != to.Addr():
		return NotAuthorized
	case !d.around.hosts(to.Addr()):
		return BadTarget
	case to.Addr().Is4() && !d.around.External.IsValid():
		return NoExternalAddress
	}
	return Granted
}

// existing returns the mapping that answers the request without a new one, or
// the one that forbids it together with the reason.
func (d *desk) existing(req *Request) (*Mapping, Refusal) {
	if req.Remote.IsValid() {
		return d.existingOutbound(req)
	}
	if req.Origin == UPnP && req.Internal.Addr().Is4() {
		if m := d.book.byKey[Key{Protocol: req.Protocol, External: req.External}]; m != nil {
			if r := d.overwrites(m, req); r == Granted || req.Exact {
				return m, r
			}
		}
		if req.Exact {
			return nil, Granted
		}
	}
	for _, m := range d.book.byTarget[target{req.Protocol, req.Internal}] {
		if c, ok := m.Claim(UPnP); req.Origin == UPnP && ok && m.External != 0 && !slices.Equal(c.Filters, req.Filters) {
			continue
		}
		return m, d.joins(m, req)
	}
	if m := d.around.forwardTo(req.Protocol, req.Internal); m != nil && req.Origin != UPnP {
		return m, d.joins(m, req)
	}
	return nil, Granted
}

// existingOutbound is existing for PEER: the mapping that has the flow already,
// else one of the same target, whose port the flow shares.
func (d *desk) existingOutbound(req *Request) (*Mapping, Refusal) {
	var shared *Mapping
	for _, m := range d.book.byTarget[target{req.Protocol, req.Internal}] {
		if c, ok := m.claim(PCP, req.Remote); ok {
			if !req.proves(m, c) {
				return m, NotAuthorized
			}
			return m, Granted
		}
		if shared == nil || m.External == req.External {
			shared = m
		}
	}
	switch {
	case shared == nil:
		return nil, Granted
	case req.flows && req.External != shared.External:
		return nil, Granted // it goes on by its own port
	case req.exact() && req.External != shared.outside().Port(), d.elsewhere(req):
		return shared, Conflict
	}
	return shared, Granted
}

// follow returns a PEER request with the port that the flow has already, if
// there is one, whatever was suggested (RFC 6887, section 12.3).
func (d *desk) follow(req *Request) *Request {
	if d.flowPort == nil || req.Internal.Addr().Is6() {
		return req
	}
	port, known := d.flowPort(req.Protocol, req.Internal, req.Remote)
	if !known {
		return req
	}
	n := *req
	n.External, n.At, n.flows = port, netip.Addr{}, true
	return &n
}

// elsewhere reports whether PEER wants an external address that its mapping
// cannot have.
func (d *desk) elsewhere(req *Request) bool {
	ours := d.around.External
	if req.Internal.Addr().Is6() {
		ours = req.Internal.Addr()
	}
	return req.At.IsValid() && req.At != ours
}

// joins reports whether the request may hold on to m, which leads where it asks.
func (d *desk) joins(m *Mapping, req *Request) Refusal {
	if req.Exact && req.External != m.External {
		return Conflict
	}
	if req.Description != "" && len(m.Claims) > 0 && !d.policy.Permits(m.outside().Port(), m.Internal, req.Description) {
		return NotAuthorized
	}
	c, held := m.Claim(PCP)
	if req.Origin == PCP && held && !req.proves(m, c) && !d.tolerates(m, req) {
		return NotAuthorized
	}
	return Granted
}

// proves reports whether the requester may renew or give up a claim of its
// protocol on m: PCP's with its nonce, and once with any if the epoch has begun
// anew and the mapping is the client's own.
func (req *Request) proves(m *Mapping, c Claim) bool {
	return req.Origin != PCP || c.Nonce == req.Nonce || !c.Bound && req.Client == m.Internal.Addr()
}

// tolerates reports whether a PCP claim on m is renewed without its nonce,
// which then changes nothing but its end.
func (d *desk) tolerates(m *Mapping, req *Request) bool {
	return d.policy.LenientNonce && req.Client == m.Internal.Addr() && req.KeepFilters && len(req.Filters) == 0
}

// overwrites reports whether a UPnP request may change m, which has the
// external port it asks for (WANIPConnection:2, figure 2-3).
func (d *desk) overwrites(m *Mapping, req *Request) Refusal {
	c, ours := m.Claim(UPnP)
	switch {
	case m.Internal.Addr() != req.Internal.Addr():
		return Conflict
	case ours && !slices.Equal(c.Filters, req.Filters):
		return Conflict
	case m.Internal.Port() != req.Internal.Port() && (!ours || len(m.Claims) > 1):
		return Conflict
	case !d.policy.Permits(req.External, req.Internal, req.Description):
		return NotAuthorized
	}
	return Granted
}

// join renews the requester's claim on m, or adds one.
func (d *desk) join(m *Mapping, req *Request) Answer {
	if len(m.Claims) == 0 { // the administrator's own: nothing to hold
		return Answer{Mapping: m, Lifetime: d.policy.lifetime(req.Origin, req.Lifetime)}
	}
	n := *m
	n.Internal = req.Internal
	return d.grant(m, n, req)
}

// grant puts the requester's claim on m into the book in place of before.
func (d *desk) grant(before *Mapping, m Mapping, req *Request) Answer {
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
		claim.Description = claim.name(m.outside().Port(), m.Protocol)
	}
	after := m.with(claim)
	d.change(Change{Before: before, After: after})
	return Answer{Mapping: after, Lifetime: lifetime, ID: claim.ID}
}

// asks returns the lifetime that the request is about. PEER asks with 0 how
// long the flow's port is kept (RFC 6887, section 15); to others 0 is for ever.
func (req *Request) asks() time.Duration {
	if req.Remote.IsValid() {
		return max(req.Lifetime, time.Second)
	}
	return req.Lifetime
}

// claim returns what the request wants to hold, without its end.
func (req *Request) claim() Claim {
	return Claim{
		Origin:      req.Origin,
		Remote:      req.Remote,
		Nonce:       req.Nonce,
		Bound:       req.Origin == PCP,
		Filters:     req.Filters,
		Description: req.Description,
		Disabled:    req.Disabled,
		Contact:     req.Contact,
	}
}

// amend carries over what the request leaves of held, a claim on m, as it was. An outbound claim
// never ends sooner than it would have, nor does one that was renewed without
// its nonce.
func (c *Claim) amend(m *Mapping, held Claim, req *Request) {
	stranger := !req.proves(m, held)
	if stranger {
		c.Nonce = held.Nonce
	}
	if (stranger || c.Outbound()) && (held.Expires.IsZero() || held.Expires.After(c.Expires)) {
		c.Expires = held.Expires
	}
	if req.KeepDescription {
		c.Description = held.Description
	}
	if req.KeepFilters {
		c.Filters = merge(held.Filters, req.Filters)
	}
}

// merge returns held with what more adds to it.
func merge(held, more []Filter) []Filter {
	if len(more) == 0 {
		return held
	}
	all := slices.Clone(held)
	for _, f := range more {
		if !slices.Contains(all, f) {
			all = append(all, f)
		}
	}
	return all
}

// pinholeID returns the UniqueID of UPnP's pinhole for these remote peers: the
// same five-tuple keeps its own, others get the next one that is free, or 0
// when there is none.
func (d *desk) pinholeID(m *Mapping, filters []Filter) uint16 {
	for _, c := range m.Claims {
		if c.Origin == UPnP && slices.Equal(c.Filters, filters) {
			return c.ID
		}
	}
	if len(m.Claims) >= maxClaims || len(d.book.byID) >= 1<<16-1 {
		return 0
	}
	for d.lastID++; d.lastID == 0 || d.book.byID[d.lastID] != nil; {
		d.lastID++
	}
	return d.lastID
}

// name is the text of a claim whose protocol gave it none, in the form that
// lease files have always shown.
func (c *Claim) name(external uint16, p Protocol) string {
	what := c.Origin.String()
	switch {
	case c.Outbound():
		what = "PCP PEER"
	case c.Origin == PCP:
		what = "PCP MAP"
	}
	return fmt.Sprintf("%s %d %v", what, external, p)
}

// quota judges a request for a new mapping.
func (d *desk) quota(req *Request) Refusal {
	p, host := d.policy, req.Internal.Addr()
	perHost := p.MaxPerHost
	if host.Is6() {
		perHost *= forIPv6
	}
	switch {
	case p.MaxTotal > 0 && len(d.book.byKey) >= p.MaxTotal:
		return TableFull
	case perHost > 0 && len(d.book.byHost[host]) >= perHost:
		return QuotaExceeded
	case p.MaxPerLAN > 0 && d.onLAN(req) >= p.MaxPerLAN:
		return TableFull
	}
	return Granted
}

// onLAN counts the mappings of all hosts of the target's network.
func (d *desk) onLAN(req *Request) int {
	lan, ok := d.around.lan(req.Internal.Addr())
	if !ok {
		return 0
	}
	n := 0
	for host, list := range d.book.byHost {
		if lan.Contains(host) {
			n += len(list)
		}
	}
	return n
}
