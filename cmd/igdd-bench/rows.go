package main

import "time"

// unit is the unit of a row.
type unit struct {
	name           string
	higherIsBetter bool
}

var (
	micros    = unit{name: "µs"}
	millis    = unit{name: "ms"}
	kibibytes = unit{name: "KiB"}
	wakeups   = unit{name: "in all"}
	perSecond = unit{name: "/s", higherIsBetter: true}
)

// row is one line of the table for each number of mappings that are present.
type row struct {
	name    string // for --only
	what    string
	unit    unit
	present []int
	measure func(*round) (float64, error)
}

// How many mappings are present.
var (
	empty  = []int{0}
	some   = []int{0, 1000}
	all    = []int{0, 1000, 5000, 10000}
	filled = []int{1000, 5000, 10000}
)

// rows are in the order in which a round measures them: the start first, and what needs
// a daemon of its own last.
var rows = []row{
	{"start", "start until all rules are in place and it answers", millis, all, (*round).startTime},
	{"memory", "memory after the start, RSS", kibibytes, all, (*round).memory},
	{"memory-children", "memory of its child processes, which run while it is busy", kibibytes, all, (*round).childMemory},
	{"forward", "new connections forwarded, one after another", perSecond, []int{5000}, (*round).forward},

	{"address", "NAT-PMP address request", micros, all, p50(200, operation{do: (*client).externalAddress})},
	{"announce", "PCP ANNOUNCE", micros, all, p50(200, operation{do: (*client).announce})},
	{"external", "GetExternalIPAddress, a connection each", micros, all, p50(200, operation{do: (*client).getExternal})},
	{"external-kept", "GetExternalIPAddress, keep-alive", micros, all, p50(200, operation{do: (*client).getExternal, keep: true})},
	{"external-32", "GetExternalIPAddress, a connection each, 32 clients", perSecond, empty, rate(8, operation{do: (*client).getExternal})},
	{"search", "M-SEARCH to reply", micros, all, p50(10, operation{do: (*client).search})},
	{"generic", "GetGenericPortMappingEntry by index", micros, filled, p50(20, operation{do: (*client).getGeneric})},
	{"specific", "GetSpecificPortMappingEntry", micros, filled, p50(20, operation{do: (*client).getSpecific})},

	{"map-natpmp", "map: NAT-PMP", micros, all, p50(20, operation{do: (*client).natpmpMap, leaves: true})},
	{"map-pcp", "map: PCP MAP", micros, all, p50(20, operation{do: (*client).pcpMap, leaves: true})},
	{"map-kernel", "of it, the kernel's own time for both tables (iptables-legacy)", micros, all, (*round).kernelTables},
	{"map-upnp", "map: AddPortMapping, a connection each", micros, all, p50(20, operation{do: (*client).upnpAdd, leaves: true})},
	{"map-upnp-kept", "map: AddPortMapping, keep-alive", micros, all, p50(20, operation{do: (*client).upnpAdd, keep: true, leaves: true})},
	{"map-natpmp-32", "map: NAT-PMP, 32 clients", perSecond, all, rate(16, operation{do: (*client).natpmpMap, leaves: true})},
	{"map-pcp-32", "map: PCP MAP, 32 clients", perSecond, all, rate(16, operation{do: (*client).pcpMap, leaves: true})},
	{"map-upnp-32", "map: AddPortMapping, a connection each, 32 clients", perSecond, some, rate(8, operation{do: (*client).upnpAdd, leaves: true})},

	{"renew-natpmp", "renewal: NAT-PMP", micros, all, p50(20, operation{before: (*client).natpmpMap, do: (*client).natpmpMap, leaves: true})},
	{"renew-pcp", "renewal: PCP MAP", micros, all, p50(20, operation{before: (*client).pcpMap, do: (*client).pcpMap, leaves: true})},
	{"renew-upnp", "renewal: AddPortMapping, a connection each", micros, all, p50(20, operation{before: (*client).upnpAdd, do: (*client).upnpAdd, leaves: true})},

	{"delete-natpmp", "delete: NAT-PMP", micros, all, p50(20, operation{before: (*client).natpmpMap, do: (*client).natpmpDelete})},
	{"delete-pcp", "delete: PCP MAP", micros, all, p50(20, operation{before: (*client).pcpMap, do: (*client).pcpDelete})},
	{"delete-upnp", "delete: DeletePortMapping, a connection each", micros, all, p50(20, operation{before: (*client).upnpAdd, do: (*client).upnpDelete})},

	{"conflict", "port taken, the next one is free: NAT-PMP", micros, filled, p50(5, operation{do: (*client).takeIsolated, after: (*client).deleteLast})},
	{"conflict-block", "port taken, so are all that follow: NAT-PMP", micros, filled, p50(3, operation{do: (*client).takeBlock, after: (*client).deleteLast})},

	{"memory-after", "memory after all these operations, RSS", kibibytes, all, (*round).memory},
	{"memory-children-after", "memory of its child processes", kibibytes, all, (*round).childMemory},
	{"expire", "100 leases expire: last rule gone after due", millis, []int{1000}, (*round).expire},

	// The function idle measures these.
	{"idle", "wake-ups without clients", wakeups, empty, nil},
	{"idle-memory", "memory without clients, RSS", kibibytes, empty, nil},
}

// operation is what a client does repeatedly, each time with another free port. Only do
// is timed; before prepares all of them first.
type operation struct {
	before, do, after func(c *client, port uint16) error
	keep              bool // the HTTP connection
	leaves            bool // a mapping of the port
}

// once does the operation and returns how long it took.
func (o operation) once(c *client, port uint16) (time.Duration, error) {
	begin := time.Now()
	err := o.do(c, port)
	took := time.Since(begin)
	if err == nil && o.after != nil {
		err = o.after(c, port)
	}
	return took, err
}
