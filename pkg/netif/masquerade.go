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
