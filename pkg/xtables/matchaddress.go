package xtables

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// matchDestination returns the set of "-d 192.0.2.0/24".
func (p *Packet) matchDestination(network string) matchSet {
	return matchNetwork(network, p.Destination)
}

// matchNetwork returns the set of a network for an address, the zero Addr if
// that is not known.
func matchNetwork(network string, a netip.Addr) matchSet {
	base, mask, ok := parseNetwork(network)
	if !ok || !a.IsValid() || a.Is4() != base.Is4() {
		return perhaps
	}
	return matchIf(splice(base, a, mask) == a)
}

// parseNetwork parses "192.0.2.0/24", "192.0.2.1" and networks by any mask, such as
// "::1/::ffff".
func parseNetwork(text string) (base, mask netip.Addr, ok bool) {
	address, length, masked := strings.Cut(text, "/")
	base, err := netip.ParseAddr(address)
	if err != nil {
		return base, mask, false
	}
	if mask, err = netip.ParseAddr(length); err == nil {
		return base, mask, mask.Is4() == base.Is4()
	}
	bits := base.BitLen()
	if masked {
		if bits, err = strconv.Atoi(length); err != nil {
			return base, mask, false
		}
	}
	ones := slices.Repeat([]byte{0xff}, base.BitLen()/8)
	mask, _ = netip.AddrFromSlice(ones)
	prefix, err := mask.Prefix(bits)
	return base, prefix.Addr(), err == nil
}

// splice returns the bits of a that a mask of the same family keeps, and the
// others of b.
func splice(a, b, mask netip.Addr) netip.Addr {
	bytes, kept := b.AsSlice(), a.AsSlice()
	for i, m := range mask.AsSlice() {
		bytes[i] = bytes[i]&^m | kept[i]&m
	}
	spliced, _ := netip.AddrFromSlice(bytes)
	return spliced
}

// privateNetworks are networks that are not routed in the Internet.
var privateNetworks = [...]netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"),
}

// matchSource returns the set of "-s 192.0.2.0/24".
func (p *Packet) matchSource(network string) matchSet {
	if p.Source.IsValid() {
		return matchNetwork(network, p.Source)
	}
	prefix, err := netip.ParsePrefix(network)
	if err != nil {
		return perhaps
	}
	if from := p.Network; from.IsValid() && !from.Overlaps(prefix) {
		return never
	} else if from.IsValid() && prefix.Bits() <= from.Bits() {
		return always
	}
	for _, n := range privateNetworks {
		if p.Public && n.Bits() <= prefix.Bits() && n.Contains(prefix.Addr()) {
			return never
		}
	}
	return perhaps
}

// matchRange returns the set of "--src-range 192.0.2.1-192.0.2.9" for an
// address, the zero Addr if that is not known.
func matchRange(addresses string, a netip.Addr) matchSet {
	first, last, _ := strings.Cut(addresses, "-")
	low, err := netip.ParseAddr(first)
	high, err2 := netip.ParseAddr(last)
	if err != nil || err2 != nil || !a.IsValid() {
		return perhaps
	}
	return matchIf(low.Compare(a) <= 0 && a.Compare(high) <= 0)
}

// matchType returns the set of "--dst-type LOCAL".
func (p *Packet) matchType(types string) matchSet {
	known := cmp.Or(p.Destination, p.Original, p.Source)
	switch {
	case !p.Local && p.Out == "":
		return perhaps
	case types == "LOCAL":
		return matchIf(p.Local)
	case !known.IsValid():
		return perhaps
	}
	return matchTypes(types, known.Is6(), p.Local)
}

// matchSourceType returns the set of "--src-type LOCAL". The kernel routes no
// packet with the source of a group or of a whole network, and another host has
// none of the router's addresses.
func (p *Packet) matchSourceType(types string) matchSet {
	if !p.Source.IsValid() {
		return perhaps
	}
	return matchTypes(types, p.Source.Is6(), false)
}

// matchTypes returns the set of a list of types for the address of one host, maybe
// of the router. In IPv6, UNICAST includes LOCAL, and a list is matched by an
// address that is of all the types.
func matchTypes(types string, isIPv6, local bool) matchSet {
	list := strings.Split(types, ",")
	has := func(name string) bool { return slices.Contains(list, name) }
	switch {
	case !isIPv6 && local:
		return matchIf(has("LOCAL"))
	case !isIPv6:
		return matchIf(has("UNICAST"))
	case has("ANYCAST"), has("UNREACHABLE"):
		return perhaps
	}
	return matchIf(!has("MULTICAST") && !has("UNSPEC") && (local || !has("LOCAL")))
}
