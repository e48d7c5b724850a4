// Package portmap decides which client gets which port for how long: it holds
// the mapping table that NAT-PMP, PCP, UPnP and miniupnpctl share.
package portmap

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Protocol is an IANA transport protocol number.
type Protocol uint8

// The transport protocols that a port mapping can carry.
const (
	TCP Protocol = 6
	UDP Protocol = 17
)

// String returns the name used in lease files and rules: TCP, UDP, or the
// number.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	}
	return fmt.Sprint(uint8(p))
}

// Origin is the protocol through which a claim was requested.
type Origin uint8

// The protocols through which a client can request a mapping.
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

// Nonce is the PCP mapping nonce, which proves ownership (RFC 6887, section
// 11.1).
type Nonce [12]byte

// Filter selects remote peers that may use a mapping: UPnP's RemoteHost and
// PCP's FILTER option (RFC 6887, section 13.3). Port 0 means any port.
type Filter struct {
	Prefix netip.Prefix
	Port   uint16
}

// String returns the filter as text: a network, with a port if it has one.
func (f Filter) String() string {
	if f.Port == 0 {
		return f.Prefix.String()
	}
	return fmt.Sprintf("%v port %d", f.Prefix, f.Port)
}

// Key identifies a mapping: a port mapping by its external port, an IPv6
// pinhole (External 0) by its internal address and port.
type Key struct {
	Protocol Protocol
	External uint16
	Pinhole  netip.AddrPort
}

// String returns the key as log lines show it: "40000/TCP" or
// "[2001:db8::1]:80/TCP".
func (k Key) String() string {
	if k.Pinhole.IsValid() {
		return fmt.Sprintf("%v/%v", k.Pinhole, k.Protocol)
	}
	return fmt.Sprintf("%d/%v", k.External, k.Protocol)
}

// Family is IPv4 or IPv6. Their rules are separate in the kernel: one family
// can fail while the other works.
type Family uint8

// The families, in the order in which they are synced.
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

// Family returns the family whose tables have the rules of k.
func (k Key) Family() Family {
	if k.Pinhole.IsValid() {
		return IPv6
	}
	return IPv4
}

// Mapping is a port mapping or IPv6 pinhole with the claims that keep it.
// Values are immutable once the Table holds them.
type Mapping struct {
	Key
	Internal netip.AddrPort
	Host     Host      // the host that has the internal address
	Claims   []Claim   // at least one, oldest first
	Serial   uint64    // order of creation, 1 is the first
	Created  time.Time // when the mapping was first granted
	// Dormant is set while the mapping cannot be in force: it is listed and
	// saved, keeps its port and counts for the quota, and has no rules.
	Dormant bool
	// Reason is why the mapping is dormant: NoNetwork, NoFirewall or
	// UnknownHost.
	Reason Refusal
	// Forwarding is what the router in front does for the external port.
	Forwarding Forwarding
}

// setState makes m dormant for a reason, or puts it in force if that is
// Granted.
func (m *Mapping) setState(r Refusal) { m.Dormant, m.Reason = r != Granted, r }

// Expires returns when the last claim expires; zero means never.
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
// that a new lease shows the lifetime that was granted; 0 means for ever.
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

// Claim returns the inbound claim of o.
func (m *Mapping) Claim(o Origin) (Claim, bool) { return m.claim(o, netip.AddrPort{}) }

// Flow returns the outbound claim (PCP's PEER) for packets to remote.
func (m *Mapping) Flow(remote netip.AddrPort) (Claim, bool) { return m.claim(PCP, remote) }

// claim returns the first claim of o for a remote peer, or the first inbound
// one if remote is the zero AddrPort.
func (m *Mapping) claim(o Origin, remote netip.AddrPort) (Claim, bool) {
	for _, c := range m.Claims {
		if c.Origin == o && c.Remote == remote {
			return c, true
		}
	}
	return Claim{}, false
}

// Inbound reports whether the mapping has an inbound claim, even if that is
// disabled.
func (m *Mapping) Inbound() bool {
	return slices.ContainsFunc(m.Claims, func(c Claim) bool { return !c.Outbound() })
}

// externalEndpoint returns the external port, for a pinhole with its address.
func (m *Mapping) externalEndpoint() netip.AddrPort {
	if m.Pinhole.IsValid() {
		return m.Pinhole
	}
	return netip.AddrPortFrom(netip.Addr{}, m.External)
}

