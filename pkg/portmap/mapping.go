// Package portmap decides who may have which port until when: it holds the
// mapping table that NAT-PMP, PCP, UPnP and the operator's tool all ask.
package portmap

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Protocol is an IANA transport protocol number.
type Protocol uint8

// The transport protocols that a port mapping can carry.
const (
	TCP Protocol = 6
	UDP Protocol = 17
)

// String returns the name used in lease files and rules: TCP, UDP, or the number.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	}
	return fmt.Sprint(uint8(p))
}

// Origin is the protocol that a claim came in by.
type Origin uint8

// The ways a mapping can be asked for.
const (
	NATPMP Origin = iota + 1
	PCP
	UPnP
)

// String returns the protocol's usual spelling.
func (o Origin) String() string {
	switch o {
	case NATPMP:
		return "NAT-PMP"
	case PCP:
		return "PCP"
	case UPnP:
		return "UPnP"
	}
	return fmt.Sprintf("origin %d", uint8(o))
}

// Nonce is the PCP mapping nonce, the owner's proof (RFC 6887, section 11.1).
type Nonce [12]byte

// Filter names remote peers that may use a mapping: UPnP's RemoteHost and
// PCP's FILTER option (RFC 6887, section 13.3). Port 0 means any port.
type Filter struct {
	Prefix netip.Prefix
	Port   uint16
}

// Key is what the outside dials. A port mapping is known by its external port
// alone; an IPv6 pinhole (External 0) by the internal address and port.
type Key struct {
	Protocol Protocol
	External uint16
	Pinhole  netip.AddrPort
}

// String returns the key as log lines show it: "40000/TCP" or "[2001:db8::1]:80/TCP".
func (k Key) String() string {
	if k.Pinhole.IsValid() {
		return fmt.Sprintf("%v/%v", k.Pinhole, k.Protocol)
	}
	return fmt.Sprintf("%d/%v", k.External, k.Protocol)
}

// Family tells IPv4 from IPv6. The kernel keeps their rules apart: what fails
// for one says nothing about the other.
type Family uint8

// The families, in the order in which the kernel is told.
const (
	IPv4 Family = iota
	IPv6
)

// String returns "IPv4" or "IPv6".
func (f Family) String() string {
	if f == IPv6 {
		return "IPv6"
	}
	return "IPv4"
}

// Family returns the one in whose tables the rules of k stand.
func (k Key) Family() Family {
	if k.Pinhole.IsValid() {
		return IPv6
	}
	return IPv4
}

// Mapping is one open door. Values are immutable once the Table holds them.
type Mapping struct {
	Key
	Internal netip.AddrPort
	Host     Host      // who has the internal address
	Claims   []Claim   // at least one, oldest first
	Serial   uint64    // order of creation, 1 is the first
	Created  time.Time // when the mapping was first granted
	// Dormant keeps a mapping that cannot be in force now, because the IPv6
	// firewall is not there or its host is not known: it is listed and written
	// down, holds its port and its place in the quota, and has no rules.
	Dormant bool
}

// Expires returns when the last claim ends; zero means never.
func (m *Mapping) Expires() time.Time {
	var last time.Time
	for _, c := range m.Claims {
		if c.Expires.IsZero() {
			return time.Time{}
		}
		if c.Expires.After(last) {
			last = c.Expires
		}
	}
	return last
}

// Remaining returns the lifetime left at now, rounded up to whole seconds so
// that a lease just granted shows what was granted; 0 means for ever.
func (m *Mapping) Remaining(now time.Time) time.Duration {
	return remaining(m.Expires(), now)
}

func remaining(expires, now time.Time) time.Duration {
	if expires.IsZero() {
		return 0
	}
	left := expires.Sub(now)
	return max(time.Second, (left + time.Second - 1).Truncate(time.Second))
}

// Claim returns the claim by which o lets others in.
func (m *Mapping) Claim(o Origin) (Claim, bool) { return m.claim(o, netip.AddrPort{}) }

// Flow returns the claim of PCP's PEER for packets to remote.
func (m *Mapping) Flow(remote netip.AddrPort) (Claim, bool) { return m.claim(PCP, remote) }

// claim returns the first claim that o holds for a remote peer, or for letting
// others in if there is none.
func (m *Mapping) claim(o Origin, remote netip.AddrPort) (Claim, bool) {
	for _, c := range m.Claims {
		if c.Origin == o && c.Remote == remote {
			return c, true
		}
	}
	return Claim{}, false
}

// Inbound reports whether the mapping is there to let others in, even if it
// is disabled.
func (m *Mapping) Inbound() bool {
	return slices.ContainsFunc(m.Claims, func(c Claim) bool { return !c.Outbound() })
}

// externalEndpoint returns what the outside dials without the external address: the
// port, and for a pinhole its address.
func (m *Mapping) externalEndpoint() netip.AddrPort {
	if m.Pinhole.IsValid() {
		return m.Pinhole
	}
	return netip.AddrPortFrom(netip.Addr{}, m.External)
}

// Outbound returns the remote peers of PCP's PEER, to whom packets from
// Internal leave with the external port.
func (m *Mapping) Outbound() []netip.AddrPort {
	var all []netip.AddrPort
	for _, c := range m.Claims {
		if c.Outbound() {
			all = append(all, c.Remote)
		}
	}
	return all
}

