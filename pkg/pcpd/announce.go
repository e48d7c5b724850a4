package pcpd

import (
	"net/netip"

	"igdd/pkg/lansock"
	"igdd/pkg/natpmp"
	"igdd/pkg/pcp"
)

// Where clients listen for announcements: the group of all hosts (RFC 6886,
// section 3.2.1; RFC 6887, section 14.1.3).
var (
	allHosts4 = netip.AddrPortFrom(netip.AddrFrom4([4]byte{224, 0, 0, 1}), pcp.AnnouncePort)
	allHosts6 = netip.AddrPortFrom(netip.IPv6LinkLocalAllNodes(), pcp.AnnouncePort)
)

func (s *Server) state() gatewayState {
	return gatewayState{s.opts.Table.External(), s.opts.Table.Epoch()}
}

// sendCopy sends the n-th copy of an announcement from every address that clients
// may use as their gateway: they ignore other sources. The state is the given one, even if it has
// changed since: a further announcement follows.
func (l *Listener) sendCopy(n int, said gatewayState) {
	own := l.lan.Prefixes()
	for _, s := range l.sockets {
		for _, from := range gateways(own, s.Family()) {
			if err := l.announce(s, from, said); err != nil {
				l.server.opts.Log.Debug("announcement is lost", "interface", l.lan.Name(), "from", from, "err", err)
			}
		}
	}
	if n < updateCopies {
		l.update(said)
	}
}

// announce sends one copy in each protocol, PCP's first. NAT-PMP needs an external
// address.
func (l *Listener) announce(s *lansock.Socket, from netip.Addr, said gatewayState) error {
	to := allHosts6
	if from.Is4() {
		to = allHosts4
	}
	if l.server.opts.PCP {
		if err := s.Send(pcp.Response{Epoch: said.epoch}.Append, from, to); err != nil {
			return err
		}
	}
	if r := said.addressResponse(); l.server.opts.NATPMP && from.Is4() && r.Result == natpmp.Success {
		return s.Send(r.Append, from, to)
	}
	return nil
}

// gateways returns the own addresses of one family that clients may send to:
// the first of each IPv4 network, all of IPv6.
func gateways(own []netip.Prefix, family netip.Addr) []netip.Addr {
	var list []netip.Addr
	seen := make(map[netip.Prefix]bool)
	for _, p := range own {
		if p.Addr().Is4() == family.Is4() && (p.Addr().Is6() || !seen[p.Masked()]) {
			seen[p.Masked()] = true
			list = append(list, p.Addr())
		}
	}
	return list
}
