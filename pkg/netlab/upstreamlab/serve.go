package upstreamlab

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"igdd/pkg/natpmp"
	"igdd/pkg/pcp"
)

// serve returns the reply to a packet, and the socket that sends it.
func (s *Server) serve(b []byte, from netip.AddrPort) ([]byte, *net.UDPConn) {
	switch {
	case len(b) < 2:
		return nil, nil
	case b[0] == natpmp.Version && s.conduct.NATPMP:
		return s.serveNATPMP(b, from)
	case b[0] == pcp.Version && s.conduct.PCP:
		return s.servePCP(b, from)
	case s.conduct.NATPMP: // RFC 6886, section 3.5
		return natpmp.Response{Opcode: natpmp.Opcode(b[1]), Result: natpmp.UnsupportedVersion, Epoch: s.epoch()}.Append(nil), s.socket
	}
	return pcp.AppendError(nil, b, pcp.UnsuppVersion, pcp.UnsuppVersion.Lifetime(), s.epoch()), s.socket
}

// serveNATPMP does so for NAT-PMP.
func (s *Server) serveNATPMP(b []byte, from netip.AddrPort) ([]byte, *net.UDPConn) {
	req, err := natpmp.ParseRequest(b)
	switch {
	case err != nil:
		return nil, nil
	case req.Opcode == natpmp.Address:
		return natpmp.Response{External: s.conduct.External, Epoch: s.epoch()}.Append(nil), s.socket
	}
	protocol := uint8(unix.IPPROTO_UDP)
	if req.Opcode == natpmp.MapTCP {
		protocol = unix.IPPROTO_TCP
	}
	a := s.decide(Asked{From: from, Protocol: protocol, Port: req.InternalPort, Suggested: req.SuggestedPort, Lifetime: req.Lifetime})
	return natpmp.Response{
		Opcode: req.Opcode, Result: natpmp.Result(a.Result), Epoch: a.Epoch,
		InternalPort: a.Internal, ExternalPort: a.External.Port(), Lifetime: a.Lifetime,
	}.Append(nil), s.by(a)
}

// servePCP does so for PCP.
func (s *Server) servePCP(b []byte, from netip.AddrPort) ([]byte, *net.UDPConn) {
	req, err := pcp.Service{}.Parse(b, from.Addr())
	if result, refused := err.(pcp.Result); refused {
		return pcp.AppendError(nil, b, result, result.Lifetime(), s.epoch()), s.socket
	}
	switch {
	case err != nil:
		return nil, nil
	case req.Opcode == pcp.Announce:
		return pcp.Response{Epoch: s.epoch()}.Append(nil), s.socket
	}
	a := s.decide(Asked{
		From: from, PCP: true, Protocol: req.Protocol, Port: req.InternalPort, Suggested: req.External.Port(),
		Lifetime: req.Lifetime, Nonce: req.Nonce, Options: req.Options,
	})
	if a.Result != uint16(pcp.Success) {
		return pcp.AppendError(nil, b, pcp.Result(a.Result), pcp.Result(a.Result).Lifetime(), a.Epoch), s.by(a)
	}
	return pcp.Response{
		Opcode: pcp.Map, Lifetime: a.Lifetime, Epoch: a.Epoch, Options: req.Options,
		Mapping: pcp.Mapping{Nonce: a.Nonce, Protocol: req.Protocol, InternalPort: a.Internal, External: a.External},
	}.Append(nil), s.by(a)
}

// by returns the socket that sends an answer.
func (s *Server) by(a Answer) *net.UDPConn {
	if a.Stray {
		return s.stray
	}
	return s.socket
}

// decide records a request, carries it out and returns the answer.
func (s *Server) decide(q Asked) Answer {
	s.asked = append(s.asked, q)
	if s.conduct.Silent {
		return Answer{}
	}
	a := Answer{Nonce: q.Nonce, Internal: q.Port, Epoch: s.epoch(), Lifetime: q.Lifetime}
	if s.conduct.Lease > 0 && q.Lifetime > 0 {
		a.Lifetime = s.conduct.Lease
	}
	port, result := s.carryOut(q)
	a.Result, a.External = result, netip.AddrPortFrom(s.conduct.External, port)
	if s.conduct.Lie != nil {
		s.conduct.Lie(&a)
	}
	return a
}

// carryOut gives a port, or takes it back, and returns the external port and a result
// code of the protocol.
func (s *Server) carryOut(q Asked) (port, result uint16) {
	to := netip.AddrPortFrom(q.From.Addr(), q.Port)
	switch i := slices.IndexFunc(s.leases, func(l Lease) bool { return l.Protocol == q.Protocol && l.To == to }); {
	case i >= 0 && q.Lifetime > 0:
		return s.leases[i].External, 0
	case i >= 0:
		s.forward(s.leases[i], "-D")
		s.leases = slices.Delete(s.leases, i, i+1)
		return 0, 0
	case q.Lifetime == 0:
		return 0, 0
	}
	return s.give(q, to)
}

// give gives a port that a router has not yet.
func (s *Server) give(q Asked, to netip.AddrPort) (port, result uint16) {
	port = s.free(q)
	switch {
	case port == 0:
		return 0, q.exhausted()
	case port != q.Suggested && slices.Contains(q.Options, pcp.Option(pcp.PreferFailure{})):
		return 0, uint16(pcp.CannotProvideExternal)
	}
	l := Lease{q.Protocol, port, to}
	s.leases, s.opened = append(s.leases, l), append(s.opened, l)
	return port, 0
}

// exhausted is the result code of a server that has no port left.
func (q Asked) exhausted() uint16 {
	if q.PCP {
		return uint16(pcp.NoResources)
	}
	return uint16(natpmp.OutOfResources)
}

// free returns a port that the server can give, 0 if there is none.
func (s *Server) free(q Asked) uint16 {
	ports := s.conduct.Ports
	if len(ports) == 0 {
		ports = []uint16{q.Suggested, q.Port}
	}
	for _, p := range ports {
		taken := slices.ContainsFunc(s.leases, func(l Lease) bool { return l.Protocol == q.Protocol && l.External == p })
		if p != 0 && !taken {
			return p
		}
	}
	return 0
}

// forwardOpened adds the rules that are still to come.
func (s *Server) forwardOpened() {
	for _, l := range s.opened {
		s.forward(l, "-A")
	}
	s.opened = nil
}

// forward adds (-A) or deletes (-D) the rule for a lease.
func (s *Server) forward(l Lease, do string) {
	network := map[uint8]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp"}[l.Protocol]
	cmd := s.host.Command("/usr/sbin/iptables-legacy", "-w", "-t", "nat", do, "PREROUTING",
		"-i", "wan0", "-p", network, "--dport", fmt.Sprint(l.External), "-j", "DNAT", "--to-destination", l.To.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Errorf("upstreamlab: %v: %v: %s", cmd, err, out)
	}
}
