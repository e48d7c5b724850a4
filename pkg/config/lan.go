package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// essential is an error that may explain why the service does not start. It is
// never left out of the warnings.
type essential struct{ error }

// addLAN adds listening interfaces, each in the form that parseLAN accepts. In
// older versions of miniupnpd the external address could follow the first.
func (d *draft) addLAN(s string) error {
	words := strings.Fields(s)
	if len(words) == 0 {
		words = []string{""}
	}
	taken := false
	var errs []error
	for i, word := range words {
		lan, err := parseLAN(word)
		if a := lan.Prefix.Addr(); i > 0 && a.Is4() && !Reserved(a) {
			lan, err = LAN{}, fmt.Errorf("%v is a public address, ignored: set ext_ip for the external one", a)
		}
		taken = taken || lan != (LAN{})
		if lan != (LAN{}) && !slices.ContainsFunc(d.LANs, lan.same) {
			d.LANs = append(d.LANs, lan)
			d.places["listening_ip="+lan.String()] = d.where
		}
		errs = append(errs, err)
	}
	err := errors.Join(errs...)
	switch {
	case err == nil:
		return nil
	case taken:
		return remark{err}
	}
	return essential{err}
}

// same reports whether both have the same interface and address.
func (l LAN) same(o LAN) bool {
	return l.Interface == o.Interface && l.Prefix == o.Prefix
}

// parseLAN parses an interface, the router's address there or the address of its
// network, each perhaps with a mask. With a LAN that is not zero the error is
// only a warning.
func parseLAN(s string) (LAN, error) {
	name, mask, masked := strings.Cut(s, "/")
	a, err := netip.ParseAddr(name)
	if err == nil {
		return addressedLAN(a.Unmap(), mask, masked)
	}
	device, labelled := withoutLabel(name)
	if !isDevice(device) || strings.Trim(device, "0123456789.") == "" {
		return LAN{}, fmt.Errorf("%q is neither an interface nor an address, each with an optional mask", s)
	}
	lan := LAN{Interface: device}
	if masked {
		if lan.Bits, err = maskBits(mask); err != nil {
			return LAN{}, fmt.Errorf("%q: %w", s, err)
		}
	}
	if hasShellSigns(device) {
		return lan, essential{fmt.Errorf("%q does not look like an interface: write names without quotes and commas, one per line", s)}
	}
	return lan, labelled
}

// addressedLAN returns the LAN with an address and a mask.
func addressedLAN(a netip.Addr, mask string, masked bool) (LAN, error) {
	if a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" || a.Is6() && a.IsLinkLocalUnicast() {
		return LAN{}, fmt.Errorf("%v cannot be the address of a LAN: name the interface", a)
	}
	switch {
	case masked:
	case a.Is4():
		mask = "24" // as in miniupnpd
	default:
		mask = "64" // RFC 4291, section 2.5.1
	}
	var p netip.Prefix
	var err error
	if a.Is4() {
		var bits int
		bits, err = maskBits(mask)
		p = netip.PrefixFrom(a, bits)
	} else {
		p, err = netip.ParsePrefix(a.String() + "/" + mask)
	}
	switch {
	case err != nil:
		return LAN{}, fmt.Errorf("\"%v/%s\": %w", a, mask, err)
	case p.Bits() == 0:
		return LAN{}, fmt.Errorf("%v is the whole address space: name the interface", p)
	}
	return LAN{Prefix: p}, nil
}

// maskBits parses a contiguous mask: its length, or dotted.
func maskBits(s string) (int, error) {
	mask, err := parseMask(s)
	if err != nil {
		return 0, err
	}
	for bits := range 33 {
		if mask == prefixMask(bits) {
			return bits, nil
		}
	}
	return 0, fmt.Errorf("mask %q is not contiguous", s)
}
