package portmap

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Ports that a PCP server must never hand out over UDP (RFC 6887, section 11.3).
const (
	announcePort = 5350
	serverPort   = 5351
)

// quarantine is how long a port that PCP gave up stays closed to other hosts,
// so that what still arrives for the old one does not reach a new one
// (RFC 6887, section 15).
const quarantine = 120 * time.Second

// maxClaims bounds the claims on one mapping: UPnP's pinholes to one target
// and PCP's flows from one port.
const maxClaims = 64

// firstFree is the lowest port that is given to a client that did not name it.
const firstFree = 1024

// desk decides requests one after another against what it has decided before.
// It touches nothing but its own book; what it changed is in changes.
type desk struct {
	book      *book
	policy    *Policy
	around    Surroundings
	listening func(Protocol) []uint16
	occupied  map[Protocol]*PortSet // what listening said, during one batch
	released  map[Key]release       // ports in quarantine
	serial    uint64
	lastID    uint16
	now       time.Time
	changes   []Change
}

// release is a port that PCP gave up: who had it, and until when it rests.
type release struct {
	host  netip.Addr
	until time.Time
}

func newDesk(o Options) desk {
	return desk{
		book:      newBook(),
		policy:    o.Policy,
		around:    o.Surroundings,
		listening: o.Listening,
		released:  make(map[Key]release),
	}
}

// begin starts a batch.
func (d *desk) begin() {
	d.now = time.Now()
	maps.DeleteFunc(d.released, func(_ Key, r release) bool { return !r.until.After(d.now) })
	d.occupied = make(map[Protocol]*PortSet)
	d.changes = nil
}

// decide answers one request.
func (d *desk) decide(req Request) Answer {
	switch {
	case req.ID != 0:
		return d.decideByID(req)
	case req.Op == Close:
		return d.close(req)
	}
	return d.open(req)
}

// decideByID renews or gives up one pinhole that UPnP opened
// (WANIPv6FirewallControl:1, sections 2.6.4 and 2.6.5).
func (d *desk) decideByID(req Request) Answer {
	m := d.book.byID[req.ID]
	switch {
	case m == nil:
		return Answer{Refusal: NotFound}
	case d.policy.Secure && m.Internal.Addr() != req.Client:
		return Answer{Refusal: NotAuthorized, Mapping: m}
	case req.Op == Close:
		d.drop(m, func(c Claim) bool { return c.ID == req.ID })
		return Answer{Closed: 1}
	}
	claim := m.Claims[slices.IndexFunc(m.Claims, func(c Claim) bool { return c.ID == req.ID })]
	claim.Expires = d.now.Add(req.Lifetime)
	after := m.with(claim)
	d.change(Change{Before: m, After: after})
	return Answer{Mapping: after, Lifetime: req.Lifetime, ID: req.ID}
}

// open creates or renews a mapping.
func (d *desk) open(req Request) Answer {
	if r := d.admits(req); r != Granted {
		return Answer{Refusal: r}
	}
	if m, r := d.existing(req); m != nil {
		if r != Granted {
			return Answer{Refusal: r, Mapping: m}
		}
		return d.join(m, req)
	}
	if r := d.quota(req); r != Granted {
		return Answer{Refusal: r}
	}
	key, r := d.choose(req)
	if r != Granted {
		return Answer{Refusal: r, Mapping: d.inTheWay(req)}
	}
	d.serial++
	m := &Mapping{Key: key, Internal: req.Internal, Serial: d.serial, Created: d.now}
	return d.grant(nil, m, req)
}

