package portmap

import (
	"cmp"
	"net/netip"
	"time"
)

// Op is the operation that a client requests.
type Op uint8

// The operations.
const (
	Open  Op = iota // create or renew a mapping
	Close           // delete claims
)

// Request is a client's request in any protocol.
type Request struct {
	Op     Op
	Origin Origin
	Client netip.Addr // the source address
	// ClientHost names the host that asks, the same for all of its addresses; empty:
	// not known.
	ClientHost string
	Alias      netip.Addr     // another address that certainly belongs to the same host; the zero Addr: none
	Protocol   Protocol       // TCP or UDP
	Internal   netip.AddrPort // the target; Close by target: port 0 means every port
	Host       Host           // the host that has the target's address, as far as it matters
	Asker      Host           // the host that asks, if the target is another's, as far as it matters
	Former     netip.Addr     // Open: a former address of the same host, which it no longer has; the zero Addr: none

	// External is the suggested external port, 0 for any. With Exact no other
	// port is granted. A Close with External set selects by external port, up
	// to Last if that is set, instead of by target.
	External uint16
	Last     uint16
	Exact    bool
	// Own restricts a Close to mappings of the client itself, even if the
	// policy would let it close others.
	Own bool

	// ID selects a UPnP pinhole by its UniqueID: Open renews it, Close deletes
	// it.
	ID uint16

	Lifetime    time.Duration // Open: what the client asks for; 0 means for ever
	Nonce       Nonce         // PCP
	Filters     []Filter
	Description string
	Disabled    bool
	Contact     any  // kept with the claim for its server
	ThirdParty  bool // the client may name another host's address (PCP THIRD_PARTY)

	// Remote, if valid, asks for an outbound mapping to that peer (PCP's PEER).
	// A new one must get External, unless that is 0, and ExternalAddr, unless
	// that is the zero Addr. Lifetime never shortens it (RFC 6887, section 12).
	Remote       netip.AddrPort
	ExternalAddr netip.Addr
	hasFlowPort  bool // External is the port that the flow has already

	// KeepFilters adds Filters to those of the claim instead of replacing them;
	// KeepDescription leaves the claim's description as it is.
	KeepFilters, KeepDescription bool
}

// clientHost names the host that asks, by its address if that is all that is known.
func (req *Request) clientHost() string { return cmp.Or(req.ClientHost, req.Client.String()) }

// comesFrom reports whether the client is the host that has an address.
func (req *Request) comesFrom(a netip.Addr) bool { return a == req.Client || a == req.Alias }

// family returns the family whose rules the request may change.
func (req *Request) family() Family {
	byPort := req.Op == Close && req.External != 0
	if req.ID != 0 || req.Internal.Addr().Is6() && !byPort {
		return IPv6
	}
	return IPv4
}

// mayAffect reports whether req and o may be about the same mapping of the same
// client, so that the order of their decisions matters.
func (req *Request) mayAffect(o *Request) bool {
	switch {
	case req.Client != o.Client:
		return false
	case req.ID != 0 || o.ID != 0: // its target is not known here
		return req.family() == o.family()
	case req.Protocol != o.Protocol:
		return false
	}
	return req.Op == Close || o.Op == Close || req.Internal == o.Internal || req.External != 0 && req.External == o.External
}

// repeats reports whether req is a repetition of o.
func (req *Request) repeats(o *Request) bool {
	return req.Op == o.Op && req.Origin == o.Origin && req.Client == o.Client && req.Protocol == o.Protocol &&
		req.Internal == o.Internal && req.External == o.External && req.Remote == o.Remote && req.Nonce == o.Nonce && req.ID == o.ID
}

// Answer is the decision on a request. The zero Refusal is Granted.
type Answer struct {
	Refusal Refusal
	// Mapping is the mapping that was granted, or the one that prevented it;
	// nil if there is none. A Close leaves it nil.
	Mapping *Mapping
	// Lifetime is what was granted; 0 means for ever.
	Lifetime time.Duration
	// ID is the UniqueID of a UPnP pinhole.
	ID uint16
	// Forward is the static port forward that keeps the port from the request; nil if
	// none does.
	Forward *Forward
	// Rule is the permission rule that denies the request; nil if none does.
	Rule *Rule
	// Closed counts the claims that a Close deleted, or that an Open removed
	// from the host's former address.
	Closed int
	// Block is the operator's block because of which the request was refused; nil
	// if there is none.
	Block *Block
}

// dependsOnOthers reports whether the answer depends on mappings of other
// clients that are not yet in force.
func (a Answer) dependsOnOthers() bool {
	return a.Refusal == NoPorts || a.Refusal == TableFull || a.Refusal == QuotaExceeded || a.Refusal == ShareExceeded
}

// Refusal is the reason why a request is refused. Servers translate it into the
// code of their protocol.
type Refusal uint8

// The reasons for a refusal.
const (
	Granted       Refusal = iota
	NotAuthorized         // by the permission rules
	Conflict
	PortInUse
	NoPorts
	QuotaExceeded
	TableFull
	TooManyFilters
	NotFound
	NoExternalAddress
	BadTarget
	FirewallFailed
	NoFirewall
	Stopping
	// UnknownHost: the rules or blocks depend on an address of the host that is
	// not known.
	UnknownHost
	// NoNetwork: no LAN has the network of an existing mapping's target.
	NoNetwork
	// HeldDown: the port is in the hold-down after a mapping of another host.
	HeldDown
	// NotOwner: the mapping, or the internal address, is another client's.
	NotOwner
	// Forwarded: a static port forward has the port.
	Forwarded
	// Blocked: the operator has blocked the host or the port.
	Blocked
	// NotProvided: the port is none of those that the provider forwards to the router.
	NotProvided
	// ShareExceeded: the last of those ports are kept for hosts with fewer.
	ShareExceeded
	// NotForwarded: the router in front forwards another port only.
	NotForwarded
)

var refusals = [...]string{
	Granted:           "granted",
	NotAuthorized:     "not authorized",
	Conflict:          "port is taken by another mapping",
	PortInUse:         "port is used by the router",
	NoPorts:           "no port left",
	QuotaExceeded:     "client has too many mappings",
	TableFull:         "too many mappings",
	TooManyFilters:    "too many remote peer filters",
	NotFound:          "no such mapping",
	NoExternalAddress: "no external address",
	BadTarget:         "target is not a host on a LAN",
	FirewallFailed:    "firewall refused the rules",
	NoFirewall:        "there is no IPv6 firewall",
	Stopping:          "shutting down",
	UnknownHost:       "rules or blocks depend on an address of the host that is not known",
	NoNetwork:         "no LAN has the target's network",
	HeldDown:          "port is held down for the host that had it",
	NotOwner:          "it belongs to another client",
	Forwarded:         "port is taken by a static forward",
	Blocked:           "blocked by the operator",
	NotProvided:       "the provider does not forward that port",
	ShareExceeded:     "the last free ports are kept for hosts that have fewer",
	NotForwarded:      "the router in front does not forward that port",
}

// isPortTaken reports whether something other than a mapping has the port.
func (r Refusal) isPortTaken() bool { return r == PortInUse || r == Forwarded }

// isByRules reports whether the permission rules are the reason.
func (r Refusal) isByRules() bool { return r == NotAuthorized || r == UnknownHost }

// isTemporary reports whether the reason can pass: an existing mapping is
// dormant meanwhile.
func (r Refusal) isTemporary() bool { return r == NoNetwork || r == NoFirewall || r == UnknownHost }

// String returns the reason as log lines show it.
func (r Refusal) String() string { return refusals[r] }
