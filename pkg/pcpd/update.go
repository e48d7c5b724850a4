package pcpd

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"igdd/pkg/pcp"
	"igdd/pkg/portmap"
)

// Mapping updates are sent in as many copies, at the times of the first ones of an
// announcement (RFC 6887, section 14.2), in batches.
const (
	updateCopies = 3
	batchSize    = 100
	batchPause   = 5 * time.Millisecond
	maxUpdate    = 200 * time.Millisecond // less than the first gap of announcements
)

// contact is the address and request of the client of a PCP mapping, and what the client
// was told.
type contact struct {
	lan        string // name of the interface
	client     netip.AddrPort
	routerAddr netip.Addr  // the router's address that the client sent to
	request    pcp.Request // with the options that the claim keeps

	mu   sync.Mutex
	told netip.AddrPort // the external endpoint in the last response or update; the zero AddrPort: none was sent
}

// tell notes the external endpoint in a response.
func (c *contact) tell(external netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told = external
}

// mustHear reports whether the client was told another external endpoint than this one,
// and notes that it is told this one. A client without a response waits for that.
func (c *contact) mustHear(external netip.AddrPort) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.told == external || c.told == (netip.AddrPort{}) {
		return false
	}
	c.told = external
	return true
}

// storedRequest returns a request as its claim keeps it: with the mandatory options,
// without repeated or removed filters. It has at most three options more than the claim
// has filters.
func storedRequest(r pcp.Request) pcp.Request {
	var kept []pcp.Option
	for _, o := range r.Options {
		switch o := o.(type) {
		case pcp.Description:
			continue
		case pcp.Filter:
			if o.PrefixLength == 0 {
				kept = slices.DeleteFunc(kept, isFilter)
			} else if slices.ContainsFunc(kept, isFilterFor(filterFor(o))) {
				continue
			}
		}
		kept = append(kept, o)
	}
	r.Options = slices.Clone(kept)
	return r
}

// Update sends mapping updates to the PCP clients whose mappings have another external
// endpoint than they were told last (RFC 6887, section 14.2). It never blocks. The table
// must have the new endpoints already.
func (s *Server) Update() {
	due := s.dueUpdates()
	if len(due) == 0 {
		return
	}
	for n := range updateCopies {
		time.AfterFunc(copyDelay(n), func() { s.sendUpdates(due) })
	}
}

// dueUpdates returns the external endpoints that clients must be told.
func (s *Server) dueUpdates() map[*contact]netip.AddrPort {
	due, listeners := make(map[*contact]netip.AddrPort), s.listenersByName()
	for _, m := range s.opts.Table.List() {
		for _, claim := range m.Claims {
			c, ok := claim.Contact.(*contact)
			if !ok || listeners[c.lan] == nil {
				continue
			}
			if external := s.opts.Table.OuterEndpoint(m); external.IsValid() && c.mustHear(external) {
				due[c] = external
			}
		}
	}
	return due
}

// sendUpdates sends one copy of each update, unless the endpoint has changed again. A
// client that repeats its request gets a new contact.
func (s *Server) sendUpdates(due map[*contact]netip.AddrPort) {
	listeners, pace := s.listenersByName(), newPace()
	for _, m := range s.opts.Table.List() {
		for _, claim := range m.Claims {
			c, _ := claim.Contact.(*contact)
			external, isDue := due[c]
			if !isDue || listeners[c.lan] == nil || external != s.opts.Table.OuterEndpoint(m) {
				continue
			}
			x := listeners[c.lan].exchange(c)
			x.socket.WhenResolved(c.client.Addr(), func() { x.update(c.request, m, claim, external) })
			pace.wait()
		}
	}
}

// exchange returns an exchange with the client of a mapping, as if it repeated
// its last request now.
func (l *Listener) exchange(c *contact) exchange {
	x := exchange{Server: l.server, lan: c.lan, client: c.client, routerAddr: c.routerAddr, packet: c.request.Append(nil)}
	for _, s := range l.sockets {
		if s.Family().Is4() == c.client.Addr().Is4() {
			x.socket = s
		}
	}
	return x
}

// pace pauses between batches of updates.
type pace struct {
	began time.Time
	sent  int
}

func newPace() *pace { return &pace{began: time.Now()} }

// wait is called after each update.
func (p *pace) wait() {
	if p.sent++; p.sent%batchSize == 0 && time.Since(p.began) < maxUpdate {
		time.Sleep(batchPause)
	}
}

// update sends the response that the client would get now, without optional options
// (RFC 6887, section 14.2).
func (x exchange) update(r pcp.Request, m *portmap.Mapping, claim portmap.Claim, external netip.AddrPort) {
	ask, options := mappingRequest(r)
	fault := x.checkRequest(r, ask)
	if ask.Exact && (m.Forwarding.OtherPort || !isSuggested(r.External, external)) {
		fault = pcp.CannotProvideExternal
	}
	if fault != pcp.Success {
		x.refuse(fault, fault.Lifetime())
		return
	}
	reply := pcp.Response{
		Opcode: r.Opcode, Lifetime: x.opts.Table.ToldLease(m, claim), Epoch: x.opts.Table.Epoch(),
		Mapping: r.Mapping, Options: slices.DeleteFunc(options, isDescription),
	}
	reply.External = external
	x.reply(reply.Append)
}
