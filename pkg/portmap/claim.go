package portmap

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Claim is one protocol's share in a mapping. The mapping lasts as long as it
// has a claim, so that a delete by one protocol never removes what another one
// needs.
type Claim struct {
	Origin      Origin
	Nonce       Nonce     // PCP's
	Expires     time.Time // carries the monotonic clock; zero: never
	Rebind      time.Time // until then the mapping's own host may use another nonce, which replaces Nonce; zero: never
	Filters     []Filter  // empty: every remote peer
	Description string
	Disabled    bool   // UPnP NewEnabled=0: the claim exists, but nothing is forwarded for it
	ID          uint16 // WANIPv6FirewallControl UniqueID; 0: none
	Contact     any    // where the server that received the request replied to; never saved
	// Remote, if valid, makes the claim an outbound one (PCP's PEER): the
	// external port serves packets from Internal to this peer, and no inbound
	// connections are accepted (RFC 6887, section 12).
	Remote netip.AddrPort
}

// Outbound reports whether the claim is for packets to one remote peer alone.
func (c Claim) Outbound() bool { return c.Remote.IsValid() }

// same reports whether c and o are the same claim, perhaps with different
// terms. A protocol has one claim on a mapping, except that each UPnP pinhole
// has its own by UniqueID and each outbound claim of PCP by its remote peer.
func (c Claim) same(o Claim) bool {
	return c.Origin == o.Origin && c.ID == o.ID && c.Remote == o.Remote
}

// claim returns the claim that the request asks for, without its end.
func (req *Request) claim() Claim {
	return Claim{
		Origin:      req.Origin,
		Remote:      req.Remote,
		Nonce:       req.Nonce,
		Filters:     req.Filters,
		Description: req.Description,
		Disabled:    req.Disabled,
		Contact:     req.Contact,
	}
}

// amend copies from held, the existing claim on m, what the request leaves as
// it was. The end of an outbound claim never moves to an earlier time. A
// renewal that does not prove ownership changes nothing but the end, and that
// only to a later one.
func (c *Claim) amend(held Claim, req *Request, proved bool) {
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

// merge returns held and those of more that it lacks.
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

// defaultDescription returns the description of a claim whose request had none,
// in the form of miniupnpd's lease files.
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
