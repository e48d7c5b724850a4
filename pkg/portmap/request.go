package portmap

import (
	"net/netip"
	"time"
)

// Op is what a client wants done.
type Op uint8

// The operations of the desk.
const (
	Open  Op = iota // create or renew a mapping
	Close           // give up claims
)

// Request is what any client asks for, whichever protocol it speaks.
type Request struct {
	Op       Op
	Origin   Origin
	Client   netip.Addr     // who sent it
	Alias    netip.Addr     // another address that the same host has for sure; the zero Addr: none
	Protocol Protocol       // TCP or UDP
	Internal netip.AddrPort // the target; Close by target: port 0 means every port
	Host     Host           // Open: who has the target's address, as far as it matters
	Former   netip.Addr     // Open: another address that the same host had and has left; the zero Addr: none

	// External is the suggested external port, 0 for any. With Exact only
	// that port will do. A Close with External set selects by external port,
	// up to Last if that is set, instead of by target.
	External uint16
	Last     uint16
	Exact    bool
	// Own leaves mappings of other hosts alone, even where the policy would
	// let the client close them.
	Own bool

	// ID selects a pinhole that UPnP opened: Open renews it, Close gives it up.
	ID uint16

	Lifetime    time.Duration // Open: what the client asks, 0 means for ever
	Nonce       Nonce         // PCP
	Filters     []Filter
	Description string
	Disabled    bool
	Contact     any  // kept with the claim for its server
	ThirdParty  bool // the client may name another host's address (PCP THIRD_PARTY)

	// Remote asks for PCP's PEER, an outbound mapping to that peer. For a new
	// one External, unless it is 0, and At, unless it is the zero Addr, must be
	// what it gets. Lifetime never shortens (RFC 6887, section 12).
	Remote       netip.AddrPort
	ExternalAddr netip.Addr
	hasFlowPort  bool // External is what the flow has already

	// KeepFilters adds Filters to those that the claim has instead of
	// replacing them; KeepDescription leaves the claim's text as it is.
	KeepFilters, KeepDescription bool
}

// comesFrom reports whether the host that has an address asks.
func (req *Request) comesFrom(a netip.Addr) bool { return a == req.Client || a == req.Alias }

// family returns the one whose rules the request may change.
func (req *Request) family() Family {
	byPort := req.Op == Close && req.External != 0
	if req.ID != 0 || req.Internal.Addr().Is6() && !byPort {
		return IPv6
	}
	return IPv4
}

// mayAffect reports whether req and o may be about the same mapping of the same
// client, so that the order in which they are decided matters to it.
func (req *Request) mayAffect(o *Request) bool {
	switch {
	case req.Client != o.Client:
		return false
	case req.ID != 0 || o.ID != 0: // whatever pinhole that is
		return req.family() == o.family()
	case req.Protocol != o.Protocol:
		return false
	}
	return req.Op == Close || o.Op == Close || req.Internal == o.Internal || req.External != 0 && req.External == o.External
}

// repeats reports whether req asks once more for what o asks for.
func (req *Request) repeats(o *Request) bool {
	return req.Op == o.Op && req.Origin == o.Origin && req.Client == o.Client && req.Protocol == o.Protocol &&
		req.Internal == o.Internal && req.External == o.External && req.Remote == o.Remote && req.Nonce == o.Nonce && req.ID == o.ID
}

// Answer is the desk's decision. Granted is the zero Refusal.
type Answer struct {
	Refusal Refusal
	// Mapping is what was granted, or what stood in the way of it; nil when
	// there is none. A Close leaves it nil.
	Mapping *Mapping
	// Lifetime is what was granted; 0 means for ever.
	Lifetime time.Duration
	// ID is the UniqueID of a pinhole that UPnP opened.
	ID uint16
	// Closed counts the claims that a Close took away, or an Open from the host's
	// former address.
	Closed int
}

// dependsOnOthers reports whether the answer depends on what others are about to get.
func (a Answer) dependsOnOthers() bool {
	return a.Refusal == NoPorts || a.Refusal == TableFull || a.Refusal == QuotaExceeded
}

// Refusal is why a client does not get what it asked for; servers translate
// it into their protocol's code.
type Refusal uint8

// The reasons for a refusal.
const (
	Granted Refusal = iota
	NotAuthorized
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
	// UnknownHost is given where only an address that is not known of the host
	// would tell whether the rules allow a pinhole.
	UnknownHost
)

var refusals = [...]string{
	Granted:           "granted",
	NotAuthorized:     "not authorized",
	Conflict:          "port belongs to somebody else",
	PortInUse:         "port is the router's own",
	NoPorts:           "no port left",
	QuotaExceeded:     "client holds too many mappings",
	TableFull:         "too many mappings",
	TooManyFilters:    "too many remote peer filters",
	NotFound:          "no such mapping",
	NoExternalAddress: "no external address",
	BadTarget:         "target is not a host on a LAN",
	FirewallFailed:    "firewall refused the rules",
	NoFirewall:        "there is no IPv6 firewall",
	Stopping:          "shutting down",
	UnknownHost:       "rules tell hosts apart by addresses of which none of this host is known",
}

// String returns the reason in the words of the log.
func (r Refusal) String() string { return refusals[r] }
