package portmap

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// PortRange is an inclusive range of ports.
type PortRange struct{ First, Last uint16 }

// String returns the ports as text: one, or a range "a-b".
func (r PortRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// Contains reports whether p lies in the range.
func (r PortRange) Contains(p uint16) bool { return r.First <= p && p <= r.Last }

// Rule is one permission rule of the administrator. One of Network, Prefix and
// Hardware says which hosts it applies to: those that get the port, whoever asks.
type Rule struct {
	Allow       bool
	External    Ports
	Network     netip.Addr   // IPv4, compared under Mask
	Mask        uint32       // as the administrator wrote it, perhaps not contiguous
	Prefix      netip.Prefix // IPv6
	Hardware    string       // as net.HardwareAddr formats it
	Internal    Ports
	Interfaces  []string       // of which the host is behind one; nil: any
	Origins     []Origin       // the protocols that clients ask by; nil: all
	Description *regexp.Regexp // nil: any description
	// Place is where the administrator wrote a rule in words; "": the rule is in
	// miniupnpd's form.
	Place string
}

// matches reports whether the rule applies to this destination, whatever the
// external port.
func (r *Rule) matches(to *Destination, description string) bool {
	return r.matchesRequest(to, description) && r.appliesToHost(to)
}

// matchesRequest reports whether the rule applies to the internal port, the protocol
// that the client asks by and the description, whatever the host.
func (r *Rule) matchesRequest(to *Destination, description string) bool {
	return r.Internal.Contains(to.Port()) && r.matchesOrigin(to.Origin) && (r.Description == nil || r.Description.MatchString(description))
}

// matchesOrigin reports whether the rule applies to clients that ask by o.
func (r *Rule) matchesOrigin(o Origin) bool { return r.Origins == nil || slices.Contains(r.Origins, o) }

// matchesInterface reports whether the rule applies to hosts behind an interface.
func (r *Rule) matchesInterface(device string) bool {
	return r.Interfaces == nil || slices.Contains(r.Interfaces, device)
}

// appliesToHost reports whether the rule applies to the host. If that is
// uncertain, a rule that denies does, and a rule that allows does not.
func (r *Rule) appliesToHost(to *Destination) bool {
	certain, possible := r.matchesHost(to)
	return certain || !r.Allow && possible
}

// matchesHost returns whether the rule certainly applies to the host, and
// whether it possibly does, given what is known of the host.
func (r *Rule) matchesHost(to *Destination) (certain, possible bool) {
	certain, possible = r.matchesAddress(to)
	isBehind := r.matchesInterface(to.Interface)
	return certain && isBehind, possible && (isBehind || to.Interface == "")
}

// matchesAddress is matchesHost for a rule for all interfaces.
func (r *Rule) matchesAddress(to *Destination) (certain, possible bool) {
	switch {
	case r.Hardware != "" && to.Routed:
		return false, false
	case r.Hardware != "":
		return r.Hardware == to.Hardware, r.Hardware == to.Hardware || to.Hardware == ""
	case r.Prefix.IsValid():
		certain = r.Prefix.Contains(to.Addr())
	case to.Addr().Is4():
		certain = r.contains(to.Addr())
	default:
		return r.matchesHostOverIPv6(to)
	}
	return certain, certain
}

// matchesHostOverIPv6 is matchesAddress for a rule with IPv4 addresses and an IPv6
// destination. The rule applies to the hosts that have the addresses: to allow,
// it must contain all IPv4 addresses of the host, to deny, one of them. Of a
// host without known addresses only the networks are known that they would be
// in.
func (r *Rule) matchesHostOverIPv6(to *Destination) (certain, possible bool) {
	switch {
	case len(to.IPv4) == 0:
		return r.covers(to.Networks), r.overlaps(to.Networks)
	case r.Allow:
		certain = !slices.ContainsFunc(to.IPv4, func(a netip.Addr) bool { return !r.contains(a) })
	default:
		certain = slices.ContainsFunc(to.IPv4, r.contains)
	}
	return certain, certain
}

// isIPv4 reports whether the rule selects hosts by IPv4 address.
func (r *Rule) isIPv4() bool { return r.Hardware == "" && !r.Prefix.IsValid() }

// contains reports whether an IPv4 rule contains an address.
func (r *Rule) contains(a netip.Addr) bool { return (uint32Of(a)^uint32Of(r.Network))&r.Mask == 0 }

// covers reports whether an IPv4 rule contains all addresses of these networks;
// of no networks, whether it contains every address there is.
func (r *Rule) covers(networks []netip.Prefix) bool {
	if r.Mask == 0 {
		return true
	}
	whole := func(n netip.Prefix) bool { return r.contains(n.Addr()) && r.Mask<<n.Bits() == 0 }
	return len(networks) > 0 && !slices.ContainsFunc(networks, func(n netip.Prefix) bool { return !whole(n) })
}

// overlaps reports whether an IPv4 rule contains an address of these networks,
// or there are no networks, so that it may.
func (r *Rule) overlaps(networks []netip.Prefix) bool {
	shared := func(n netip.Prefix) bool {
		return (uint32Of(n.Addr())^uint32Of(r.Network))&r.Mask&^(^uint32(0)>>n.Bits()) == 0
	}
	return len(networks) == 0 || slices.ContainsFunc(networks, shared)
}

// uint32Of returns an IPv4 address as a number.
func uint32Of(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

// Policy holds the administrator's rules and limits. It is never changed once
// in use.
type Policy struct {
	// Rules are evaluated in order: the first match decides, and no match
	// allows.
	Rules []Rule
	// ExternalPorts are the external IPv4 ports that the provider forwards to the
	// router, as with MAP-E, where several customers share an address: no other one is
	// granted. The last quarter of them is kept for hosts with few. nil: every port.
	ExternalPorts *PortSet
	// Secure lets a client map and delete only for its own address.
	Secure bool
	// MinLifetime and MaxLifetime bound the lifetimes that PCP clients are
	// granted. NAT-PMP has only the maximum, UPnP neither. 0 means no bound.
	MinLifetime, MaxLifetime time.Duration
	// MaxPerHost, MaxPerLAN and MaxTotal bound the mappings of one host, of the
	// hosts behind one interface and in total; 0 means no bound. Each claim on a
	// mapping counts, and one that names several remote peers counts for each of
	// them. Over IPv4 and IPv6 together a host may have four times MaxPerHost,
	// but not more than half of MaxPerLAN. The last eighth of MaxPerLAN and of
	// MaxTotal is kept for hosts with few mappings.
	MaxPerHost, MaxPerLAN, MaxTotal int
	// MaxFilters bounds the remote peers that one claim may name; 0 means no
	// bound.
	MaxFilters int
	// LenientNonce lets a PCP client renew its mapping, and change nothing else
	// of it, with a different nonce: some clients use a new one for each
	// request.
	LenientNonce bool
}

// Permits reports whether the rules let external reach a destination.
func (p *Policy) Permits(external uint16, to Destination, description string) bool {
	i, decided := p.Decides(external, to, description)
	return !decided || p.Rules[i].Allow
}

// Decides returns the index of the rule that decides whether external may reach
// a destination; decided is false if none does. If the host may be in several
// networks, a rule that denies one of them decides.
func (p *Policy) Decides(external uint16, to Destination, description string) (i int, decided bool) {
	if len(to.IPv4) > 0 || len(to.Networks) < 2 {
		return p.firstMatch(external, &to, description)
	}
	for _, n := range to.Networks {
		to.Networks = []netip.Prefix{n}
		if i, decided = p.firstMatch(external, &to, description); decided && !p.Rules[i].Allow {
			break
		}
	}
	return i, decided
}

// provides reports whether the provider forwards an external port to the router.
func (p *Policy) provides(external uint16) bool {
	return p.ExternalPorts == nil || p.ExternalPorts.Has(external)
}

// restrict removes from ports those that the provider does not forward, and reports
// whether any are left.
func (p *Policy) restrict(ports *PortSet) bool {
	if p.ExternalPorts != nil {
		ports.intersect(p.ExternalPorts)
	}
	return !ports.empty()
}

// rule returns the rule that decides; nil: none does, which allows it.
func (p *Policy) rule(external uint16, to Destination, description string) *Rule {
	if i, decided := p.Decides(external, to, description); decided {
		return &p.Rules[i]
	}
	return nil
}

// firstMatch returns the index of the first rule that applies to a mapping.
func (p *Policy) firstMatch(external uint16, to *Destination, description string) (int, bool) {
	for i := range p.Rules {
		if r := &p.Rules[i]; r.External.Contains(external) && r.matches(to, description) {
			return i, true
		}
	}
	return 0, false
}

// mayPermit reports whether the rules could let external reach a destination,
// depending on what is not known of its host.
func (p *Policy) mayPermit(external uint16, to Destination, description string) bool {
	for i := range p.Rules {
		r := &p.Rules[i]
		if !r.External.Contains(external) || !r.matchesRequest(&to, description) {
			continue
		}
		if certain, possible := r.matchesHost(&to); certain || r.Allow && possible {
			return r.Allow
		}
	}
	return true
}

// hasRule reports whether a rule fulfils a condition.
func (p *Policy) hasRule(fulfils func(*Rule) bool) bool {
	for i := range p.Rules {
		if fulfils(&p.Rules[i]) {
			return true
		}
	}
	return false
}

// DependsOnHost reports whether the rules can differ between the hosts of one
// LAN for an internal port over IPv6. Networks are the LAN's IPv4 networks.
func (p *Policy) DependsOnHost(internal uint16, networks []netip.Prefix) bool {
	differs := func(r *Rule) bool {
		return r.isIPv4() && r.Internal.Contains(internal) && r.overlaps(networks) && !r.covers(networks)
	}
	return p.DependsOnHardware(internal) || p.hasRule(differs)
}

// DependsOnHardware reports whether a rule for an internal port selects hosts
// by hardware address.
func (p *Policy) DependsOnHardware(internal uint16) bool {
	return p.hasRule(func(r *Rule) bool { return r.Hardware != "" && r.Internal.Contains(internal) })
}

// selectsOrigins reports whether the rules can differ between the protocols that
// clients ask by.
func (p *Policy) selectsOrigins() bool {
	return p.hasRule(func(r *Rule) bool { return r.Origins != nil })
}

// NamesHardware reports whether any rule selects a host by its hardware
// address.
func (p *Policy) NamesHardware() bool {
	return p.hasRule(func(r *Rule) bool { return r.Hardware != "" })
}

// Named returns the IPv4 addresses in these networks that rules name
// individually.
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

// Ports returns every external port that the rules let reach an IPv4
// destination.
func (p *Policy) Ports(to Destination, description string) *PortSet {
	var open, decided PortSet
	for i := range p.Rules {
		r := &p.Rules[i]
		if !r.matches(&to, description) {
			continue
		}
		for _, ports := range r.External.ranges() {
			for w := int(ports.First / 64); w <= int(ports.Last/64); w++ {
				matched := ports.word(w) &^ decided[w]
				decided[w] |= matched
				if r.Allow {
					open[w] |= matched
				}
			}
		}
	}
	for w := range open {
		open[w] |= ^decided[w]
	}
	open.Remove(0)
	return &open
}

// lifetime returns the lifetime that is granted to a client that asks for d; 0
// is for ever.
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
