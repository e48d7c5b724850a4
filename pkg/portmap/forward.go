package portmap

import "net/netip"

// Forward is a port forward that the administrator's firewall makes: a static
// mapping, in the words of RFC 6887, that no client may shadow or delete.
type Forward struct {
	Protocol Protocol
	External PortRange
	// Target is where it leads. Port 0 keeps the external port; the zero
	// AddrPort is the router itself, or no one place.
	Target netip.AddrPort
}
