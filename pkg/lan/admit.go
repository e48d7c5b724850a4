package lan

import (
	"net/netip"
	"slices"
)

// IsOwn reports whether an address is one of the router's own on an interface.
func IsOwn(own []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Addr() == a })
}

// IsClient reports whether the sender of a datagram is another host on the networks of
// the interface, or on one that is routed there, and has a port that can be answered.
func IsClient(own, routed []netip.Prefix, from netip.AddrPort) bool {
	source := from.Addr().Unmap().WithZone("")
	isIn := func(p netip.Prefix) bool { return p.Contains(source) && !isBroadcast(p, source) }
	return from.Port() != 0 && !IsOwn(own, source) && (slices.ContainsFunc(own, isIn) || slices.ContainsFunc(routed, isIn))
}

// isBroadcast reports whether a is a broadcast address of an IPv4 network: the last
// address, or the first, which was one in 4.2BSD (RFC 1122, section 3.3.6).
func isBroadcast(network netip.Prefix, a netip.Addr) bool {
	if !a.Is4() || network.Bits() > 30 {
		return false
	}
	return a == network.Masked().Addr() || !network.Contains(a.Next())
}

// isAdmitted reports whether a datagram is from a client of an interface, and for one of
// the router's own addresses there. One for a multicast group, or for the limited
// broadcast address, to which some programs send instead, is for a socket with groups
// only: its kernel passes on no other group's.
func isAdmitted(own, routed []netip.Prefix, from netip.AddrPort, to netip.Addr, hasGroups bool) bool {
	isForGroup := to.IsMulticast() || to == netip.AddrFrom4([4]byte{255, 255, 255, 255})
	return IsClient(own, routed, from) && (IsOwn(own, to) || hasGroups && isForGroup)
}
