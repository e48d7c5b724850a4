package ssdpd

import (
	"net/netip"

	"igdd/pkg/lansock"
	"igdd/pkg/ssdp"
)

// groupAddrs are the own addresses by which the gateway is known in each group;
// the zero Addr where it has none of that scope.
type groupAddrs [ssdp.SiteLocal + 1]netip.Addr

// groupAddrsOf returns the places on an interface with these addresses: the first
// IPv4 address, the link-local one, and the first that is known beyond the
// link (UDA 1.1, annex A.2).
func groupAddrsOf(own []netip.Prefix) (p groupAddrs) {
	for _, prefix := range own {
		if g := groupFor(prefix.Addr()); !p[g].IsValid() {
			p[g] = prefix.Addr()
		}
	}
	return p
}

// groupFor returns the group whose members can reach an address.
func groupFor(a netip.Addr) ssdp.Group {
	switch {
	case a.Is4():
		return ssdp.IPv4
	case a.IsLinkLocalUnicast():
		return ssdp.LinkLocal
	}
	return ssdp.SiteLocal
}

// addrFor returns the own address that an answer leads to and comes from: the
// one that was asked, or one of the group's scope, best on the searcher's own
// network.
func addrFor(own []netip.Prefix, from, to netip.Addr) netip.Addr {
	if !to.IsMulticast() {
		return to
	}
	for _, p := range own {
		if groupFor(p.Addr()).Addr() == to && p.Contains(from) {
			return p.Addr()
		}
	}
	for g, place := range groupAddrsOf(own) {
		if ssdp.Group(g).Addr() == to {
			return place
		}
	}
	return netip.Addr{}
}

// meant returns where a datagram should have gone. Programs that know no
// multicast search all hosts of the link, by the address that no router passes
// on: they mean the group.
func meant(to netip.Addr) netip.Addr {
	if to == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return ssdp.IPv4.Addr()
	}
	return to
}

// mayAsk reports whether a datagram goes from a neighbour to one of the
// groups, or to one of the router's own addresses on that interface.
// Everybody else gets silence.
func mayAsk(own []netip.Prefix, from netip.AddrPort, to netip.Addr) bool {
	return lansock.IsNeighbour(own, from) && (to.IsMulticast() || lansock.IsOwn(own, to))
}
