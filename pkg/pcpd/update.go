package pcpd

import (
	"net/netip"
	"slices"
	"time"

	"igdd/pkg/pcp"
	"igdd/pkg/portmap"
)

// Mapping updates go out with the first copies of an announcement (RFC 6887,
// section 14.2), many of them in portions.
const (
	updateCopies  = 3
	portion       = 100
	portionPause  = 5 * time.Millisecond
	longestUpdate = 200 * time.Millisecond // less than the first gap
)

// contact is where the desk finds the client of a PCP mapping again. It is
// never changed.
type contact struct {
	lan      string // name of the interface
	client   netip.AddrPort
	asked    netip.Addr
	request  pcp.Request // with the options that bind
	external netip.Addr  // no newer than the address that the client was told
}

// binding returns a request as its claim keeps it: of the options those that
// had to be processed, without filters that are repeated or removed. There are
// no more of them than the claim has filters, and three.
func binding(r pcp.Request) pcp.Request {
	var kept []pcp.Option
	for _, o := range r.Options {
		switch o := o.(type) {
		case pcp.Description:
			continue
		case pcp.Filter:
			if o.PrefixLength == 0 {
				kept = slices.DeleteFunc(kept, isFilter)
			} else if slices.ContainsFunc(kept, letsIn(peers(o))) {
				continue
			}
		}
		kept = append(kept, o)
	}
	r.Options = slices.Clone(kept)
	return r
}

// update tells the clients on the interface whose mappings have another
// external address than they know. A client that asks again is known by its
// new contact.
func (l *Listener) update(said gatewayState) {
	if !said.external.IsValid() {
		return
	}
	began, sent := time.Now(), 0
	for _, m := range l.server.opts.Table.List() {
		for _, claim := range m.Claims {
			c, ok := claim.Contact.(*contact)
			if !ok || c.lan != l.lan.Name() || c.external == said.external || m.Pinhole.IsValid() {
				continue
			}
			x := exchange{Server: l.server, lan: c.lan, socket: l.sockets[0], client: c.client, asked: c.asked, packet: c.request.Append(nil)}
			x.update(m, claim, c.request, said)
			if sent++; sent%portion == 0 && time.Since(began) < longestUpdate {
				time.Sleep(portionPause)
			}
		}
	}
}

// update sends what the client would be answered now. Optional options are
// left out (RFC 6887, section 14.2).
func (x exchange) update(m *portmap.Mapping, claim portmap.Claim, r pcp.Request, said gatewayState) {
	ask, options := mappingRequest(r)
	if fault := x.checkRequest(r, ask); fault != pcp.Success {
		x.refuse(fault, fault.Lifetime())
		return
	}
	reply := pcp.Response{
		Opcode: r.Opcode, Lifetime: max(0, time.Until(claim.Expires)), Epoch: said.epoch,
		Mapping: r.Mapping, Options: slices.DeleteFunc(options, isDescription),
	}
	reply.External = netip.AddrPortFrom(said.external, m.External)
	x.reply(reply.Append)
}
