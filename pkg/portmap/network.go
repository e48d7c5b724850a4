package portmap

import (
	"net/netip"
	"slices"
)

// NetworkState is the router's addresses, LANs and static port forwards, as far
// as the table needs them.
type NetworkState struct {
	// External is the announced IPv4 address; the zero Addr means none now.
	External netip.Addr
	// Upstream is set if a router in front is asked to forward external ports. Uplink
	// is then the uplink's own address, which clients are told for what that router
	// does not forward; the zero Addr: they are told External.
	Upstream bool
	Uplink   netip.Addr
	// LANs lists the networks of the listening interfaces; each Addr is the
	// router's own address there.
	LANs []netip.Prefix
	// Interfaces lists the same networks grouped by interface; nil: all belong
	// to one interface.
	Interfaces [][]netip.Prefix
	// Devices lists the names of the interfaces in the order of Interfaces; nil: not
	// known.
	Devices []string
	// Routed lists the networks behind other routers on the LANs. Each counts as a LAN
	// of its own.
	Routed []RoutedNetwork
	// Own lists the router's other addresses, which cannot be targets either.
	Own []netip.Addr
	// Hardware lists the router's own hardware addresses, as net.HardwareAddr formats
	// them.
	Hardware []string
	// NoIPv6 is set if there is no IPv6 firewall: existing pinholes are dormant,
	// and new ones are refused.
	NoIPv6 bool
	// Forwards lists the static port forwards.
	Forwards []Forward
}

// RoutedNetwork is a network behind another router on a LAN.
type RoutedNetwork struct {
	netip.Prefix
	Device string // the name of the LAN's interface; "": not known
}

// outermost returns the external address as far as it is known: the zero Addr while the
// router in front has not told its own.
func (s *NetworkState) outermost() netip.Addr {
	if s.Upstream && s.External == s.Uplink {
		return netip.Addr{}
	}
	return s.External
}

// checkTarget returns Granted if a can be a host on a LAN, NoNetwork if it could
// be one on a LAN that is not there now, and BadTarget if not: an address of the
// router, a network or broadcast address, or none of a host.
func (s *NetworkState) checkTarget(a netip.Addr) Refusal {
	lan, found := s.lan(a)
	routed, isRouted := s.routed(a)
	switch {
	case !a.IsGlobalUnicast(), slices.Contains(s.Own, a), found && (a == lan.Addr() || isNetworkOrBroadcast(lan, a)):
		return BadTarget
	case isRouted && isNetworkOrBroadcast(routed.Prefix, a):
		return BadTarget
	case !found && !isRouted:
		return NoNetwork
	}
	return Granted
}

// routed returns the network behind another router that a belongs to.
func (s *NetworkState) routed(a netip.Addr) (network RoutedNetwork, found bool) {
	if i := s.routedNumber(a); i >= 0 {
		return s.Routed[i], true
	}
	return RoutedNetwork{}, false
}

// routedNumber returns the number of that network in the order of Routed, -1 if there
// is none.
func (s *NetworkState) routedNumber(a netip.Addr) int {
	return slices.IndexFunc(s.Routed, func(n RoutedNetwork) bool { return n.Contains(a) })
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

// noLAN is the number of no LAN.
const noLAN = -1

// lanNumber returns the number of the LAN that a belongs to, in the order of
// Interfaces and then of Routed.
func (s *NetworkState) lanNumber(a netip.Addr) int {
	if i := s.routedNumber(a); i >= 0 {
		return max(1, len(s.Interfaces)) + i
	}
	if s.Interfaces == nil {
		if _, found := s.lan(a); found {
			return 0
		}
		return noLAN
	}
	return slices.IndexFunc(s.Interfaces, func(lans []netip.Prefix) bool {
		return slices.ContainsFunc(lans, func(lan netip.Prefix) bool { return lan.Contains(a) })
	})
}

// device returns the name of the interface that has a's network, or that this is
// behind; "": not known, or more than one has it.
func (s *NetworkState) device(a netip.Addr) (name string) {
	if n, isRouted := s.routed(a); isRouted {
		return n.Device
	}
	for i, device := range s.Devices {
		switch {
		case device == name || !slices.ContainsFunc(s.Interfaces[i], func(lan netip.Prefix) bool { return lan.Contains(a) }):
		case name != "":
			return ""
		default:
			name = device
		}
	}
	return name
}

// Networks returns the IPv4 networks of the interface that has a's network,
// without those of a single address; for an address behind another router those
// that are behind one on the same interface.
func (s *NetworkState) Networks(a netip.Addr) []netip.Prefix {
	if n, isRouted := s.routed(a); isRouted {
		return s.networksBehind(n.Device)
	}
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

// networksBehind returns the IPv4 networks behind other routers on an interface.
func (s *NetworkState) networksBehind(device string) (list []netip.Prefix) {
	for _, n := range s.Routed {
		if n.Addr().Is4() && n.Device == device {
			list = append(list, n.Prefix)
		}
	}
	return list
}

// isNetworkOrBroadcast reports whether a is the network or broadcast address of
// an IPv4 network.
func isNetworkOrBroadcast(network netip.Prefix, a netip.Addr) bool {
	if !a.Is4() || network.Bits() > 30 {
		return false
	}
	host := ^uint32(0) >> network.Bits()
	return uint32Of(a)&host == 0 || uint32Of(a)&host == host
}

// forward returns the static port forward that has this external port.
func (s *NetworkState) forward(p Protocol, external uint16) (Forward, bool) {
	for _, f := range s.Forwards {
		if f.Protocol == p && f.External.Contains(external) {
			return f, true
		}
	}
	return Forward{}, false
}

// forwardTo returns the first static port forward to this target whose external
// port permits allows, as a mapping without claims.
func (s *NetworkState) forwardTo(p Protocol, to netip.AddrPort, permits func(external uint16) bool) *Mapping {
	for _, f := range s.Forwards {
		if external, ok := f.reaches(to); ok && f.Protocol == p && permits(external) {
			return &Mapping{Key: Key{Protocol: p, External: external}, Internal: to}
		}
	}
	return nil
}

// reaches returns the external port that f forwards to this target, if it is a
// single one.
func (f Forward) reaches(to netip.AddrPort) (uint16, bool) {
	switch f.Target {
	case netip.AddrPortFrom(to.Addr(), 0):
		return to.Port(), f.External.Contains(to.Port())
	case to:
		return f.External.First, f.External.First == f.External.Last
	}
	return 0, false
}
