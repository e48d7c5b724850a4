package portmap

import (
	"net/netip"
	"slices"
)

// NetworkState is what the desk has to know of the router around it.
type NetworkState struct {
	// External is the announced IPv4 address; the zero Addr means none now.
	External netip.Addr
	// LANs are the networks behind the listening interfaces; Addr is the
	// router's own address there.
	LANs []netip.Prefix
	// Interfaces are the LANs once more, by the interface that they are behind;
	// nil: all are behind one.
	Interfaces [][]netip.Prefix
	// Own are the router's other addresses, which are no target either.
	Own []netip.Addr
	// NoIPv6 tells that there is no firewall of IPv6: pinholes that were stored
	// wait for one, and there are no new ones.
	NoIPv6 bool
	// Forwards are made by the administrator's firewall.
	Forwards []Forward
}

// isHost reports whether a is a host on a LAN: not the router, not the
// network's own or broadcast address.
func (s *NetworkState) isHost(a netip.Addr) bool {
	lan, ok := s.lan(a)
	return ok && a != lan.Addr() && !isNetworkOrBroadcast(lan, a) && !slices.Contains(s.Own, a)
}

// lan returns the network that a belongs to.
func (s *NetworkState) lan(a netip.Addr) (netip.Prefix, bool) {
	for _, lan := range s.LANs {
		if lan.Contains(a) {
			return lan, true
		}
	}
	return netip.Prefix{}, false
}

// Networks returns the IPv4 networks, without those that have no room for a
// host, of the interface that a is behind.
func (s *NetworkState) Networks(a netip.Addr) []netip.Prefix {
	interfaces := s.Interfaces
	if interfaces == nil {
		interfaces = [][]netip.Prefix{s.LANs}
	}
	var list []netip.Prefix
	for _, lans := range interfaces {
		if !slices.ContainsFunc(lans, func(lan netip.Prefix) bool { return lan.Contains(a) }) {
			continue
		}
		for _, lan := range lans {
			if lan.Addr().Is4() && !lan.IsSingleIP() {
				list = append(list, lan.Masked())
			}
		}
	}
	return list
}

// hasFamily reports whether there is any network of a's family yet.
func (s *NetworkState) hasFamily(a netip.Addr) bool {
	return slices.ContainsFunc(s.LANs, func(lan netip.Prefix) bool { return lan.Addr().Is4() == a.Is4() })
}

// isNetworkOrBroadcast reports whether a is the network or broadcast address of an IPv4 network.
func isNetworkOrBroadcast(network netip.Prefix, a netip.Addr) bool {
	if !a.Is4() || network.Bits() > 30 {
		return false
	}
	host := ^uint32(0) >> network.Bits()
	return uint32Of(a)&host == 0 || uint32Of(a)&host == host
}

// forward returns the administrator's forward that has this external port.
func (s *NetworkState) forward(p Protocol, external uint16) (Forward, bool) {
	for _, f := range s.Forwards {
		if f.Protocol == p && f.External.Contains(external) {
			return f, true
		}
	}
	return Forward{}, false
}

// forwardTo returns the administrator's forward that leads to to by a port that
// the rules permit, as a mapping nobody claims.
func (s *NetworkState) forwardTo(p Protocol, to netip.AddrPort, permits func(external uint16) bool) *Mapping {
	for _, f := range s.Forwards {
		if external, ok := f.reaches(to); ok && f.Protocol == p && permits(external) {
			return &Mapping{Key: Key{Protocol: p, External: external}, Internal: to}
		}
	}
	return nil
}

// reaches returns the external port by which f leads to to, if it is one.
func (f Forward) reaches(to netip.AddrPort) (uint16, bool) {
	switch f.Target {
	case netip.AddrPortFrom(to.Addr(), 0):
		return to.Port(), f.External.Contains(to.Port())
	case to:
		return f.External.First, f.External.First == f.External.Last
	}
	return 0, false
}
