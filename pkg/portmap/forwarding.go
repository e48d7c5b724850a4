package portmap

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"
)

// Upstream has the router in front of this one, where there is one, forward the external
// ports of mappings to this router.
type Upstream interface {
	// Update takes over changes that are in force, in their order. Each mapping that
	// WantsForwarding is to be forwarded until a change ends that. Update must not
	// block; what becomes of it is told to Table.Report.
	Update([]Change)
}

// Forwarding is what the router in front does for the external port of a mapping.
type Forwarding struct {
	State ForwardingState
	// Exact is set if no other external port than the mapping's will do, since a client
	// insists on it.
	Exact bool
	// OtherPort is, with Unreachable, set if another external port could be had.
	OtherPort bool
	// External is, with Reachable, the outermost address and port, which remote hosts
	// connect to.
	External netip.AddrPort
	// Reason is, with Unreachable, why, as log lines show it.
	Reason string
}

// ForwardingState is whether remote hosts reach a mapping through the router in front.
type ForwardingState uint8

// The states of a forwarding.
const (
	NotAsked    ForwardingState = iota // no router in front is asked
	Asking                             // the router in front has not answered yet
	Reachable                          // it forwards a port of its own
	Unreachable                        // it does not: remote hosts cannot reach the mapping
)

var forwardingStates = [...]string{
	NotAsked: "not asked", Asking: "asking", Reachable: "reachable from outside", Unreachable: "not reachable from outside",
}

var forwardingSlugs = [len(forwardingStates)]string{NotAsked: "not_asked", Asking: "asking", Reachable: "reachable", Unreachable: "unreachable"}

// Slug returns the state as one word of lower-case letters and underscores.
func (s ForwardingState) Slug() string { return forwardingSlugs[s] }

// String returns the state as log lines show it.
func (s ForwardingState) String() string { return forwardingStates[s] }

// String returns the forwarding as log lines show it.
func (f Forwarding) String() string {
	switch {
	case f.State == Reachable:
		return fmt.Sprintf("%v as %v", f.State, f.External)
	case f.Reason != "":
		return fmt.Sprintf("%v: %s", f.State, f.Reason)
	}
	return f.State.String()
}

// Report is what became of a mapping's forwarding.
type Report struct {
	Key
	Forwarding
	// Expires is, with Reachable, when the forwarding ends unless the router in front
	// renews it; zero: never.
	Expires time.Time
}

// WantsForwarding reports whether the external port of m, which may be nil, must lead to
// this router: m lets remote hosts connect to an IPv4 host.
func (m *Mapping) WantsForwarding() bool {
	return m != nil && m.External != 0 && !m.Dormant && m.Enabled()
}

// OuterPort returns the external port that the clients of a port mapping are told: the
// outermost one, where a router in front forwards it; 0 for a pinhole.
func (m *Mapping) OuterPort() uint16 {
	if m.Forwarding.State == Reachable {
		return m.Forwarding.External.Port()
	}
	return m.External
}

// outerKey returns the key by which UPnP clients know m.
func (m *Mapping) outerKey() Key { return Key{Protocol: m.Protocol, External: m.OuterPort()} }

// OuterEndpoint returns the external address and port that the mapping's clients are
// told. The address is the zero Addr if there is none now.
func (t *Table) OuterEndpoint(m *Mapping) netip.AddrPort {
	t.mu.RLock()
	defer t.mu.RUnlock()
	switch {
	case m.Pinhole.IsValid():
		return m.Pinhole
	case m.Forwarding.State == Reachable:
		return m.Forwarding.External
	case m.Forwarding.State != NotAsked:
		return netip.AddrPortFrom(cmp.Or(t.uplink, t.external), m.External)
	}
	return netip.AddrPortFrom(t.external, m.External)
}

// LookupOuter returns the mapping that clients know by this external port.
func (t *Table) LookupOuter(p Protocol, port uint16) (*Mapping, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	m := t.inForce.outer(Key{Protocol: p, External: port})
	return m, m != nil
}
