package pcpd

import (
	"net/netip"

	"igdd/pkg/lan"
	"igdd/pkg/natpmp"
	"igdd/pkg/pcp"
)

// Where clients listen for announcements: the group of all hosts (RFC 6886,
// section 3.2.1; RFC 6887, section 14.1.3).
var (
	allHosts4 = netip.AddrPortFrom(netip.AddrFrom4([4]byte{224, 0, 0, 1}), pcp.AnnouncePort)
	allHosts6 = netip.AddrPortFrom(netip.IPv6LinkLocalAllNodes(), pcp.AnnouncePort)
)

// state returns the content of an announcement sent now.
func (s *Server) state() gatewayState {
	return gatewayState{s.opts.Table.External(), s.opts.Table.Epoch()}
}

// sendCopy sends the n-th copy of an announcement from every address that clients may
// use as their gateway: they ignore other sources. It sends the given state even if it
// has changed since: a further announcement follows.
func (l *Listener) sendCopy(n int, state gatewayState) {
	own := l.on.Prefixes()
	if l.server.opts.Hosts.Hides(l.on) {
		own = nil
	}
	for _, s := range l.sockets {
		for _, from := range gateways(own, s.Family()) {
			if err := l.announce(s, from, state); err != nil {
				l.server.opts.Log.Debug("cannot send announcement", "interface", l.on.Name(), "from", from, "err", err)
			}
		}
	}
	if n < updateCopies {
		l.server.Update()
	}
}

// announce sends one copy in each protocol, PCP's first. NAT-PMP needs an external
// address.
func (l *Listener) announce(s *lan.Socket, from netip.Addr, state gatewayState) error {
	to := allHosts6
	if from.Is4() {
		to = allHosts4
	}
	if l.server.opts.PCP {
		if err := s.Send(pcp.Response{Epoch: state.epoch}.Append, from, to); err != nil {
			return err
		}
	}
	if r := state.addressResponse(); l.server.opts.NATPMP && from.Is4() && r.Result == natpmp.Success {
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
