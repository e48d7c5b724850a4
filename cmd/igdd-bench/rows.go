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
	hasNoRatio     bool // neither is better, or the values tell enough
}

var (
	micros    = unit{text: durationText}
	kibibytes = unit{text: func(x float64) string { return figure(x/1024) + " MiB" }}
	count     = unit{text: func(x float64) string { return strconv.FormatFloat(math.Round(10*x)/10, 'f', -1, 64) }}
	perSecond = unit{text: func(x float64) string { return fmt.Sprintf("%.0f /s", x) }, higherIsBetter: true}
	percent   = unit{text: func(x float64) string { return fmt.Sprintf("%.0f %%", x) }, hasNoRatio: true}

	kernelMicros = unit{text: durationText, hasNoRatio: true}
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

// topic is what a table is about, and the head of its first column.
type topic string

const (
	startTopic   topic = "Start and memory"
	lookupTopic  topic = "Requests that change nothing"
	changeTopic  topic = "New mappings"
	removalTopic topic = "Renewals and deletions"
	touchTopic   topic = "Changes of the firewall by another program"
	settingTopic topic = "Settings of igdd"
	floodTopic   topic = "Answered at once beside a flood"
)

// topics are in the order of their tables.
var topics = []topic{startTopic, lookupTopic, changeTopic, removalTopic, touchTopic, settingTopic, floodTopic}

// row is one line of a table, with a value for each number of mappings present.
type row struct {
	name    string // for --only
	topic   topic
	what    string
	unit    unit
	present []int
	measure func(*round) (float64, error) // nil: idle measures it
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
	{"start", startTopic, "start until all rules are in place and it answers", micros, all, (*round).startTime},
	{"memory", startTopic, "memory after the start, RSS", kibibytes, all, (*round).memory},
	{"memory-children", startTopic, "memory of its child processes after the start", kibibytes, all, (*round).childMemory},

	{"touch-cpu", touchTopic, "processor time of one change", micros, most, (*round).touchCPU},
	{"forward", lookupTopic, "new connections from the Internet, one after another", perSecond, all, (*round).forward},

	{"address", lookupTopic, "NAT-PMP address request", micros, all, p50(200, operation{do: (*client).externalAddress})},
	{"announce", lookupTopic, "PCP ANNOUNCE", micros, all, p50(200, operation{do: (*client).announce})},
	{"external", lookupTopic, "GetExternalIPAddress, a connection each", micros, all, p50(200, operation{do: (*client).getExternal})},
	{"external-kept", lookupTopic, "GetExternalIPAddress, keep-alive", micros, all, p50(200, operation{do: (*client).getExternal, keep: true})},
	{"external-32", lookupTopic, "GetExternalIPAddress, a connection each, 32 clients", perSecond, empty, rate(8, operation{do: (*client).getExternal})},
	{"search", lookupTopic, "M-SEARCH to reply", micros, all, p50(10, operation{do: (*client).search})},
	{"generic", lookupTopic, "GetGenericPortMappingEntry by index", micros, filled, p50(20, operation{do: (*client).getGeneric})},
	{"specific", lookupTopic, "GetSpecificPortMappingEntry", micros, filled, p50(20, operation{do: (*client).getSpecific})},

	{"map-natpmp", changeTopic, "NAT-PMP map", micros, all, p50(20, operation{do: (*client).natpmpMap, leaves: true})},
	{"map-pcp", changeTopic, "PCP MAP", micros, all, p50(20, operation{do: (*client).pcpMap, leaves: true})},
	{"map-kernel", changeTopic, "of each, the kernel's own time for both tables", kernelMicros, all, (*round).kernelTables},
	{"map-upnp", changeTopic, "AddPortMapping, a connection each", micros, all, p50(20, operation{do: (*client).upnpAdd, leaves: true})},
	{"map-upnp-kept", changeTopic, "AddPortMapping, keep-alive", micros, all, p50(20, operation{do: (*client).upnpAdd, keep: true, leaves: true})},
	{"map-natpmp-32", changeTopic, "NAT-PMP map, 32 clients", perSecond, all, rate(16, operation{do: (*client).natpmpMap, leaves: true})},
	{"map-pcp-32", changeTopic, "PCP MAP, 32 clients", perSecond, all, rate(16, operation{do: (*client).pcpMap, leaves: true})},
	{"map-upnp-32", changeTopic, "AddPortMapping, a connection each, 32 clients", perSecond, some, rate(8, operation{do: (*client).upnpAdd, leaves: true})},

	{"renew-natpmp", removalTopic, "renewal: NAT-PMP", micros, all, p50(20, operation{before: (*client).natpmpMap, do: (*client).natpmpMap, leaves: true})},
	{"renew-pcp", removalTopic, "renewal: PCP MAP", micros, all, p50(20, operation{before: (*client).pcpMap, do: (*client).pcpMap, leaves: true})},
	{"renew-upnp", removalTopic, "renewal: AddPortMapping, a connection each", micros, all, p50(20, operation{before: (*client).upnpAdd, do: (*client).upnpAdd, leaves: true})},

	{"delete-natpmp", removalTopic, "delete: NAT-PMP", micros, all, p50(20, operation{before: (*client).natpmpMap, do: (*client).natpmpDelete})},
	{"delete-pcp", removalTopic, "delete: PCP MAP", micros, all, p50(20, operation{before: (*client).pcpMap, do: (*client).pcpDelete})},
	{"delete-upnp", removalTopic, "delete: DeletePortMapping, a connection each", micros, all, p50(20, operation{before: (*client).upnpAdd, do: (*client).upnpDelete})},
	{"delete-100", removalTopic, "delete: DeletePortMapping, 100 in all by 25 clients at once", micros, []int{1000}, total(25, 4, operation{before: (*client).upnpAdd, do: (*client).upnpDelete})},

	{"conflict", changeTopic, "port taken, the next one is free: NAT-PMP", micros, filled, p50(5, operation{do: (*client).takeIsolated, after: (*client).deleteLast})},
	{"conflict-block", changeTopic, "port taken, so are all that follow: NAT-PMP", micros, filled, p50(3, operation{do: (*client).takeBlock, after: (*client).deleteLast})},

	{"touch-map", touchTopic, "NAT-PMP map right after one", micros, most, (*round).touchMap},

	{"memory-after", startTopic, "memory after all operations, RSS", kibibytes, all, (*round).memory},
	{"memory-children-after", startTopic, "memory of its child processes after all operations", kibibytes, all, (*round).childMemory},
	{"expire", removalTopic, "100 leases expire: last rule gone after due", micros, []int{1000}, (*round).expire},
}

// idleRows are measured by the function idle.
var idleRows = []row{
	{"idle", startTopic, "wake-ups without clients", count, empty, nil},
	{"idle-memory", startTopic, "memory without clients, RSS, with child processes", kibibytes, empty, nil},
}

var processRows = []row{
	{"touch-processes", touchTopic, "processes of iptables that one change starts", count, most, (*round).touchProcesses},
}

var outboundRows = []row{
	{"outbound-map", settingTopic, "NAT-PMP map to another port, UPNP_OUTBOUND no → auto", micros, most, p50(50, operation{do: (*client).mapElsewhere, after: (*client).unmapElsewhere})},
	{"outbound-connect", settingTopic, "new connections from the LAN, UPNP_OUTBOUND no → auto", perSecond, most, (*round).connectOut},
}

var hairpinRows = []row{
	{"hairpin-map", settingTopic, "NAT-PMP map, UPNP_HAIRPIN no → yes", micros, most, p50(50, operation{do: (*client).natpmpMap, after: (*client).natpmpDelete})},
}

// groups returns all rows in the order in which they are measured. Floods are last: they
// fill the neighbour table. The first group is measured where there is a guest.
func (b *bench) groups() []group {
	groups := []group{
		{name: "arm", daemons: b.daemons, isBare: true, patience: 4 * time.Minute, sizes: alike(3, 0), rows: b.guest.rows(b.lab), end: b.guest.powerOff},
		{name: "service", daemons: b.daemons, patience: 20 * time.Minute, sizes: startSizes, rows: serviceRows},
		{name: "processes", daemons: b.daemons, isBare: true, sizes: processSizes, rows: processRows},
		{name: "outbound", daemons: b.variants("outbound=no", "outbound=auto"), rules: plainRules, patience: 2 * time.Minute, sizes: alike(3, most...), rows: outboundRows},
		{name: "hairpin", daemons: b.variants("hairpin=no", "hairpin=yes"), patience: time.Minute, sizes: alike(3, most...), rows: hairpinRows},
		{name: "idle", daemons: b.daemons, rows: idleRows},
		{name: "fairness", daemons: b.daemons, isBare: true, patience: 2 * time.Minute, sizes: alike(3, 0), rows: fairnessRows(false)},
		{name: "fairness", daemons: b.daemons, isBare: true, isExtra: true, patience: 10 * time.Minute, sizes: alike(3, 0), rows: fairnessRows(true)},
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