// Outbound returns the remote peers of the outbound claims (PCP's PEER):
// packets from Internal to them leave with the external port.
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

// Enabled reports whether the mapping has an inbound claim that is not
// disabled.
func (m *Mapping) Enabled() bool {
	return slices.ContainsFunc(m.Claims, func(c Claim) bool { return !c.Disabled && !c.Outbound() })
}

// Filters returns the remote peers that may use an enabled mapping; none means
// every peer. One claim without filters opens the mapping to every peer.
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

// with returns a copy of m that holds c, replacing the same claim if there is
// one.
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

// withEnd returns a copy of m in which the claim for which which is true ends
// at t.
func (m *Mapping) withEnd(which func(Claim) bool, t time.Time) *Mapping {
	c := m.Claims[slices.IndexFunc(m.Claims, which)]
	c.Expires = t
	return m.with(c)
}

// without returns a copy of m without the claims for which drop is true, or nil
// if no claim is left.
func (m *Mapping) without(drop func(Claim) bool) *Mapping {
	n := *m
	n.Claims = slices.DeleteFunc(slices.Clone(m.Claims), drop)
	if len(n.Claims) == 0 {
		return nil
	}
	return &n
}

// isPortMapping reports whether m is an inbound port mapping: neither a pinhole
// nor outbound alone.
func (m *Mapping) isPortMapping() bool { return m.External != 0 && m.Inbound() }

// Firewall installs the rules of mappings in the kernel, and keeps them there:
// it restores what other programs remove. The families are independent of each
// other. A method gives up when its context ends.
type Firewall interface {
	// Apply carries out all changes, which are of one family, or none of them. It
	// returns ErrNoRules if no rules can express one of them, ErrLocked if another
	// program has the firewall locked, and ErrUnavailable if the family's rules
	// cannot be changed now, whatever the changes are.
	Apply(context.Context, []Change) error
	// Force takes over changes, of one family, that are in force whatever the
	// kernel does. What cannot be carried out now is as soon as possible.
	Force(context.Context, []Change)
	// Sync takes over exactly these mappings of a family, and installs their
	// rules, whatever was there before. An error is no reason to call it again.
	Sync(context.Context, Family, []*Mapping) error
}

// Why a firewall does not carry out changes.
var (
	ErrNoRules     = errors.New("no rules can be made for the mapping")
	ErrLocked      = errors.New("another program keeps the firewall locked")
	ErrUnavailable = errors.New("the firewall cannot be changed now")
)

// Store saves the table's mappings. The table calls Load once, before anything
// else.
type Store interface {
	// Load returns the saved mappings in order of creation, with Expires on the
	// monotonic clock. They stay saved until the first Save. With an error it
	// returns what could be read nevertheless.
	Load() ([]*Mapping, error)
	// Epoch returns the saved epoch, after Load. It returns false if there is
	// none of this boot, or if saved mappings may be missing.
	Epoch() (Epoch, bool)
	// SetEpoch sets the epoch that the next Save saves.
	SetEpoch(Epoch)
	// Blocks returns the saved blocks, after Load, with Until on the monotonic
	// clock, and the highest number that a block has had.
	Blocks() (list []BlockRecord, last int)
	// SetBlock adds or updates a block that the next Save saves. The first Save
	// after Load drops those that were not set since.
	SetBlock(BlockRecord)
	// DropBlock drops a block with the next Save.
	DropBlock(id int)
	// Save saves changes that are in force; it returns once they outlive the
	// process. The first Save after Load lists, as new mappings, those that the
	// table took over: they replace all that Load returned, so that what it
	// does not list is no longer saved.
	Save([]Change) error
}

// ExternalPort returns the port that remote hosts connect to.
func (m *Mapping) ExternalPort() uint16 { return m.externalEndpoint().Port() }

// String returns the mapping as text: its key, its target and who asked for it, as in
// "3001/TCP -> 192.168.1.10:3001 (UPnP)".
func (m *Mapping) String() string {
	by := strings.Join(m.Origins(), ", ")
	if by == "" {
		by = "the firewall's own"
	}
	return fmt.Sprintf("%v -> %v (%s)", m.Key, m.Internal, by)
}

// Origins returns the names of the protocols that asked for the mapping.
func (m *Mapping) Origins() (names []string) {
	for _, c := range m.Claims {
		if name := c.Origin.String(); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
