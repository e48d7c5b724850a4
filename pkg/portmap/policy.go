package portmap

import (
	"encoding/binary"
	"net/netip"
	"regexp"
	"time"
)

// PortRange is an inclusive range of ports.
type PortRange struct{ First, Last uint16 }

// Contains reports whether p lies in the range.
func (r PortRange) Contains(p uint16) bool { return r.First <= p && p <= r.Last }

// Rule is one permission rule of the administrator:
// "allow|deny EPORT[-EPORT] ADDR[/MASK] IPORT[-IPORT] [regex]".
type Rule struct {
	Allow       bool
	External    PortRange
	Network     netip.Addr // IPv4, compared under Mask
	Mask        uint32     // as the administrator wrote it, perhaps with holes
	Internal    PortRange
	Description *regexp.Regexp // nil: any description
}

// matches reports whether the rule speaks about this target, whatever the
// external port. The rules' grammar knows IPv4 alone, so an IPv6 target is
// judged by its port.
func (r *Rule) matches(target netip.AddrPort, description string) bool {
	if !r.Internal.Contains(target.Port()) {
		return false
	}
	if r.Description != nil && !r.Description.MatchString(description) {
		return false
	}
	return target.Addr().Is6() || (word(target.Addr())^word(r.Network))&r.Mask == 0
}

func word(a netip.Addr) uint32 {
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
	// LenientNonce lets a PCP client prolong its mapping with another nonce
	// than it was made with, as some do that draw one for each request.
	LenientNonce bool
}

// Permits reports whether the rules let external reach target.
func (p *Policy) Permits(external uint16, target netip.AddrPort, description string) bool {
	i, decided := p.Decides(external, target, description)
	return !decided || p.Rules[i].Allow
}

// Decides returns the index of the rule that says whether external may reach
// target; there may be none.
func (p *Policy) Decides(external uint16, target netip.AddrPort, description string) (int, bool) {
	for i := range p.Rules {
		if r := &p.Rules[i]; r.External.Contains(external) && r.matches(target, description) {
			return i, true
		}
	}
	return 0, false
}

// Ports returns every external port that the rules let reach target.
func (p *Policy) Ports(target netip.AddrPort, description string) *PortSet {
	var open, decided PortSet
	for i := range p.Rules {
		r := &p.Rules[i]
		if !r.matches(target, description) {
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
