package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// addLAN takes a listening interface: its name, or the router's address there
// as a.b.c.d, a.b.c.d/bits or a.b.c.d/mask.
func (d *draft) addLAN(s string) error {
	lan, err := parseLAN(s)
	if err == nil && !slices.Contains(d.LANs, lan) {
		d.LANs = append(d.LANs, lan)
	}
	return err
}

func parseLAN(s string) (LAN, error) {
	const usual = "24" // bits of a network that does not say
	address, mask, found := strings.Cut(s, "/")
	a, err := netip.ParseAddr(address)
	switch {
	case err == nil && a.Is4():
		if !found {
			mask = usual
		}
		bits, err := maskBits(mask)
		return LAN{Prefix: netip.PrefixFrom(a, bits)}, err
	case isDevice(s) && strings.Trim(s, "0123456789.") != "":
		return LAN{Interface: s}, nil
	}
	return LAN{}, fmt.Errorf("%q is neither an interface nor an IPv4 address with an optional mask", s)
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
