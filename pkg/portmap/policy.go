package portmap

import (
	"encoding/binary"
	"net/netip"
	"regexp"
	"slices"
	"time"
)

// PortRange is an inclusive range of ports.
type PortRange struct{ First, Last uint16 }

// Contains reports whether p lies in the range.
func (r PortRange) Contains(p uint16) bool { return r.First <= p && p <= r.Last }

// Rule is one permission rule of the administrator:
// "allow|deny EPORT[-EPORT] ADDR[/MASK] IPORT[-IPORT] [regex]".
// One of Network, Prefix and Hardware says which hosts it is about.
type Rule struct {
	Allow       bool
	External    PortRange
	Network     netip.Addr   // IPv4, compared under Mask
	Mask        uint32       // as the administrator wrote it, perhaps with holes
	Prefix      netip.Prefix // IPv6
	Hardware    string       // in the form of net.HardwareAddr
	Internal    PortRange
	Description *regexp.Regexp // nil: any description
}

// matches reports whether the rule speaks about this destination, whatever the
// external port.
func (r *Rule) matches(to Destination, description string) bool {
	return r.matchesPort(to, description) && r.appliesToHost(to)
}

// matchesPort reports whether the rule speaks about the port and the description,
// whatever the host.
func (r *Rule) matchesPort(to Destination, description string) bool {
	return r.Internal.Contains(to.Port()) && (r.Description == nil || r.Description.MatchString(description))
}

// appliesToHost reports whether the rule speaks about the host. One that may do so
// denies and does not allow.
func (r *Rule) appliesToHost(to Destination) bool {
	surely, perhaps := r.matchesHost(to)
	return surely || !r.Allow && perhaps
}

// matchesHost says whether the rule is about the host for sure, and whether it may be.
func (r *Rule) matchesHost(to Destination) (surely, perhaps bool) {
	switch {
	case r.Hardware != "":
		return r.Hardware == to.Hardware, r.Hardware == to.Hardware || to.Hardware == ""
	case r.Prefix.IsValid():
		surely = r.Prefix.Contains(to.Addr())
	case to.Addr().Is4():
		surely = r.contains(to.Addr())
	default:
		return r.matchesHostOverIPv6(to)
	}
	return surely, surely
}

// matchesHostOverIPv6 is speaks for a rule that names IPv4 addresses and an IPv6
// destination. The rule is about hosts that have the addresses: to allow, all
// that a host has must be named, to deny, one. Of a host without known addresses
// it is only certain in which network they would be.
func (r *Rule) matchesHostOverIPv6(to Destination) (surely, perhaps bool) {
	switch {
	case len(to.IPv4) == 0:
		return r.covers(to.Networks), r.overlaps(to.Networks)
	case r.Allow:
		surely = !slices.ContainsFunc(to.IPv4, func(a netip.Addr) bool { return !r.contains(a) })
	default:
		surely = slices.ContainsFunc(to.IPv4, r.contains)
	}
	return surely, surely
}

// isIPv4 reports whether the rule names IPv4 addresses.
func (r *Rule) isIPv4() bool { return r.Hardware == "" && !r.Prefix.IsValid() }

// contains reports whether a rule of IPv4 names an address.
func (r *Rule) contains(a netip.Addr) bool { return (uint32Of(a)^uint32Of(r.Network))&r.Mask == 0 }

// covers reports whether a rule of IPv4 names every address of all these networks,
// or every address there is.
func (r *Rule) covers(networks []netip.Prefix) bool {
	if r.Mask == 0 {
		return true
	}
	whole := func(n netip.Prefix) bool { return r.contains(n.Addr()) && r.Mask<<n.Bits() == 0 }
	return len(networks) > 0 && !slices.ContainsFunc(networks, func(n netip.Prefix) bool { return !whole(n) })
}

// overlaps reports whether a rule of IPv4 names an address of these networks. If
// there are none, it may.
func (r *Rule) overlaps(networks []netip.Prefix) bool {
	shared := func(n netip.Prefix) bool {
		return (uint32Of(n.Addr())^uint32Of(r.Network))&r.Mask&^(^uint32(0)>>n.Bits()) == 0
	}
	return len(networks) == 0 || slices.ContainsFunc(networks, shared)
}

