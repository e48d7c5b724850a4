package control

import (
	"fmt"
	"net/netip"
	"time"

	"igdd/pkg/event"
)

// One connection carries one request, a line of JSON, and the replies to it,
// lines of JSON of which the last one has End.

// schemaVersion is the version of what the tool prints as JSON. It grows when a field
// changes its meaning or goes.
const schemaVersion = 1

// The commands of requests.
const (
	doList    = "list"
	doStatus  = "status"
	doDelete  = "delete"
	doBlock   = "block"
	doVeto    = "veto" // another name of block
	doBlocks  = "blocks"
	doUnblock = "unblock"
	doExplain = "explain"
	doWatch   = "watch"
	doHistory = "history"
	doTrace   = "trace"
	doMetrics = "metrics"
)

// request is what the tool asks.
type request struct {
	Do       string     `json:"do"`
	Client   netip.Addr `json:"client,omitzero"`
	MAC      string     `json:"mac,omitempty"`      // the client's hardware address
	Host     string     `json:"host,omitempty"`     // the client's name
	Protocol string     `json:"protocol,omitempty"` // "TCP" or "UDP"; empty: both
	First    uint16     `json:"first,omitempty"`    // external ports; 0: all
	Last     uint16     `json:"last,omitempty"`
	Internal uint16     `json:"internal,omitempty"`
	As       string     `json:"as,omitempty"`      // explain: the protocol that the client asks by; empty: all
	Seconds  int64      `json:"seconds,omitempty"` // how long a block lasts
	Forever  bool       `json:"forever,omitempty"` // a block has no end
	ID       int        `json:"id,omitempty"`      // unblock: the number of a block
	After    uint64     `json:"after,omitempty"`   // watch: the serial of the last event that is known; 0: those from now on
	Count    int        `json:"count,omitempty"`   // history: how many events

	// The connection of trace, with First as its port.
	Source      netip.AddrPort `json:"source,omitzero"`      // port 0: any
	Destination netip.Addr     `json:"destination,omitzero"` // the zero Addr: that of the uplink
}

// reply is one line of the daemon's.
type reply struct {
	Entry   *Entry       `json:"entry,omitempty"`
	Status  *Status      `json:"status,omitempty"`
	Verdict *verdict     `json:"verdict,omitempty"`
	Path    *path        `json:"path,omitempty"`
	Closed  int          `json:"closed,omitempty"` // mappings that a delete or block deleted
	Block   *BlockEntry  `json:"block,omitempty"`
	Lifted  int          `json:"lifted,omitempty"`  // blocks
	Warning string       `json:"warning,omitempty"` // of a block
	Unsaved string       `json:"unsaved,omitempty"` // why a block, or its end, is lost with the daemon
	Left    string       `json:"left,omitempty"`    // that rules of closed mappings are still in the firewall, and why
	Event   *event.Event `json:"event,omitempty"`
	Lost    uint64       `json:"lost,omitempty"`  // events that were lost before the next one
	After   uint64       `json:"after,omitempty"` // watch: the serial of the last event before the first one
	Metrics string       `json:"metrics,omitempty"`
	Error   string       `json:"error,omitempty"`
	End     bool         `json:"end,omitempty"`
}

// Entry is one mapping as list shows it.
type Entry struct {
	Schema       int        `json:"schema"`
	Protocol     string     `json:"protocol"`
	ExternalPort uint16     `json:"external_port"` // of a pinhole: the client's port
	Pinhole      bool       `json:"pinhole,omitempty"`
	Client       netip.Addr `json:"client"`
	ClientPort   uint16     `json:"client_port"`
	MAC          string     `json:"mac,omitempty"`
	HostName     string     `json:"host_name,omitempty"`
	Gone         bool       `json:"gone,omitempty"` // the host does not answer ARP or neighbour solicitations
	Origins      []string   `json:"origins"`
	Description  string     `json:"description"`
	Remote       []string   `json:"remote,omitempty"` // remote hosts that may use it; none: all
	Enabled      bool       `json:"enabled"`
	Dormant      bool       `json:"dormant,omitempty"` // without rules until its network, its host or ip6tables is there
	Reason       string     `json:"dormant_reason,omitempty"`
	Forwarding   string     `json:"forwarding,omitempty"` // by the router in front: "asking", "reachable", "unreachable"; "": none is asked
	OuterAddress netip.Addr `json:"outer_address,omitzero"`
	OuterPort    uint16     `json:"outer_port,omitempty"`        // at OuterAddress, where remote hosts connect to, if it is reachable
	Unreachable  string     `json:"forwarding_reason,omitempty"` // why it is not
	Remaining    *int64     `json:"remaining_seconds"`           // null: no end
	Packets      *uint64    `json:"packets"`                     // null: not counted, or no rule in the kernel
	Bytes        *uint64    `json:"bytes"`
}

