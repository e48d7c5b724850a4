package portmap

import (
	"fmt"
	"net/netip"
)

// Forward is a static port forward in the administrator's firewall, which RFC
// 6887 calls a static mapping. No client can override or delete it.
type Forward struct {
	Protocol Protocol
	External PortRange
	// Target is the internal address and port. Port 0 keeps the external port;
	// the zero AddrPort is the router itself, or more than one target.
	Target netip.AddrPort
}

// String returns the forward as text: "80-90/TCP -> 192.168.1.10:80 (static forward)".
func (f *Forward) String() string {
	to := f.Target.String()
	switch {
	case !f.Target.IsValid():
		to = "the router, or hosts that a rule chooses"
	case f.Target.Port() == 0:
		to = f.Target.Addr().String()
	}
	return fmt.Sprintf("%v/%v -> %s (static forward)", f.External, f.Protocol, to)
}
