package netif

import "net/netip"

// Masquerade returns the link's address that MASQUERADE gives packets that leave by it for
// a next hop, the zero Addr if that is not known. In IPv4 it is the first one whose network
// has the next hop, or else the first one (inet_select_addr in Linux' net/ipv4/devinet.c).
// Of several IPv6 addresses the kernel chooses by RFC 6724.
func (l Link) Masquerade(next netip.Addr) (own netip.Addr) {
	candidates := 0
	for _, p := range l.Addrs {
		a := p.Addr()
		switch {
		case a.Is4() != next.Is4() || a.IsLinkLocalUnicast():
		case a.Is4() && p.Contains(next):
			return a
		default:
			candidates++
			if !own.IsValid() {
				own = a
			}
		}
	}
	if candidates > 1 && next.Is6() {
		return netip.Addr{}
	}
	return own
}

// MasqueradeAlways returns the IPv4 address that MASQUERADE gives packets that leave by
// the link, if it is the same one for every next hop, or else the zero Addr.
func (l Link) MasqueradeAlways() netip.Addr {
	var first netip.Prefix
	for _, p := range l.Addrs {
		switch {
		case !p.Addr().Is4() || p.Addr().IsLinkLocalUnicast():
		case !first.IsValid():
			first = p
		case !p.IsSingleIP() && (first.Bits() > p.Bits() || !first.Contains(p.Addr())): // the next hop may be another host of it
			return netip.Addr{}
		}
	}
	return first.Addr()
}
