package portmap

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Claim is one protocol's hold on a mapping. The mapping lives while a claim
// lives, so that a delete by one protocol never takes what another still holds.
type Claim struct {
	Origin      Origin
	Expires     time.Time // carries the monotonic clock; zero: never
	Nonce       Nonce     // of PCP
	Bound       bool      // only Nonce renews and deletes it; else any does for its host
	Filters     []Filter  // empty: every remote peer
	Description string
	Disabled    bool   // UPnP NewEnabled=0: held, but not forwarded
	ID          uint16 // WANIPv6FirewallControl UniqueID; 0: none
	Contact     any    // where the server that took the request answered; never stored
	// Remote makes it PCP's PEER: the external port is for packets from
	// Internal to this host and port, and nobody is let in (RFC 6887, section
	// 12). Invalid: a claim that lets others in.
	Remote netip.AddrPort
}

// Outbound reports whether the claim is for packets to one remote peer alone.
func (c Claim) Outbound() bool { return c.Remote.IsValid() }

// same reports whether c and o are the same hold, perhaps with other terms:
// one claim per protocol, but UPnP pinholes each have their own by UniqueID
// and PCP's outbound claims by remote peer.
func (c Claim) same(o Claim) bool {
	return c.Origin == o.Origin && c.ID == o.ID && c.Remote == o.Remote
}

// claim returns what the request wants to hold, without its end.
func (req *Request) claim() Claim {
	return Claim{
		Origin:      req.Origin,
		Remote:      req.Remote,
		Nonce:       req.Nonce,
		Bound:       req.Origin == PCP,
		Filters:     req.Filters,
		Description: req.Description,
		Disabled:    req.Disabled,
		Contact:     req.Contact,
	}
}

// amend carries over what the request leaves of held, a claim on m, as it was.
// An outbound claim never ends sooner than it would have. Of one that is renewed
// without its nonce nothing but the end changes, and that only to a later one.
func (c *Claim) amend(m *Mapping, held Claim, req *Request) {
	proved := req.provesOwnership(m, held)
	if (!proved || c.Outbound()) && (held.Expires.IsZero() || held.Expires.After(c.Expires)) {
		c.Expires = held.Expires
	}
	if !proved {
		held.Expires = c.Expires
		*c = held
		return
	}
	if req.KeepDescription {
		c.Description = held.Description
	}
	if req.KeepFilters {
		c.Filters = merge(held.Filters, req.Filters)
	}
}

// merge returns held with what more adds to it.
func merge(held, more []Filter) []Filter {
	if len(more) == 0 {
		return held
	}
	all := slices.Clone(held)
	for _, f := range more {
		if !slices.Contains(all, f) {
			all = append(all, f)
		}
	}
	return all
}

// defaultDescription is the text of a claim whose protocol gave it none, in the form that
// lease files have always shown.
func (c *Claim) defaultDescription(external uint16, p Protocol) string {
	what := c.Origin.String()
	switch {
	case c.Outbound():
		what = "PCP PEER"
	case c.Origin == PCP:
		what = "PCP MAP"
	}
	return fmt.Sprintf("%s %d %v", what, external, p)
}
