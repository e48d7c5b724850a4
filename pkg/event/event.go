// Package event says what happens in the service, as one value for all who want to
// know: the log, watchers, the history, the notification program and the metrics.
package event

import (
	"net/netip"
	"time"
)

// Kind is what happened.
type Kind string

// The kinds of events.
const (
	Opened    Kind = "opened"    // a mapping was made
	Renewed   Kind = "renewed"   // a client asked again for a mapping
	Closed    Kind = "closed"    // a mapping has ended
	Dormant   Kind = "dormant"   // a mapping lost its rules, and keeps its port
	Active    Kind = "active"    // a dormant mapping has its rules again
	Refused   Kind = "refused"   // a request was refused
	Deleted   Kind = "deleted"   // the operator deleted mappings
	Blocked   Kind = "blocked"   // the operator blocked hosts or ports
	Unblocked Kind = "unblocked" // a block was lifted, or has ended
	Repaired  Kind = "repaired"  // rules that another program had removed were restored
	Uplink    Kind = "uplink"    // the external address has changed

	Reachable   Kind = "reachable"   // the router in front forwards the port of a mapping
	Unreachable Kind = "unreachable" // it does not: remote hosts cannot reach the mapping
)

// Kinds returns all kinds.
func Kinds() []Kind {
	return []Kind{Opened, Renewed, Closed, Dormant, Active, Refused, Deleted, Blocked, Unblocked, Repaired, Uplink, Reachable, Unreachable}
}

// isOfMapping reports whether events of the kind are about a mapping or a request
// for one.
func (k Kind) isOfMapping() bool {
	switch k {
	case Opened, Renewed, Closed, Dormant, Active, Refused, Reachable, Unreachable:
		return true
	}
	return false
}

// IsMinor reports whether events of the kind may come in thousands: clients cause them
// as often as they like, without holding anything, or a network, or the router in front,
// takes all its mappings with it.
func (k Kind) IsMinor() bool {
	switch k {
	case Renewed, Refused, Dormant, Active, Reachable, Unreachable:
		return true
	}
	return false
}

// Event is one thing that happened. Fields that do not apply are zero.
type Event struct {
	// Serial numbers the events. It grows by one with each of a process; a later
	// process begins with a higher one.
	Serial uint64    `json:"serial"`
	Time   time.Time `json:"time"`
	Kind   Kind      `json:"event"`

	// Origins are the protocols that asked: "NAT-PMP", "PCP", "UPnP". Where a client
	// acted it is the one that it used, else those that have asked for the mapping.
	Origins []string `json:"origins,omitempty"`
	// Client is the address of the client that asked; the zero Addr: none did.
	Client netip.Addr `json:"client,omitzero"`
	// Host names the host that Client belongs to, the same for all of its addresses;
	// empty: not known. It is for limits, not for people.
	Host string `json:"-"`

	Protocol     string     `json:"protocol,omitempty"` // "TCP" or "UDP"
	ExternalPort uint16     `json:"external_port,omitempty"`
	Pinhole      bool       `json:"pinhole,omitempty"` // an IPv6 pinhole: its ports are the same
	Internal     netip.Addr `json:"internal_address,omitzero"`
	InternalPort uint16     `json:"internal_port,omitempty"`
	HostName     string     `json:"host_name,omitempty"` // of the internal host, where known
	MAC          string     `json:"mac,omitempty"`       // of the internal host, where known
	Description  string     `json:"description,omitempty"`
	Remote       []string   `json:"remote,omitempty"` // remote hosts that may use the mapping; none: all
	// Forwarding is what the router in front does for the external port: "asking",
	// "reachable" or "unreachable"; empty: none is asked. With "reachable" remote hosts
	// connect to the outer address and port.
	Forwarding   string     `json:"forwarding,omitempty"`
	OuterAddress netip.Addr `json:"outer_address,omitzero"`
	OuterPort    uint16     `json:"outer_port,omitempty"`
	// Shared says that the log has a line already that says the same of all mappings.
	Shared bool `json:"-"`
	// Disabled says that the client wants the mapping without rules (UPnP).
	Disabled bool `json:"disabled,omitempty"`
	// Lifetime is the time that the mapping has left, in seconds; nil: it has no end,
	// or there is no mapping.
	Lifetime *int64 `json:"lifetime,omitempty"`

	// Delete says that a refused request was to delete.
	Delete bool `json:"delete,omitempty"`
	// Reason is why: of a refusal, a closing, a block's end, or of what befell the
	// uplink or the reachability of a mapping. Of Deleted and Blocked it says that rules
	// of closed mappings are still in the firewall, and why; empty: they are not.
	Reason string `json:"reason,omitempty"`
	// Rule is the permission rule that decided a refusal.
	Rule string `json:"rule,omitempty"`
	// Holder is the mapping or static forward that has the port of a refused request.
	Holder string `json:"holder,omitempty"`
	// Block is the number of the operator's block that decided, began or ended.
	Block int `json:"block,omitempty"`
	// Subject is what an act of the operator is about: hosts and ports.
	Subject string `json:"subject,omitempty"`
	// Until is when a block ends; the zero Time: never, or it is no block.
	Until time.Time `json:"until,omitzero"`
	// Closed counts the mappings that an act of the operator has closed.
	Closed int `json:"closed,omitempty"`

	Family    string     `json:"family,omitempty"`    // of repaired rules: "IPv4" or "IPv6"
	Interface string     `json:"interface,omitempty"` // the uplink
	Address   netip.Addr `json:"address,omitzero"`    // the external address; absent: none
}