// Status is the state of the daemon.
type Status struct {
	Schema    int        `json:"schema"`
	Version   string     `json:"version"`
	Started   time.Time  `json:"started"`
	Protocols []string   `json:"protocols"` // that are enabled: "NAT-PMP", "PCP", "UPnP"
	External  netip.Addr `json:"external_address,omitzero"`
	// Note is what the operator should know of the external address.
	Note string `json:"note,omitempty"`
	// Upstream is the router in front that is asked to forward the ports too; nil: none is.
	Upstream *Upstream `json:"upstream,omitempty"`
	// Ports counts the external ports of UPNP_EXT_PORTS; nil: every port may be granted.
	Ports    *PortCount `json:"external_ports,omitempty"`
	Uplinks  []Link     `json:"uplinks"`
	LANs     []Link     `json:"lans"`
	Routes   []Route    `json:"lan_routes,omitempty"`
	Firewall Firewall   `json:"firewall"`
	// Helper says what is wrong with the helper process.
	Helper   string `json:"helper,omitempty"`
	Mappings int    `json:"mappings"` // counted by the server
	Clients  int    `json:"clients"`  // counted by the server
	// Leases is why the leases are not saved; "": they are.
	Leases string `json:"leases,omitempty"`
}

// Upstream is the router in front of this one.
type Upstream struct {
	Address  netip.Addr `json:"address,omitzero"`   // absent: there is none
	Protocol string     `json:"protocol,omitempty"` // by which it answers
	External netip.Addr `json:"external_address,omitzero"`
	// Trouble is why it forwards nothing; "": it does.
	Trouble string `json:"trouble,omitempty"`
}

// PortCount counts the external ports that the provider forwards.
type PortCount struct {
	Total   int `json:"total"`
	FreeTCP int `json:"free_tcp"` // without a mapping
	FreeUDP int `json:"free_udp"`
}

// String returns the numbers as text.
func (c *PortCount) String() string {
	return fmt.Sprintf("%d of UPNP_EXT_PORTS, free for TCP %d, for UDP %d", c.Total, c.FreeTCP, c.FreeUDP)
}

// Link is a configured interface, whether it exists or not.
type Link struct {
	Name      string         `json:"name"`
	Up        bool           `json:"up"`
	Addresses []netip.Prefix `json:"addresses,omitempty"`
	// Servers are the servers that listen there.
	Servers []string `json:"servers,omitempty"`
	// Note says what is missing if the interface does not exist.
	Note string `json:"note,omitempty"`
}

// Route is a configured network behind another router on a LAN.
type Route struct {
	Network   netip.Prefix `json:"network"`
	Interface string       `json:"interface"`
	// Note says why its hosts are not heard, or what else is wrong.
	Note string `json:"note,omitempty"`
}

// Firewall is the state of chains, jumps and rules.
type Firewall struct {
	Healthy bool `json:"healthy"`
	// Trouble says why it is not healthy.
	Trouble string `json:"trouble,omitempty"`
	// Repairs counts how often rules that another program removed were restored;
	// Repaired is when that was last.
	Repairs  int       `json:"repairs"`
	Repaired time.Time `json:"last_repair,omitzero"`
}

// verdict says what a client would be answered by one protocol, and why.
type verdict struct {
	Schema  int        `json:"schema"`
	Origin  string     `json:"origin"` // "NAT-PMP", "PCP" or "UPnP"
	Client  netip.Addr `json:"client"`
	Granted bool       `json:"granted"`
	Reason  string     `json:"reason"`
	// Unheard is why there would be no answer at all.
	Unheard string `json:"unheard,omitempty"`
	// Fault is the error of the protocol.
	Fault string `json:"fault,omitempty"`
	// Port is the external port that the client would get.
	Port uint16 `json:"external_port,omitempty"`
	// Rule is the permission rule that decides; empty: none matches, which allows it,
	// or no rule decides.
	Rule string `json:"rule,omitempty"`
	// Block is the number of the operator's block that decides.
	Block int `json:"block,omitempty"`
	// BlockUntil is when that block ends; nil: never, or there is none.
	BlockUntil *time.Time `json:"block_until,omitempty"`
	// Holder is the mapping or static forward that has the port, or the mapping that
	// would be renewed.
	Holder string `json:"holder,omitempty"`
	// Firewall are rules of the firewall that take connections to the port, all
	// of them or some.
	Firewall []string `json:"firewall,omitempty"`
	// Upstream is what the router in front does for the port; "": none is asked.
	Upstream string `json:"upstream,omitempty"`
	// Outgoing is by which port what the client sends leaves, if the mapping says so.
	Outgoing string `json:"outgoing,omitempty"`
}

// What the tool prints as JSON of what it has done.
type (
	deleted struct {
		Schema int `json:"schema"`
		Closed int `json:"closed"` // mappings
	}
	blocked struct {
		Schema  int         `json:"schema"`
		Closed  int         `json:"closed"` // mappings
		Block   *BlockEntry `json:"block"`
		Warning string      `json:"warning,omitempty"`
	}
	unblocked struct {
		Schema int `json:"schema"`
		Lifted int `json:"lifted"` // blocks
	}
)

// printedEvent is an event as watch and history print it.
type printedEvent struct {
	Schema int `json:"schema"`
	*event.Event
}
