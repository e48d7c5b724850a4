package main

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// unit is the unit of a row's values, and how they are printed.
type unit struct {
	text           func(float64) string
	higherIsBetter bool
}

var (
	micros    = unit{text: durationText}
	kibibytes = unit{text: func(x float64) string { return figure(x/1024) + " MiB" }}
	count     = unit{text: func(x float64) string { return strconv.FormatFloat(math.Round(10*x)/10, 'f', -1, 64) }}
	perSecond = unit{text: func(x float64) string { return fmt.Sprintf("%.0f /s", x) }, higherIsBetter: true}
	percent   = unit{text: func(x float64) string { return fmt.Sprintf("%.0f %%", x) }, higherIsBetter: true}
)

// durationText returns a number of microseconds in the unit that suits it.
func durationText(micros float64) string {
	switch {
	case micros == 0:
		return "0"
	case micros < 1e3:
		return figure(micros) + " µs"
	case micros < 1e6:
		return figure(micros/1e3) + " ms"
	}
	return figure(micros/1e6) + " s"
}

// row is one line of the table, with a value for each number of mappings present.
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
	most   = []int{0, 1000, 5000}
	all    = []int{0, 1000, 5000, 10000}
	filled = []int{1000, 5000, 10000}
)

// serviceRows are in the order in which a round measures them: the start first, then what
// needs a daemon that has done nothing yet, and what needs a daemon of its own last.
var serviceRows = []row{
	{"start", "start until all rules are in place and it answers", micros, all, (*round).startTime},
	{"memory", "memory after the start, RSS", kibibytes, all, (*round).memory},
	{"memory-children", "memory of its child processes, which run while it is busy", kibibytes, all, (*round).childMemory},

	{"touch-cpu", "iptables -A and -D by another program, elsewhere: processor time", micros, most, (*round).touchCPU},
	{"forward", "new connections from the Internet, one after another", perSecond, all, (*round).forward},

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
	{"delete-100", "delete: DeletePortMapping, 100 in all by 25 clients at once", micros, []int{1000}, total(25, 4, operation{before: (*client).upnpAdd, do: (*client).upnpDelete})},

	{"conflict", "port taken, the next one is free: NAT-PMP", micros, filled, p50(5, operation{do: (*client).takeIsolated, after: (*client).deleteLast})},
	{"conflict-block", "port taken, so are all that follow: NAT-PMP", micros, filled, p50(3, operation{do: (*client).takeBlock, after: (*client).deleteLast})},

	{"touch-map", "map: NAT-PMP, right after iptables -A and -D by another program", micros, most, (*round).touchMap},

	{"memory-after", "memory after all these operations, RSS", kibibytes, all, (*round).memory},
	{"memory-children-after", "memory of its child processes", kibibytes, all, (*round).childMemory},
	{"expire", "100 leases expire: last rule gone after due", micros, []int{1000}, (*round).expire},
}

// idleRows are measured by the function idle.
var idleRows = []row{
	{"idle", "wake-ups without clients", count, empty, nil},
	{"idle-memory", "memory without clients, RSS, with child processes", kibibytes, empty, nil},
}

var processRows = []row{
	{"touch-processes", "iptables -A and -D by another program, elsewhere: processes of the daemon", count, most, (*round).touchProcesses},
}

var outboundRows = []row{
	{"outbound-map", "map to another port, UPNP_OUTBOUND no → auto", micros, most, p50(50, operation{do: (*client).mapElsewhere, after: (*client).unmapElsewhere})},
	{"outbound-connect", "new connections from the LAN, UPNP_OUTBOUND no → auto", perSecond, most, (*round).connectOut},
}

var hairpinRows = []row{
	{"hairpin-map", "map: NAT-PMP, UPNP_HAIRPIN no → yes", micros, most, p50(50, operation{do: (*client).natpmpMap, after: (*client).natpmpDelete})},
}

// groups returns all rows in the order in which they are measured. Floods are last: they
// fill the neighbour table. The first group is measured where there is a guest.
func (b *bench) groups() []group {
	groups := []group{
		{name: "arm", daemons: b.daemons, isBare: true, patience: 4 * time.Minute, sizes: alike(3, 1, 0), rows: b.guest.rows(b.lab), end: b.guest.powerOff},
		{name: "service", daemons: b.daemons, rules: rules, patience: 20 * time.Minute, sizes: startSizes, rows: serviceRows},
		{name: "processes", daemons: b.daemons, rules: rules, isBare: true, sizes: processSizes, rows: processRows},
		{name: "outbound", daemons: b.variants("outbound=no", "outbound=auto"), rules: plainRules, patience: 2 * time.Minute, sizes: alike(3, 1, most...), rows: outboundRows},
		{name: "hairpin", daemons: b.variants("hairpin=no", "hairpin=yes"), rules: rules, patience: time.Minute, sizes: alike(3, 1, most...), rows: hairpinRows},
		{name: "idle", daemons: b.daemons, rows: idleRows},
		{name: "floods", daemons: b.daemons, rules: rules, isBare: true, patience: 2 * time.Minute, sizes: alike(3, 1, 0), rows: floodRows()},
	}
	if b.guest.console == "" {
		return groups[1:]
	}
	return groups
}

// variants returns our daemon with each setting.
func (b *bench) variants(settings ...string) (all []daemon) {
	for _, s := range settings {
		d := b.daemons[len(b.daemons)-1]
		d.name += ", " + s
		d.settings = s + "\n"
		all = append(all, d)
	}
	return all
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
