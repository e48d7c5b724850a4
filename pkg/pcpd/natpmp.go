package pcpd

import (
	"net/netip"

	"igdd/pkg/natpmp"
	"igdd/pkg/portmap"
)

// serveNATPMP answers a NAT-PMP request, or one of any version when PCP is
// disabled. False: the request must wait.
func (x exchange) serveNATPMP() bool {
	r, err := natpmp.ParseRequest(x.packet)
	switch {
	case err == natpmp.ErrVersion:
		x.reply(natpmp.Response{Result: natpmp.UnsupportedVersion, Epoch: x.opts.Table.Epoch()}.Append)
	case err == natpmp.ErrOpcode:
		epoch := x.opts.Table.Epoch()
		x.reply(func(b []byte) []byte { return natpmp.AppendUnsupportedOpcode(b, x.packet, epoch) })
	case err != nil: // gets no response
	case r.Opcode == natpmp.Address:
		x.reply(x.state().addressResponse().Append)
	case r.Lifetime == 0:
		return x.close(r)
	default:
		return x.open(r)
	}
	return true
}

// open submits a request for a mapping.
func (x exchange) open(r natpmp.Request) bool {
	x.packet = nil
	return x.submit(natpmpOpen(r, x.client.Addr()), func(a portmap.Answer) { x.answerOpen(r, a) })
}

// close submits a request to delete mappings.
func (x exchange) close(r natpmp.Request) bool {
	x.packet = nil
	return x.submit(natpmpClose(r, x.client.Addr()), func(a portmap.Answer) { x.answerClose(r, a) })
}

// addressResponse returns the response with the external address (RFC 6886, section
// 3.2).
func (s gatewayState) addressResponse() natpmp.Response {
	r := natpmp.Response{Opcode: natpmp.Address, Epoch: s.epoch, External: s.external}
	if !r.External.IsValid() {
		r.Result = natpmp.NetworkFailure
	}
	return r
}

// natpmpOpen returns the table's request for a mapping. NAT-PMP has no description.
func natpmpOpen(r natpmp.Request, client netip.Addr) portmap.Request {
	return portmap.Request{
		Op: portmap.Open, Origin: portmap.NATPMP, Client: client,
		Protocol: protocolOf(r.Opcode),
		Internal: netip.AddrPortFrom(client, r.InternalPort),
		External: r.SuggestedPort,
		Lifetime: r.Lifetime, KeepDescription: true,
	}
}

// natpmpClose returns the table's request to delete one mapping or, with internal port
// 0, all mappings of the client in the protocol. The external port does not matter
// (RFC 6886, section 3.4).
func natpmpClose(r natpmp.Request, client netip.Addr) portmap.Request {
	return portmap.Request{
		Op: portmap.Close, Origin: portmap.NATPMP, Client: client,
		Protocol: protocolOf(r.Opcode),
		Internal: netip.AddrPortFrom(client, r.InternalPort),
	}
}

func protocolOf(op natpmp.Opcode) portmap.Protocol {
	if op == natpmp.MapTCP {
		return portmap.TCP
	}
	return portmap.UDP
}

func (x exchange) answerOpen(r natpmp.Request, a portmap.Answer) {
	reply := natpmp.Response{Opcode: r.Opcode, InternalPort: r.InternalPort}
	if a.Refusal == portmap.Granted {
		reply.ExternalPort, reply.Lifetime = a.Mapping.OuterPort(), a.Lifetime
	}
	x.answerNATPMP(reply, a.Refusal)
}

// answerClose responds that a mapping is deleted, also if there was none (RFC 6886,
// section 3.4).
func (x exchange) answerClose(r natpmp.Request, a portmap.Answer) {
	x.answerNATPMP(natpmp.Response{Opcode: r.Opcode, InternalPort: r.InternalPort}, a.Refusal)
}

func (x exchange) answerNATPMP(reply natpmp.Response, refusal portmap.Refusal) {
	if refusal == portmap.Stopping {
		return
	}
	reply.Result, reply.Epoch = natpmpResult(refusal), x.opts.Table.Epoch()
	x.reply(reply.Append)
}

// natpmpResult returns the result code for a refusal (RFC 6886, section 3.5).
func natpmpResult(refusal portmap.Refusal) natpmp.Result {
	switch refusal {
	case portmap.Granted:
		return natpmp.Success
	case portmap.NotAuthorized, portmap.NotOwner, portmap.Blocked, portmap.BadTarget:
		return natpmp.NotAuthorized
	case portmap.NoExternalAddress:
		return natpmp.NetworkFailure
	}
	return natpmp.OutOfResources
}
