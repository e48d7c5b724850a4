package portmap

import (
	"net/netip"
	"slices"
)

// Change is one change of a mapping: Before is nil for a new mapping, After is
// nil for one that ends. A renewal has both, with the same rules.
type Change struct {
	Before, After *Mapping
	// Cause is why.
	Cause Cause
	// Reason is, with Rechecked, why the mapping may not be in force; Granted: it may.
	Reason Refusal
	// Client is the client that caused it, and ClientHost its host if that is known;
	// the zero Addr: none did.
	Client     netip.Addr
	ClientHost string
}

// Cause is why a mapping changes.
type Cause uint8

// The causes of changes.
const (
	Requested  Cause = iota // a client asked for the mapping
	Deleted                 // a client deleted it
	Expired                 // its lease has ended
	ByOperator              // the operator deleted it, or blocked it
	HostLeft                // its host does not answer any more
	HostMoved               // its host asked for the port from another address
	Rechecked               // the settings, the network, or what is known of its host have changed
	Restarted               // the epoch has restarted
	ByUpstream              // the router in front has answered, or does something else than before
)

// Inverse returns the change that undoes c.
func (c Change) Inverse() Change { return Change{Before: c.After, After: c.Before} }

// key returns the key of the mapping that changes.
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

// Alters reports whether c changes rules in the kernel: a renewal does not, nor
// does a change of a mapping that has no rules.
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

// concernsPortMapping reports whether c changes an inbound port mapping.
func (c Change) concernsPortMapping() bool {
	return c.Before != nil && c.Before.isPortMapping() || c.After != nil && c.After.isPortMapping()
}
