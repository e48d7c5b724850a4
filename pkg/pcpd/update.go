package pcpd

import (
	"net/netip"
	"slices"
	"time"

	"igdd/pkg/pcp"
	"igdd/pkg/portmap"
)

// Mapping updates are sent with the first copies of an announcement (RFC 6887, section
// 14.2), in batches.
const (
	updateCopies = 3
	batchSize    = 100
	batchPause   = 5 * time.Millisecond
	maxUpdate    = 200 * time.Millisecond // less than the first gap of announcements
)

// contact is the address and request of the client of a PCP mapping. It is never
// changed.
type contact struct {
	lan        string // name of the interface
	client     netip.AddrPort
	routerAddr netip.Addr  // the router's address that the client sent to
	request    pcp.Request // with the options that the claim keeps
	external   netip.Addr  // the address in the last response, or an earlier one
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

// update sends mapping updates to the clients on the interface whose mappings have
// another external address than in their last response. A client that repeats its
// request gets a new contact.
func (l *Listener) update(state gatewayState) {
	if !state.external.IsValid() {
		return
	}
	pace := newPace()
	for _, m := range l.server.opts.Table.List() {
		for _, claim := range m.Claims {
			c, ok := claim.Contact.(*contact)
			if !ok || c.lan != l.on.Name() || c.external == state.external || m.Pinhole.IsValid() {
				continue
			}
			x := l.exchange(c)
			x.socket.WhenResolved(c.client.Addr(), func() { x.update(m, claim, c.request, state) })
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
func (x exchange) update(m *portmap.Mapping, claim portmap.Claim, r pcp.Request, state gatewayState) {
	ask, options := mappingRequest(r)
	if fault := x.checkRequest(r, ask); fault != pcp.Success {
		x.refuse(fault, fault.Lifetime())
		return
	}
	reply := pcp.Response{
		Opcode: r.Opcode, Lifetime: max(0, time.Until(claim.Expires)), Epoch: state.epoch,
		Mapping: r.Mapping, Options: slices.DeleteFunc(options, isDescription),
	}
	reply.External = netip.AddrPortFrom(state.external, m.External)
	x.reply(reply.Append)
}
