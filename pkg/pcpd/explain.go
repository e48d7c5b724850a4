package pcpd

import (
	"net/netip"

	"igdd/pkg/lan"
	"igdd/pkg/pcp"
	"igdd/pkg/portmap"
)

// Explain returns the response that a client would get to a request, with decide in
// place of the table's decision; nil: it would get none. The client has not sent it,
// and nothing is sent.
func (s *Server) Explain(client netip.Addr, host lan.Host, packet []byte, decide func(portmap.Request) portmap.Answer) (response []byte) {
	o := s.opts
	o.Table = decider{o.Table, decide}
	x := exchange{
		Server: &Server{opts: o, service: s.service}, client: netip.AddrPortFrom(client, pcp.ServerPort), host: host,
		routerAddr: client, // of the client's family, which is all that matters
		packet:     packet, backlog: newBacklog(), queued: true,
		deliver: func(b []byte) { response = b },
	}
	x.serve()
	return response
}

// decider is a table with another decision.
type decider struct {
	Table
	decide func(portmap.Request) portmap.Answer
}

// Submit answers at once.
func (d decider) Submit(r portmap.Request, answer func(portmap.Answer)) bool {
	answer(d.decide(r))
	return true
}