// Description returns the text of the oldest claim that has one.
func (m *Mapping) Description() string {
	for _, c := range m.Claims {
		if c.Description != "" {
			return c.Description
		}
	}
	return ""
}

// Enabled reports whether the mapping lets anybody in: some claim is neither
// disabled nor outbound.
func (m *Mapping) Enabled() bool {
	return slices.ContainsFunc(m.Claims, func(c Claim) bool { return !c.Disabled && !c.Outbound() })
}

// Filters returns the remote peers that may use an enabled mapping; none means
// everybody. A claim without filters opens it to all, whatever others ask.
func (m *Mapping) Filters() []Filter {
	var all []Filter
	for _, c := range m.Claims {
		if c.Disabled || c.Outbound() {
			continue
		}
		if len(c.Filters) == 0 {
			return nil
		}
		for _, f := range c.Filters {
			if !slices.Contains(all, f) {
				all = append(all, f)
			}
		}
	}
	return all
}

// with returns a copy of m that holds c, replacing the same claim if there is one.
func (m Mapping) with(c Claim) *Mapping {
	i := slices.IndexFunc(m.Claims, c.same)
	if i < 0 {
		m.Claims = append(slices.Clip(m.Claims), c)
	} else {
		m.Claims = slices.Clone(m.Claims)
		m.Claims[i] = c
	}
	return &m
}

// withEnd returns a copy of m in which the claim that which names ends at t.
func (m *Mapping) withEnd(which func(Claim) bool, t time.Time) *Mapping {
	c := m.Claims[slices.IndexFunc(m.Claims, which)]
	c.Expires = t
	return m.with(c)
}

// without returns a copy of m that lacks the claims drop names, or nil when no
// claim is left.
func (m *Mapping) without(drop func(Claim) bool) *Mapping {
	n := *m
	n.Claims = slices.DeleteFunc(slices.Clone(m.Claims), drop)
	if len(n.Claims) == 0 {
		return nil
	}
	return &n
}

// Change is one step of the table: Before is nil for a new mapping, After is
// nil for one that ends. A renewal has both, with equal rules.
type Change struct {
	Before, After *Mapping
}

// Inverse returns the change that takes c back.
func (c Change) Inverse() Change { return Change{Before: c.After, After: c.Before} }

// key returns what the change is about.
func (c Change) key() Key {
	if c.After != nil {
		return c.After.Key
	}
	return c.Before.Key
}

// isRenewal reports whether c changes nothing but the mapping's claims.
func (c Change) isRenewal() bool {
	return c.Before != nil && c.After != nil && c.Before.Key == c.After.Key &&
		c.Before.Internal == c.After.Internal && c.Before.Serial == c.After.Serial &&
		c.Before.Inbound() == c.After.Inbound()
}

// Alters reports whether c changes what the kernel has to hold: a renewal does
// not, nor does anything that happens to a mapping without rules.
func (c Change) Alters() bool {
	a, b := c.Before, c.After
	switch {
	case !a.hasRules() || !b.hasRules():
		return a.hasRules() || b.hasRules()
	case a.Key != b.Key, a.Internal != b.Internal, a.Enabled() != b.Enabled():
		return true
	}
	return !slices.Equal(a.Filters(), b.Filters()) || !slices.Equal(a.Outbound(), b.Outbound())
}

// hasRules reports whether the kernel has rules for m, which may be nil.
func (m *Mapping) hasRules() bool {
	return m != nil && !m.Dormant && (m.Enabled() || len(m.Outbound()) > 0 && m.External != 0)
}

// concernsPortMapping reports whether c is about a port mapping, not a pinhole or a flow.
func (c Change) concernsPortMapping() bool {
	return c.Before != nil && c.Before.isPortMapping() || c.After != nil && c.After.isPortMapping()
}

// isPortMapping reports whether others are let in at an external port.
func (m *Mapping) isPortMapping() bool { return m.External != 0 && m.Inbound() }

// Firewall makes the kernel agree with the table. A context that ends makes it
// give up: then the kernel holds what the next Sync finds.
type Firewall interface {
	// Apply carries out all changes or none of them. ErrNoRules tells that one
	// of them cannot be said in rules, ErrLocked that it was not the rules'
	// fault: in either case nothing need be written anew.
	Apply(context.Context, []Change) error
	// Sync makes the kernel hold exactly these mappings of a family, whatever
	// it held. A mapping that cannot be said in rules is left out.
	Sync(context.Context, Family, []*Mapping) error
}

// Why a firewall does not carry out changes although its rules are in order.
var (
	ErrNoRules = errors.New("no rules can be made for the mapping")
	ErrLocked  = errors.New("another program keeps the firewall locked")
)

// Store saves what the table holds.
type Store interface {
	// Load returns the saved mappings in order of creation, with Expires on the
	// monotonic clock.
	Load() ([]*Mapping, error)
	// Save notes changes that are in force; it returns once they outlive the
	// process. The first Save after Load brings all mappings that the table has
	// taken over, and the Store forgets those that Load returned and it does not
	// bring.
	Save([]Change) error
}

// logName names the mapping as log readers know it: "3001 TCP".
func (m *Mapping) logName() string {
	if m.Pinhole.IsValid() {
		return m.Pinhole.String() + " " + m.Protocol.String()
	}
	return fmt.Sprintf("%d %v", m.External, m.Protocol)
}
