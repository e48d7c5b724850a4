package control

import (
	"net/netip"
	"time"
)

// One connection carries one question, a line of JSON, and its answer, lines
// of JSON of which the last one has End.

// The questions.
const (
	doList    = "list"
	doStatus  = "status"
	doDelete  = "delete"
	doBlock   = "veto"
	doExplain = "explain"
)

// request is what the tool asks.
type request struct {
	Do       string     `json:"do"`
	Client   netip.Addr `json:"client,omitzero"`
	Protocol string     `json:"protocol,omitempty"` // "TCP" or "UDP"; empty: both
	First    uint16     `json:"first,omitempty"`    // external ports; 0: all
	Last     uint16     `json:"last,omitempty"`
	Internal uint16     `json:"internal,omitempty"`
	Seconds  int64      `json:"seconds,omitempty"` // how long a veto holds
}

// reply is one line of what the daemon says.
type reply struct {
	Entry   *Entry   `json:"entry,omitempty"`
	Status  *Status  `json:"status,omitempty"`
	Verdict *Verdict `json:"verdict,omitempty"`
	Closed  int      `json:"closed,omitempty"` // mappings that a delete or veto ended
	Error   string   `json:"error,omitempty"`
	End     bool     `json:"end,omitempty"`
}

// Entry is one mapping as list shows it.
type Entry struct {
	Protocol     string     `json:"protocol"`
	ExternalPort uint16     `json:"external_port"` // of a pinhole the client's own
	Pinhole      bool       `json:"pinhole,omitempty"`
	Client       netip.Addr `json:"client"`
	ClientPort   uint16     `json:"client_port"`
	MAC          string     `json:"mac,omitempty"`
	HostName     string     `json:"host_name,omitempty"`
	Gone         bool       `json:"gone,omitempty"` // the host was asked for and does not answer
	Origins      []string   `json:"origins"`
	Description  string     `json:"description"`
	Remote       []string   `json:"remote,omitempty"` // peers that may use it; none: all
	Enabled      bool       `json:"enabled"`
	Dormant      bool       `json:"dormant,omitempty"` // it waits, without rules, for its host or for ip6tables
	Remaining    *int64     `json:"remaining_seconds"` // null: no end
	Packets      *uint64    `json:"packets"`           // null: not counted, or no rule in the kernel
	Bytes        *uint64    `json:"bytes"`
}

// Status is how the service does.
type Status struct {
	Version   string     `json:"version"`
	Started   time.Time  `json:"started"`
	Protocols []string   `json:"protocols"` // that are served: "NAT-PMP", "PCP", "UPnP"
	External  netip.Addr `json:"external_address,omitzero"`
	// Note is what the operator should know of the external address.
	Note     string   `json:"note,omitempty"`
	Uplinks  []Link   `json:"uplinks"`
	LANs     []Link   `json:"lans"`
	Firewall Firewall `json:"firewall"`
	Mappings int      `json:"mappings"` // counted by the server
	Clients  int      `json:"clients"`  // counted by the server
}

// Link is an interface that is configured, whether it exists or not.
type Link struct {
	Name      string         `json:"name"`
	Up        bool           `json:"up"`
	Addresses []netip.Prefix `json:"addresses,omitempty"`
	// Servers are what listens there.
	Servers []string `json:"servers,omitempty"`
	// Note says why the interface is not there.
	Note string `json:"note,omitempty"`
}

// Firewall is the state of chains and jumps.
type Firewall struct {
	Healthy bool `json:"healthy"`
	// Trouble says why not.
	Trouble string `json:"trouble,omitempty"`
	// Repairs counts how often rules that others took away were put back;
	// Repaired is when that was last.
	Repairs  int       `json:"repairs"`
	Repaired time.Time `json:"last_repair,omitzero"`
}

// Verdict is what a request would be answered, and why.
type Verdict struct {
	Granted bool   `json:"granted"`
	Reason  string `json:"reason"`
	// Port is the external port that the client would get.
	Port uint16 `json:"external_port,omitempty"`
	// Rule is the permission rule that decides; empty: none speaks of it.
	Rule string `json:"rule,omitempty"`
	// Holder is the mapping that stands in the way, or that would be renewed.
	Holder string `json:"holder,omitempty"`
	// Firewall are rules of the firewall that forward some connections to the
	// port elsewhere.
	Firewall []string `json:"firewall,omitempty"`
}
