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
	Network     netip.Addr     // IPv4, compared under Mask
	Mask        uint32         // as the administrator wrote it, perhaps with holes
	Internal    PortRange      //
	Description *regexp.Regexp // nil: any description
}

// Matches reports whether the rule speaks about this target, whatever the external port.
func (r Rule) matches(target netip.AddrPort, description string) bool {
	if !r.Internal.Contains(target.Port()) || !target.Addr().Is4() {
		return false
	}
	if r.Description != nil && !r.Description.MatchString(description) {
		return false
	}
	return (word(target.Addr())^word(r.Network))&r.Mask == 0
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
	// MinLifetime and MaxLifetime bound PCP lifetimes; NAT-PMP keeps only the maximum.
	MinLifetime, MaxLifetime time.Duration
	// MaxPerHost and MaxTotal bound the number of mappings.
	MaxPerHost, MaxTotal int
}
