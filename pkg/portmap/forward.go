package portmap

import "net/netip"

// Forward is a static port forward in the administrator's firewall, which RFC
// 6887 calls a static mapping. No client can override or delete it.
type Forward struct {
	Protocol Protocol
	External PortRange
	// Target is the internal address and port. Port 0 keeps the external port;
	// the zero AddrPort is the router itself, or more than one target.
	Target netip.AddrPort
}