// admits judges who asks for what, before any port is looked at.
func (d *desk) admits(req Request) Refusal {
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
func (d *desk) existing(req Request) (*Mapping, Refusal) {
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
func (d *desk) existingOutbound(req Request) (*Mapping, Refusal) {
	var shared *Mapping
	for _, m := range d.book.byTarget[target{req.Protocol, req.Internal}] {
		if c, ok := m.claim(PCP, req.Remote); ok {
			return m, proves(c, req)
		}
		if shared == nil || m.External == req.External {
			shared = m
		}
	}
	if shared != nil && req.External != 0 && req.External != shared.outside().Port() {
		return shared, Conflict
	}
	return shared, Granted
}

// proves reports whether the request may renew a claim of its protocol.
func proves(c Claim, req Request) Refusal {
	if c.Bound && c.Nonce != req.Nonce {
		return NotAuthorized
	}
	return Granted
}

// joins reports whether the request may hold on to m, which leads where it asks.
func (d *desk) joins(m *Mapping, req Request) Refusal {
	if req.Exact && req.External != m.External {
		return Conflict
	}
	if req.Origin != PCP {
		return Granted
	}
	if c, ok := m.Claim(PCP); ok {
		return proves(c, req)
	}
	return Granted
}

// overwrites reports whether a UPnP request may change m, which has the
// external port it asks for (WANIPConnection:2, figure 2-3).
func (d *desk) overwrites(m *Mapping, req Request) Refusal {
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
func (d *desk) join(m *Mapping, req Request) Answer {
	if len(m.Claims) == 0 { // the administrator's own: nothing to hold
		return Answer{Mapping: m, Lifetime: d.policy.lifetime(req.Origin, req.Lifetime)}
	}
	n := *m
	n.Internal = req.Internal
	return d.grant(m, &n, req)
}

// grant puts the requester's claim on m into the book in place of before.
func (d *desk) grant(before, m *Mapping, req Request) Answer {
	lifetime := d.lifetime(m, req)
	claim := Claim{
		Origin:      req.Origin,
		Remote:      req.Remote,
		Nonce:       req.Nonce,
		Bound:       req.Origin == PCP,
		Filters:     req.Filters,
		Description: req.Description,
		Disabled:    req.Disabled,
		Contact:     req.Contact,
	}
	if lifetime > 0 {
		claim.Expires = d.now.Add(lifetime)
	}
	if m.Pinhole.IsValid() && req.Origin == UPnP {
		claim.ID = d.pinholeID(m, req.Filters)
	} else if held, ok := m.claim(req.Origin, req.Remote); ok {
		claim = claim.amend(held, req)
	} else if len(m.Claims) >= maxClaims {
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

// lifetime returns what the request is granted. PEER never shortens: it asks
// how long the flow's port is kept, with 0 too (RFC 6887, section 15).
func (d *desk) lifetime(m *Mapping, req Request) time.Duration {
	if !req.Remote.IsValid() {
		return d.policy.lifetime(req.Origin, req.Lifetime)
	}
	granted := d.policy.lifetime(PCP, max(req.Lifetime, time.Second))
	if held, ok := m.claim(PCP, req.Remote); ok {
		granted = max(granted, remaining(held.Expires, d.now))
	}
	return granted
}

// pinholeID returns the UniqueID of UPnP's pinhole for these remote peers: the
// same five-tuple keeps its own, others get the next one that is free.
func (d *desk) pinholeID(m *Mapping, filters []Filter) uint16 {
	for _, c := range m.Claims {
		if c.Origin == UPnP && slices.Equal(c.Filters, filters) {
			return c.ID
		}
	}
	for d.lastID++; d.lastID == 0 || d.book.byID[d.lastID] != nil; {
		d.lastID++
	}
	return d.lastID
}

// amend carries over what the request leaves as it was.
func (c Claim) amend(held Claim, req Request) Claim {
	if req.KeepDescription {
		c.Description = held.Description
	}
	if req.KeepFilters {
		c.Filters = slices.Clone(held.Filters)
		for _, f := range req.Filters {
			if !slices.Contains(c.Filters, f) {
				c.Filters = append(c.Filters, f)
			}
		}
	}
	return c
}

// name is the text of a claim whose protocol gave it none, in the form that
// lease files have always shown.
func (c Claim) name(external uint16, p Protocol) string {
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
func (d *desk) quota(req Request) Refusal {
	switch p := d.policy; {
	case p.MaxTotal > 0 && len(d.book.byKey) >= p.MaxTotal:
		return TableFull
	case p.MaxPerHost > 0 && d.book.perHost[req.Internal.Addr()] >= p.MaxPerHost:
		return QuotaExceeded
	}
	return Granted
}

// choose finds the key of a new mapping.
func (d *desk) choose(req Request) (Key, Refusal) {
	if req.Internal.Addr().Is6() {
		return d.choosePinhole(req)
	}
	if req.Remote.IsValid() && req.External != 0 {
		req.Exact = true // RFC 6887, section 12.3
	}
	for _, port := range []uint16{req.External, req.Internal.Port()} {
		if port == 0 || port < firstFree && port != req.External {
			continue
		}
		r := d.obstacle(req, port)
		if r == Granted || req.Exact {
			return Key{Protocol: req.Protocol, External: port}, r
		}
		if port == req.External {
			break // a client that names a port wants one near it
		}
	}
	return d.search(req)
}

// choosePinhole opens the target itself: without translation the outside
// dials the inside address (RFC 6887, section 11.3).
func (d *desk) choosePinhole(req Request) (Key, Refusal) {
	port := req.Internal.Port()
	switch {
	case !d.policy.Permits(port, req.Internal, req.Description):
		return Key{}, NotAuthorized
	case req.Exact && req.External != port, req.Remote.IsValid() && req.External != 0 && req.External != port:
		return Key{}, Conflict
	}
	return Key{Protocol: req.Protocol, Pinhole: req.Internal}, Granted
}

// obstacle says why the request cannot have this external port.
func (d *desk) obstacle(req Request, port uint16) Refusal {
	key := Key{Protocol: req.Protocol, External: port}
	if !d.policy.Permits(port, req.Internal, req.Description) {
		return NotAuthorized
	}
	if d.book.byKey[key] != nil {
		return Conflict
	}
	if m := d.book.byKey[Key{Protocol: other(req.Protocol), External: port}]; m != nil &&
		m.Internal.Addr() != req.Internal.Addr() && d.book.companion[req.Protocol].Has(port) {
		return Conflict
	}
	if r, resting := d.released[key]; resting && r.host != req.Internal.Addr() {
		return Conflict
	}
	if d.unusable(req.Protocol).Has(port) {
		return PortInUse
	}
	return Granted
}

// search finds any port that the rules allow and nothing else uses.
func (d *desk) search(req Request) (Key, Refusal) {
	candidates := d.policy.Ports(req.Internal, req.Description)
	if candidates.empty() {
		return Key{}, NotAuthorized
	}
	candidates.subtract(d.book.taken[req.Protocol])
	candidates.subtract(d.book.companion[req.Protocol])
	candidates.subtract(d.unusable(req.Protocol))
	for k := range d.released {
		if k.Protocol == req.Protocol {
			candidates.Remove(k.External)
		}
	}
	for w := range firstFree / 64 {
		candidates[w] = 0
	}
	port, ok := candidates.next(max(req.External, req.Internal.Port(), firstFree))
	if !ok {
		return Key{}, NoPorts
	}
	return Key{Protocol: req.Protocol, External: port}, Granted
}

// unusable returns the ports that the router needs itself: its listeners, the
// administrator's forwards, and PCP's own.
func (d *desk) unusable(p Protocol) *PortSet {
	if s := d.occupied[p]; s != nil {
		return s
	}
	s := new(PortSet)
	for _, port := range d.listening(p) {
		s.Add(port)
	}
	for _, f := range d.around.Forwards {
		if f.Protocol == p {
			s.AddRange(f.External)
		}
	}
	if p == UDP {
		s.Add(announcePort)
		s.Add(serverPort)
	}
	d.occupied[p] = s
	return s
}

// inTheWay returns the mapping that holds the port the request wants.
func (d *desk) inTheWay(req Request) *Mapping {
	return d.book.byKey[Key{Protocol: req.Protocol, External: req.External}]
}

// close gives up the requester's claims.
func (d *desk) close(req Request) Answer {
	if req.External != 0 {
		return d.closeByPort(req)
	}
	if d.policy.Secure && !req.ThirdParty && req.Client != req.Internal.Addr() {
		return Answer{Refusal: NotAuthorized}
	}
	var a Answer
	for _, m := range d.leadingTo(req.Protocol, req.Internal) {
		if c, ok := m.Claim(req.Origin); !ok || proves(c, req) != Granted {
			a.Refusal, a.Mapping = NotAuthorized, m
			continue
		}
		d.drop(m, func(c Claim) bool { return c.Origin == req.Origin && !c.Outbound() })
		a.Closed++
	}
	return a
}

// leadingTo returns the mappings of one target, or of a whole host for port 0,
// the administrator's included.
func (d *desk) leadingTo(p Protocol, to netip.AddrPort) []*Mapping {
	if to.Port() != 0 {
		if list := d.book.byTarget[target{p, to}]; len(list) > 0 {
			return slices.Clone(list)
		}
		if m := d.around.forwardTo(p, to); m != nil {
			return []*Mapping{m}
		}
		return nil
	}
	var list []*Mapping
	if d.book.perHost[to.Addr()] > 0 {
		for _, m := range d.book.order {
			if m.Protocol == p && m.Internal.Addr() == to.Addr() {
				list = append(list, m)
			}
		}
	}
	for _, f := range d.around.Forwards {
		if f.Protocol == p && f.Target.Addr() == to.Addr() {
			list = append(list, &Mapping{Key: Key{Protocol: p, External: f.External.First}, Internal: f.Target})
		}
	}
	return list
}

// closeByPort gives up UPnP claims by external port, one or a range, of
// entries that have the same remote host.
func (d *desk) closeByPort(req Request) Answer {
	a := Answer{Refusal: NotFound}
	for port := uint32(req.External); port <= uint32(max(req.External, req.Last)); port++ {
		m := d.book.byKey[Key{Protocol: req.Protocol, External: uint16(port)}]
		if m == nil {
			continue
		}
		c, ok := m.Claim(req.Origin)
		switch {
		case (d.policy.Secure || req.Own) && m.Internal.Addr() != req.Client, !ok:
			if a.Closed == 0 {
				a.Refusal, a.Mapping = NotAuthorized, m
			}
		case req.Last == 0 && !slices.Equal(c.Filters, req.Filters):
		default:
			d.drop(m, func(c Claim) bool { return c.Origin == req.Origin })
			a.Refusal, a.Mapping = Granted, nil
			a.Closed++
		}
	}
	return a
}

// drop takes claims off m, and with the last of them the mapping itself.
func (d *desk) drop(m *Mapping, which func(Claim) bool) {
	after := m.without(which)
	if after == nil && m.External != 0 && slices.ContainsFunc(m.Claims, func(c Claim) bool { return c.Origin == PCP }) {
		d.released[m.Key] = release{m.Internal.Addr(), d.now.Add(quarantine)}
	}
	d.change(Change{Before: m, After: after})
}

// change notes c and puts it in force on the desk's own book.
func (d *desk) change(c Change) {
	d.book.apply(c)
	d.changes = append(d.changes, c)
}

// undo takes back everything since the n-th change.
func (d *desk) undo(n int) {
	for i := len(d.changes) - 1; i >= n; i-- {
		d.book.apply(d.changes[i].Inverse())
	}
	d.changes = d.changes[:n]
}

// expire drops the claims that are due and returns when the next one will be.
func (d *desk) expire() (next time.Time) {
	for _, m := range slices.Clone(d.book.order) {
		due := func(c Claim) bool { return !c.Expires.IsZero() && !c.Expires.After(d.now) }
		if slices.ContainsFunc(m.Claims, due) {
			d.drop(m, due)
		}
	}
	for _, m := range d.book.order {
		for _, c := range m.Claims {
			next = earlier(next, c.Expires)
		}
	}
	return next
}

// earlier returns the earlier of two deadlines, where zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// restore takes a stored mapping into the book if the policy of today lets it
// stand. Its nonce is forgotten: clients that see the new epoch may come with
// another one.
func (d *desk) restore(m *Mapping) Refusal {
	req := Request{
		Origin: UPnP, Protocol: m.Protocol, Internal: m.Internal,
		External: m.External, Exact: true, Description: m.Description(),
	}
	switch to := m.Internal.Addr(); {
	case len(d.around.LANs) > 0 && !d.around.hosts(to):
		return BadTarget
	case d.book.byKey[m.Key] != nil:
		return Conflict
	}
	if r := d.quota(req); r != Granted {
		return r
	}
	if _, r := d.choose(req); r != Granted {
		return r
	}
	d.serial++
	n := *m
	n.Serial = d.serial
	n.Claims = unbound(m.Claims)
	d.change(Change{After: &n})
	return Granted
}

// evict closes the mappings that the policy forbids.
func (d *desk) evict() {
	for _, m := range slices.Clone(d.book.order) {
		external := m.External
		if m.Pinhole.IsValid() {
			external = m.Pinhole.Port()
		}
		if !d.policy.Permits(external, m.Internal, m.Description()) {
			d.change(Change{Before: m})
		}
	}
}

// unbind lets every PCP client renew with a new nonce, as some do when they
// see a new epoch.
func (d *desk) unbind() {
	for _, m := range slices.Clone(d.book.order) {
		if slices.ContainsFunc(m.Claims, func(c Claim) bool { return c.Bound }) {
			n := *m
			n.Claims = unbound(m.Claims)
			d.change(Change{Before: m, After: &n})
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
