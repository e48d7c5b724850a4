package ssdpd

import (
	"net/netip"

	"igdd/pkg/ssdp"
)

// groupAddrs are the router's addresses for each multicast group; the zero Addr where
// it has none of that scope.
type groupAddrs [ssdp.SiteLocal + 1]netip.Addr

// groupAddrsOf returns the addresses of an interface for the groups: the first IPv4
// address, the link-local one, and the first with a wider scope (UDA 1.1, annex A.2).
func groupAddrsOf(own []netip.Prefix) (addrs groupAddrs) {
	for _, prefix := range own {
		if g := groupFor(prefix.Addr()); !addrs[g].IsValid() {
			addrs[g] = prefix.Addr()
		}
	}
	return addrs
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

// addrFor returns the router's address for the LOCATION and the source of a response:
// the one that the search was sent to, or one of the group's scope, preferably on the
// searcher's own network.
func addrFor(own []netip.Prefix, from, to netip.Addr) netip.Addr {
	if !to.IsMulticast() {
		return to
	}
	for _, p := range own {
		if groupFor(p.Addr()).Addr() == to && p.Contains(from) {
			return p.Addr()
		}
	}
	for g, local := range groupAddrsOf(own) {
		if ssdp.Group(g).Addr() == to {
			return local
		}
	}
	return netip.Addr{}
}

// groupForBroadcast returns the destination of a datagram, or the IPv4 group instead of
// the limited broadcast address, to which some programs send their searches.
func groupForBroadcast(to netip.Addr) netip.Addr {
	if to == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return ssdp.IPv4.Addr()
	}
	return to
}
