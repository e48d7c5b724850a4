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
	began, sent := time.Now(), 0
	for _, m := range l.server.opts.Table.List() {
		for _, claim := range m.Claims {
			c, ok := claim.Contact.(*contact)
			if !ok || c.lan != l.on.Name() || c.external == state.external || m.Pinhole.IsValid() {
				continue
			}
			x := exchange{
				Server: l.server, lan: c.lan, socket: l.sockets[0], client: c.client,
				routerAddr: c.routerAddr, packet: c.request.Append(nil),
			}
			x.update(m, claim, c.request, state)
			if sent++; sent%batchSize == 0 && time.Since(began) < maxUpdate {
				time.Sleep(batchPause)
			}
		}
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
