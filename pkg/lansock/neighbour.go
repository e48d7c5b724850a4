package lansock

import (
	"net/netip"
	"slices"
)

// IsOwn reports whether an address is the router's own, given all that it has
// on an interface.
func IsOwn(own []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Addr() == a })
}

// IsNeighbour reports whether the sender of a datagram is another host on the
// interface's own networks, and can be answered.
func IsNeighbour(own []netip.Prefix, from netip.AddrPort) bool {
	source := from.Addr().WithZone("")
	near := func(p netip.Prefix) bool { return p.Contains(source) && !isBroadcast(p, source) }
	return from.Port() != 0 && !IsOwn(own, source) && slices.ContainsFunc(own, near)
}

// isBroadcast reports whether a is the broadcast address of an IPv4 network, new or
// old style.
func isBroadcast(network netip.Prefix, a netip.Addr) bool {
	if !a.Is4() || network.Bits() > 30 {
		return false
	}
	return a == network.Masked().Addr() || !network.Contains(a.Next())
}
