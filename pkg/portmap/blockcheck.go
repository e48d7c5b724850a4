package portmap

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// checkBlock returns an error if no client can be the host that a block names.
// Elsewhere is set if the host's address is on no LAN now.
func (s *NetworkState) checkBlock(h *HostSelector) (elsewhere bool, err error) {
	switch {
	case h.Hardware != "":
		return false, s.checkHardware(h.Hardware)
	case h.Addr.IsValid():
		return s.checkAddr(h.Addr)
	}
	return false, nil
}

// checkHardware returns an error if no client can have a hardware address.
func (s *NetworkState) checkHardware(text string) error {
	a, err := net.ParseMAC(text)
	isZero := !slices.ContainsFunc(a, func(octet byte) bool { return octet != 0 })
	switch {
	case err != nil || isZero || a[0]&1 != 0: // the bit of groups (IEEE 802-2014, section 8.2.2)
		return fmt.Errorf("%s is not the hardware address of one host; use that of a client", text)
	case slices.Contains(s.Hardware, text):
		return fmt.Errorf("%s is the router's own hardware address; use that of a client", text)
	}
	return nil
}

// checkAddr returns an error if no client can have an address. Elsewhere is set if the
// address is on no LAN now; link-local addresses are on each.
func (s *NetworkState) checkAddr(a netip.Addr) (elsewhere bool, err error) {
	lan, found := s.lan(a)
	_, isRouted := s.routed(a)
	switch {
	case slices.Contains(s.Own, a), a == s.External, found && a == lan.Addr():
		return false, fmt.Errorf("%v is the router's own address; use that of a client", a)
	case a.IsLinkLocalUnicast():
		return false, nil
	case s.checkTarget(a) == BadTarget:
		return false, fmt.Errorf("%v is not the address of one host; use that of a client", a)
	}
	return !found && !isRouted, nil
}
