package pcpd

import (
	"bytes"
	"net/netip"
	"slices"
	"time"

	"igdd/pkg/pcp"
	"igdd/pkg/portmap"
)

// servePCP answers a PCP request, or one of an unsupported version. False:
// the request must wait.
func (x exchange) servePCP() bool {
	r, err := x.service.Parse(x.packet, x.client.Addr())
	if fault, ok := err.(pcp.Result); ok {
		x.refuse(fault, fault.Lifetime())
		return true
	}
	switch {
	case err != nil: // gets no response
	case r.Opcode == pcp.Announce:
		x.reply(pcp.Response{Epoch: x.opts.Table.Epoch()}.Append)
	default:
		return x.serveMapping(r)
	}
	return true
}

// refuse answers with an error that is valid for a lifetime.
func (x exchange) refuse(result pcp.Result, lifetime time.Duration) {
	epoch := x.opts.Table.Epoch()
	x.reply(func(b []byte) []byte { return pcp.AppendError(b, x.packet, result, lifetime, epoch) })
}

// serveMapping checks the form of a MAP or PEER request and submits it to the table
// (RFC 6887, sections 11.3, 12.3 and 15.1).
func (x exchange) serveMapping(r pcp.Request) bool {
	ask, processed := mappingRequest(r)
	switch fault := x.checkRequest(r, ask); {
	case fault != pcp.Success:
		x.refuse(fault, fault.Lifetime())
		return true
	case !isSinglePort(r): // a delete: such mappings are never made
		x.answerMapping(r, processed, ask, portmap.Answer{})
		return true
	}
	ask.Contact = &contact{lan: x.lan, client: x.client, routerAddr: x.routerAddr, request: storedRequest(r)}
	x.packet = bytes.Clone(x.packet)
	return x.submit(ask, func(a portmap.Answer) { x.answerMapping(r, processed, ask, a) })
}

// mappingRequest returns the table's request for a MAP or PEER request, and the
// options of a success response.
func mappingRequest(r pcp.Request) (portmap.Request, []pcp.Option) {
	q := portmap.Request{
		Op: portmap.Open, Origin: portmap.PCP, Client: r.Client,
		Protocol: portmap.Protocol(r.Protocol),
		Internal: netip.AddrPortFrom(r.Client, r.InternalPort),
		External: r.External.Port(),
		Lifetime: r.Lifetime, Nonce: portmap.Nonce(r.Nonce),
		KeepFilters: true, KeepDescription: true,
	}
	switch {
	case r.Opcode == pcp.Peer:
		q.Remote = r.Remote
		if a := r.External.Addr(); !a.IsUnspecified() {
			q.ExternalAddr = a
		}
	case r.Lifetime == 0:
		q.Op, q.External = portmap.Close, 0
	}
	var processed []pcp.Option
	for _, o := range r.Options {
		switch o := o.(type) {
		case pcp.ThirdParty:
			q.Internal, q.ThirdParty = netip.AddrPortFrom(o.Internal, r.InternalPort), true
		case pcp.PreferFailure:
			q.Exact = r.Client.Is4() // an IPv6 pinhole has no other port
		case pcp.Filter:
			addFilter(&q, o)
		case pcp.Description:
			if q.Op == portmap.Close {
				continue
			}
			q.Description, q.KeepDescription = portmap.StoredDescription(o.Text, -1), false
			processed = append(processed, pcp.Description{Text: q.Description})
			continue
		}
		processed = append(processed, o)
	}
	return q, processed
}

// addFilter adds a filter, or removes all that came before it (RFC 6887,
// section 13.3).
func addFilter(q *portmap.Request, f pcp.Filter) {
	if f.PrefixLength == 0 {
		q.Filters, q.KeepFilters = nil, false
		return
	}
	if p := filterFor(f); !slices.Contains(q.Filters, p) {
		q.Filters = append(q.Filters, p)
	}
}

// filterFor returns the table's form of a filter.
func filterFor(f pcp.Filter) portmap.Filter {
	return portmap.Filter{Prefix: f.Network(), Port: f.Remote.Port()}
}

