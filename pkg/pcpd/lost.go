package pcpd

import (
	"net/netip"
	"time"

	"igdd/pkg/pcp"
	"igdd/pkg/portmap"
)

// Lost tells the PCP clients of lost mappings: each gets the error that its last
// request would get now, in as many copies as other mapping updates (RFC 6887,
// section 14.2). It never blocks.
func (s *Server) Lost(losses []portmap.Loss) {
	for n := range updateCopies {
		time.AfterFunc(copyDelay(n), func() { s.sendLost(losses) })
	}
}

// sendLost sends one copy, but not to clients that have their mappings again.
func (s *Server) sendLost(losses []portmap.Loss) {
	listeners, held := s.listenersByName(), s.claimsInForce()
	pace := newPace()
	for _, loss := range losses {
		for _, claim := range loss.Mapping.Claims {
			c, ok := claim.Contact.(*contact)
			if !ok || held[claimKeyOf(loss.Mapping, claim)] {
				continue
			}
			if l := listeners[c.lan]; l != nil {
				x := l.exchange(c)
				x.socket.WhenResolved(c.client.Addr(), func() { x.refuse(lossResult(c.request, loss.Reason)) })
				pace.wait()
			}
		}
	}
}

// lossResult returns the error for the client whose request led to a mapping
// that is lost. A client that accepts any port can try again soon.
func lossResult(r pcp.Request, reason portmap.Refusal) (pcp.Result, time.Duration) {
	ask, _ := mappingRequest(r)
	switch reason {
	case portmap.PortInUse, portmap.Forwarded, portmap.NotProvided:
		if !ask.Exact {
			return pcp.NoResources, pcp.NoResources.Lifetime()
		}
	}
	return mapResult(ask, portmap.Answer{Refusal: reason})
}

// listenersByName returns the listeners by the names of their interfaces.
func (s *Server) listenersByName() map[string]*Listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	byName := make(map[string]*Listener)
	for l := range s.listeners {
		byName[l.on.Name()] = l
	}
	return byName
}

// claimKey identifies what a PCP client maps.
type claimKey struct {
	protocol         portmap.Protocol
	internal, remote netip.AddrPort
}

func claimKeyOf(m *portmap.Mapping, c portmap.Claim) claimKey {
	return claimKey{m.Protocol, m.Internal, c.Remote}
}

// claimsInForce returns what PCP clients have mapped.
func (s *Server) claimsInForce() map[claimKey]bool {
	held := make(map[claimKey]bool)
	for _, m := range s.opts.Table.List() {
		for _, c := range m.Claims {
			if c.Origin == portmap.PCP && !m.Dormant {
				held[claimKeyOf(m, c)] = true
			}
		}
	}
	return held
}
