package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// essential is an error without whose cause the service might start: it is
// never left out of what the operator is told.
type essential struct{ error }

// addLAN takes listening interfaces, each as parseLAN reads it. Older versions
// of miniupnpd had one and words that belong to it.
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
			lan, err = LAN{}, fmt.Errorf("%v is a public address, as older versions had the external one here: ignored, set ext_ip", a)
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

// same reports whether both are one interface, or one address.
func (l LAN) same(o LAN) bool {
	return l.Interface == o.Interface && l.Prefix == o.Prefix
}

// parseLAN reads an interface, the router's address there or the address of
// its network, each perhaps with a mask. The error may object to a LAN that is
// taken all the same.
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
	if strings.ContainsAny(device, "\"',;*") {
		return lan, essential{fmt.Errorf("%q is hardly an interface: write names without quotes and commas, one a line", s)}
	}
	return lan, labelled
}

// addressedLAN reads a LAN that is known by an address.
func addressedLAN(a netip.Addr, mask string, masked bool) (LAN, error) {
	if a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" || a.Is6() && a.IsLinkLocalUnicast() {
		return LAN{}, fmt.Errorf("%v is the address of no LAN: name the interface", a)
	}
	switch {
	case masked:
	case a.Is4():
		mask = "24" // as miniupnpd has it
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
		return LAN{}, fmt.Errorf("%v is every network there is: name the interface", p)
	}
	return LAN{Prefix: p}, nil
}

// maskBits reads a mask without holes: its length, or dotted.
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
	return 0, fmt.Errorf("mask %q has holes", s)
}