func uint32Of(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

// Policy is the administrator's will. It is never changed once in use.
type Policy struct {
	// Rules decide in order, the first match wins; no match allows.
	Rules []Rule
	// Secure lets a client map and delete only for its own address.
	Secure bool
	// MinLifetime and MaxLifetime bound what PCP is granted; NAT-PMP knows
	// only the maximum, UPnP neither. 0 means no bound.
	MinLifetime, MaxLifetime time.Duration
	// MaxPerHost, MaxPerLAN and MaxTotal bound the number of mappings to one
	// address, to one LAN's network and in all; 0 means no bound. An IPv6
	// address may have four times MaxPerHost.
	MaxPerHost, MaxPerLAN, MaxTotal int
	// MaxFilters bounds the remote peers that one claim may name; 0 means no bound.
	MaxFilters int
	// LenientNonce lets a PCP client prolong its mapping, and change nothing else
	// of it, with another nonce than it was made with: some draw one for each
	// request.
	LenientNonce bool
}

// Permits reports whether the rules let external reach a destination.
func (p *Policy) Permits(external uint16, to Destination, description string) bool {
	i, decided := p.Decides(external, to, description)
	return !decided || p.Rules[i].Allow
}

// Decides returns the index of the rule that says whether external may reach
// a destination; there may be none. If the host may be in several networks, the
// strictest answer counts.
func (p *Policy) Decides(external uint16, to Destination, description string) (i int, decided bool) {
	if len(to.IPv4) > 0 || len(to.Networks) < 2 {
		return p.firstMatch(external, to, description)
	}
	for _, n := range to.Networks {
		to.Networks = []netip.Prefix{n}
		if i, decided = p.firstMatch(external, to, description); decided && !p.Rules[i].Allow {
			break
		}
	}
	return i, decided
}

// firstMatch returns the index of the first rule that speaks about a mapping.
func (p *Policy) firstMatch(external uint16, to Destination, description string) (int, bool) {
	for i := range p.Rules {
		if r := &p.Rules[i]; r.External.Contains(external) && r.matches(to, description) {
			return i, true
		}
	}
	return 0, false
}

// mayPermit reports whether the rules let external reach a destination if only
// what is not known of its host turns out right.
func (p *Policy) mayPermit(external uint16, to Destination, description string) bool {
	for i := range p.Rules {
		r := &p.Rules[i]
		if !r.External.Contains(external) || !r.matchesPort(to, description) {
			continue
		}
		if surely, perhaps := r.matchesHost(to); surely || r.Allow && perhaps {
			return r.Allow
		}
	}
	return true
}

// DependsOnHost reports whether rules tell the hosts of one LAN apart that ask
// for an internal port over IPv6. Networks are the LAN's, of IPv4.
func (p *Policy) DependsOnHost(internal uint16, networks []netip.Prefix) bool {
	apart := func(r Rule) bool {
		return r.isIPv4() && r.Internal.Contains(internal) && r.overlaps(networks) && !r.covers(networks)
	}
	return p.DependsOnHardware(internal) || slices.ContainsFunc(p.Rules, apart)
}

// DependsOnHardware reports whether rules for an internal port name hosts by
// their hardware addresses.
func (p *Policy) DependsOnHardware(internal uint16) bool {
	return slices.ContainsFunc(p.Rules, func(r Rule) bool { return r.Hardware != "" && r.Internal.Contains(internal) })
}

// NamesHardware reports whether any rule names a host by its hardware address.
func (p *Policy) NamesHardware() bool {
	return slices.ContainsFunc(p.Rules, func(r Rule) bool { return r.Hardware != "" })
}

// Named returns the IPv4 addresses in these networks that rules name one by one.
func (p *Policy) Named(networks []netip.Prefix) []netip.Addr {
	var list []netip.Addr
	for i := range p.Rules {
		a := p.Rules[i].Network
		near := slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(a) })
		if p.Rules[i].Mask == ^uint32(0) && near && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

// Ports returns every external port that the rules let reach an IPv4 destination.
func (p *Policy) Ports(to Destination, description string) *PortSet {
	var open, decided PortSet
	for i := range p.Rules {
		r := &p.Rules[i]
		if !r.matches(to, description) {
			continue
		}
		for w := int(r.External.First / 64); w <= int(r.External.Last/64); w++ {
			fresh := r.External.word(w) &^ decided[w]
			decided[w] |= fresh
			if r.Allow {
				open[w] |= fresh
			}
		}
	}
	for w := range open {
		open[w] |= ^decided[w]
	}
	open.Remove(0)
	return &open
}

// lifetime returns what a client that asks for d is granted; 0 is for ever.
func (p *Policy) lifetime(o Origin, d time.Duration) time.Duration {
	if o == UPnP {
		return d
	}
	if p.MaxLifetime > 0 && (d > p.MaxLifetime || d == 0) {
		d = p.MaxLifetime
	}
	if o == PCP {
		d = max(d, p.MinLifetime)
	}
	return d
}
