package lansock

import (
	"net/netip"
	"slices"
)

// Own reports whether an address is the router's own, given all that it has
// on an interface.
func Own(own []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Addr() == a })
}

// Neighbour reports whether the sender of a datagram is another host on the
// interface's own networks, and can be answered.
func Neighbour(own []netip.Prefix, from netip.AddrPort) bool {
	source := from.Addr().WithZone("")
	near := func(p netip.Prefix) bool { return p.Contains(source) && !isEdge(p, source) }
	return from.Port() != 0 && !Own(own, source) && slices.ContainsFunc(own, near)
}

// isEdge reports whether a is the broadcast address of an IPv4 network, new or
// old style.
func isEdge(network netip.Prefix, a netip.Addr) bool {
	if !a.Is4() || network.Bits() > 30 {
		return false
	}
	return a == network.Masked().Addr() || !network.Contains(a.Next())
}