// checkRequest returns the error of a request that the table need not decide.
func (s *Server) checkRequest(r pcp.Request, ask portmap.Request) pcp.Result {
	switch {
	case s.opts.RefuseMap && r.Opcode == pcp.Map:
		return pcp.NotAuthorized
	case ask.Internal.Addr().Is4() != r.Client.Is4(): // NAT64 and NAT46 are not offered
		return pcp.NotAuthorized
	case ask.Op == portmap.Close:
		return pcp.Success
	case !isSinglePort(r):
		return pcp.UnsuppProtocol
	case slices.Contains(r.Options, pcp.Option(pcp.PreferFailure{})) && !s.canProvide(r.External, ask):
		return pcp.CannotProvideExternal
	}
	return pcp.Success
}

// isSinglePort reports whether the request is about one port of TCP or UDP:
// whole protocols and hosts are not offered.
func isSinglePort(r pcp.Request) bool {
	p := portmap.Protocol(r.Protocol)
	return (p == portmap.TCP || p == portmap.UDP) && r.InternalPort != 0
}

// canProvide reports whether a mapping can have a suggested external endpoint.
// Without translation it is the internal one (RFC 6887, section 11.3); without an
// external address the table refuses for that reason.
func (s *Server) canProvide(suggested netip.AddrPort, ask portmap.Request) bool {
	if ask.Internal.Addr().Is6() {
		return suggested.Port() == ask.Internal.Port() &&
			(suggested.Addr().IsUnspecified() || suggested.Addr() == ask.Internal.Addr())
	}
	external := s.opts.Table.External()
	if m, ok := s.opts.Table.LookupOuter(ask.Protocol, suggested.Port()); ok && m.Internal == ask.Internal {
		external = s.opts.Table.OuterEndpoint(m).Addr() // a router in front gives each mapping one
	}
	return suggested.Addr().IsUnspecified() || suggested.Addr() == external || !external.IsValid()
}

// isSuggested reports whether an external endpoint is the suggested one, which can leave
// the address or the port open.
func isSuggested(suggested, external netip.AddrPort) bool {
	return (suggested.Addr().IsUnspecified() || suggested.Addr() == external.Addr()) &&
		(suggested.Port() == 0 || suggested.Port() == external.Port())
}

// answerMapping sends the table's answer.
func (x exchange) answerMapping(r pcp.Request, processed []pcp.Option, ask portmap.Request, a portmap.Answer) {
	if a.Refusal == portmap.Stopping {
		return
	}
	if result, lifetime := mapResult(ask, a); result != pcp.Success {
		x.refuse(result, lifetime)
		return
	}
	reply := pcp.Response{Opcode: r.Opcode, Epoch: x.opts.Table.Epoch(), Mapping: r.Mapping, Options: processed}
	if ask.Op == portmap.Open {
		reply.External, reply.Lifetime = x.opts.Table.OuterEndpoint(a.Mapping), a.Lifetime
		ask.Contact.(*contact).tell(reply.External)
		if !reply.External.IsValid() {
			return // the address is gone; the client repeats its request
		}
		if isStatic(a.Mapping) {
			reply.Lifetime = pcp.Forever
		}
		if _, hasOther := otherNonceClaim(ask, a.Mapping); hasOther || isStatic(a.Mapping) {
			reply.Options = slices.DeleteFunc(processed, isDescription)
		}
	}
	x.reply(reply.Append)
}

// isStatic reports whether the mapping is a static port forward: it has no claims,
// and accepts no description and no filter.
func isStatic(m *portmap.Mapping) bool { return len(m.Claims) == 0 }

func isFilter(o pcp.Option) bool {
	_, ok := o.(pcp.Filter)
	return ok
}

// isFilterFor returns a function that reports whether an option is that filter.
func isFilterFor(want portmap.Filter) func(pcp.Option) bool {
	return func(o pcp.Option) bool {
		f, ok := o.(pcp.Filter)
		return ok && filterFor(f) == want
	}
}

func isDescription(o pcp.Option) bool {
	_, ok := o.(pcp.Description)
	return ok
}
