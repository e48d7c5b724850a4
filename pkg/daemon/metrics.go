package daemon

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"igdd/pkg/control"
	"igdd/pkg/event"
	"igdd/pkg/metrics"
	"igdd/pkg/portmap"
)

// Metrics are what monitoring reads. They last as long as the process: each Daemon in
// it counts on.
type Metrics struct {
	registry metrics.Registry
	process  *metrics.Process

	started, clients, limit, blocks           *metrics.Gauge
	freePorts, forwardings, upstreamUp        *metrics.Gauge
	mappings, healthy                         *metrics.Gauge
	uplinkUp, leasesSaved, helperUp           *metrics.Gauge
	requests, refusals, events                *metrics.Counter
	failures, repairs                         *metrics.Counter
	uplinkChanges, leaseWrites, leaseFailures *metrics.Counter
	tableTime, firewallTime                   *metrics.Histogram
}

// bounds are those of the histograms' buckets. A renewal takes less than the first, a
// transaction of the firewall usually one to five milliseconds; clients ask again after
// 250 ms or more (RFC 6886, section 3.1), and most have given up after 10 s.
var bounds = []time.Duration{
	500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond,
	25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// NewMetrics returns the metrics of a process that runs this version of the program.
func NewMetrics(version string) *Metrics {
	m := new(Metrics)
	m.registry.Gauge("igdd_build_info", "The running version; always 1.", metrics.Label{Name: "version", Values: []string{version}}).Fill(1)
	m.addTable()
	m.addFirewall()
	m.addRest()
	m.process = m.registry.Process("igdd_")
	return m
}

// addTable adds the metrics of the table and of the requests to it.
func (m *Metrics) addTable() {
	r, origin := &m.registry, metrics.Label{Name: "origin", Values: []string{"natpmp", "pcp", "upnp"}}
	reason := metrics.Label{Name: "reason"}
	for f := range portmap.Refusals() {
		reason.Values = append(reason.Values, f.Slug())
	}
	m.started = r.Gauge("igdd_start_time_seconds", "When the daemon began to serve with its present settings, in seconds since 1970.")
	m.mappings = r.Gauge("igdd_mappings", "Mappings and pinholes in the table.",
		metrics.Label{Name: "protocol", Values: []string{"tcp", "udp"}}, familyLabel(),
		metrics.Label{Name: "state", Values: []string{"active", "dormant", "disabled"}})
	m.limit = r.Gauge("igdd_mappings_limit", "The most mappings that the settings allow in total; absent without a limit.")
	m.freePorts = r.Gauge("igdd_external_ports_free", "External ports of UPNP_EXT_PORTS that no mapping has; absent without it.",
		metrics.Label{Name: "protocol", Values: []string{"tcp", "udp"}})
	m.clients = r.Gauge("igdd_clients", "Addresses of hosts that have mappings.")
	m.blocks = r.Gauge("igdd_blocks", "Blocks of the operator that are in force.")
	m.requests = r.Counter("igdd_requests_total", "Requests that the table has answered.",
		origin, metrics.Label{Name: "operation", Values: []string{"open", "close"}})
	m.refusals = r.Counter("igdd_refusals_total", "Requests that the table has refused.", origin, reason)
	m.tableTime = r.Histogram("igdd_table_seconds", "Time from the arrival of a request in the table's queue to the answer.", bounds)
	kind := metrics.Label{Name: "event"}
	for _, k := range event.Kinds() {
		kind.Values = append(kind.Values, string(k))
	}
	m.events = r.Counter("igdd_events_total", "Events, which miniupnpctl watch shows.", kind)
}

// addFirewall adds the metrics of the firewall.
func (m *Metrics) addFirewall() {
	r := &m.registry
	m.firewallTime = r.Histogram("igdd_firewall_transaction_seconds", "Time that the firewall took to carry out changes of mappings.", bounds, familyLabel())
	m.failures = r.Counter("igdd_firewall_failures_total", "Changes of mappings that the firewall did not carry out.", familyLabel())
	m.repairs = r.Counter("igdd_firewall_repairs_total", "How often missing chains or rules were restored.", familyLabel())
	m.healthy = r.Gauge("igdd_firewall_healthy", "1 if chains, jumps and rules are in place and reached, 0 if not or not known; absent for a disabled family.", familyLabel())
}

// addRest adds the metrics of uplink, lease file and helper process.
func (m *Metrics) addRest() {
	r := &m.registry
	m.uplinkUp = r.Gauge("igdd_uplink_up", "1 if there is an external address, else 0.")
	m.upstreamUp = r.Gauge("igdd_upstream_up", "1 if the router in front forwards ports, else 0; absent if none is asked.")
	m.forwardings = r.Gauge("igdd_upstream_mappings", "Mappings whose ports a router in front is asked to forward, by what became of that; absent if none is asked.",
		metrics.Label{Name: "state", Values: []string{portmap.Asking.Slug(), portmap.Reachable.Slug(), portmap.Unreachable.Slug()}})
	m.uplinkChanges = r.Counter("igdd_uplink_changes_total", "Changes of the external address, its loss included.")
	m.leaseWrites = r.Counter("igdd_lease_writes_total", "How often the lease file and the state file were brought up to date.")
	m.leaseFailures = r.Counter("igdd_lease_write_failures_total", "How often that, or saving a change in the state file, failed.")
	m.leasesSaved = r.Gauge("igdd_leases_saved", "1 if leases are saved, else 0; absent without a lease file.")
	m.helperUp = r.Gauge("igdd_helper_up", "0 if the helper process has ended or does not reply, else 1.")
}

// familyLabel returns the label of a family.
func familyLabel() metrics.Label {
	return metrics.Label{Name: "family", Values: []string{familyValue(portmap.IPv4), familyValue(portmap.IPv6)}}
}

// familyValue returns a family as the value of a label.
func familyValue(f portmap.Family) string {
	if f == portmap.IPv6 {
		return "ipv6"
	}
	return "ipv4"
}

// originValue returns an origin as the value of a label.
func originValue(o portmap.Origin) string {
	switch o {
	case portmap.NATPMP:
		return "natpmp"
	case portmap.PCP:
		return "pcp"
	}
	return "upnp"
}

// decided counts an answer.
func (m *Metrics) decided(r *portmap.Request, a *portmap.Answer) {
	operation := "open"
	if r.Op == portmap.Close {
		operation = "close"
	}
	m.requests.Inc(originValue(r.Origin), operation)
	if a.Refusal != portmap.Granted {
		m.refusals.Inc(originValue(r.Origin), a.Refusal.Slug())
	}
}

// waited counts the time that a request has waited for its answer.
func (m *Metrics) waited(d time.Duration) { m.tableTime.Observe(d) }

// repaired counts a repair.
func (m *Metrics) repaired(f portmap.Family) { m.repairs.Inc(familyValue(f)) }

// written counts a write of the lease file, or a change that could not be saved.
func (m *Metrics) written(err error) {
	if err != nil {
		m.leaseFailures.Inc()
		return
	}
	m.leaseWrites.Inc()
}

// timedFirewall is a firewall whose transactions are timed and counted.
type timedFirewall struct {
	portmap.Firewall
	metrics *Metrics
}

// Apply carries out all changes or none of them.
func (f timedFirewall) Apply(ctx context.Context, changes []portmap.Change) error {
	began := time.Now()
	err := f.Firewall.Apply(ctx, changes)
	f.observe(changes, began)
	if err != nil && ctx.Err() == nil && !errors.Is(err, portmap.ErrNoRules) {
		f.metrics.failures.Inc(familyOf(changes))
	}
	return err
}

// Force takes over changes that are in force whatever the kernel does.
func (f timedFirewall) Force(ctx context.Context, changes []portmap.Change) {
	began := time.Now()
	f.Firewall.Force(ctx, changes)
	f.observe(changes, began)
}

// observe counts the time of a transaction.
func (f timedFirewall) observe(changes []portmap.Change, began time.Time) {
	f.metrics.firewallTime.Observe(time.Since(began), familyOf(changes))
}

// familyOf returns the family of changes, which is the same for all, as the value of a
// label.
func familyOf(changes []portmap.Change) string {
	switch {
	case len(changes) == 0:
		return familyValue(portmap.IPv4)
	case changes[0].After != nil:
		return familyValue(changes[0].After.Family())
	}
	return familyValue(changes[0].Before.Family())
}

// metricsText returns all metrics in Prometheus' text format.
func (d *Daemon) metricsText() string {
	health := d.health() // may take a while: not under the registry's lock
	return d.metrics.registry.Text(func() {
		m := d.metrics
		m.process.Update()
		m.started.Set(float64(d.started.Unix()))
		m.helperUp.SetBool(d.helper() == nil)
		m.uplinkUp.SetBool(d.table.External().IsValid())
		m.leasesSaved.Clear()
		if d.config.LeaseFile != "" {
			m.leasesSaved.SetBool(d.leaseTrouble() == nil)
		}
		m.limit.Clear()
		if limit := d.currentPolicy().MaxTotal; limit > 0 {
			m.limit.Set(float64(limit))
		}
		list := d.table.List()
		m.countMappings(list)
		m.countForwardings(d.upstreamStatus(), list)
		m.countPorts(d.portCount())
		m.blocks.Set(float64(len(d.table.Blocks())))
		m.healthy.Clear()
		for _, h := range health {
			m.healthy.SetBool(h.IsHealthy(), familyValue(h.Family))
		}
	})
}

// countMappings sets the metrics of the mappings.
func (m *Metrics) countMappings(list []*portmap.Mapping) {
	m.mappings.Fill(0)
	clients := make(map[netip.Addr]bool)
	for _, n := range list {
		clients[n.Internal.Addr()] = true
		m.mappings.Add(1, protocolValue(n.Protocol), familyValue(n.Family()), stateOf(n))
	}
	m.clients.Set(float64(len(clients)))
}

// countForwardings sets the metrics of the router in front; nil: none is asked.
func (m *Metrics) countForwardings(u *control.Upstream, list []*portmap.Mapping) {
	m.upstreamUp.Clear()
	m.forwardings.Clear()
	if u == nil {
		return
	}
	m.upstreamUp.SetBool(u.Protocol != "" && u.Trouble == "")
	m.forwardings.Fill(0)
	for _, n := range list {
		if s := n.Forwarding.State; s != portmap.NotAsked {
			m.forwardings.Add(1, s.Slug())
		}
	}
}

// countPorts sets the metrics of the ports that the provider forwards; nil: every port.
func (m *Metrics) countPorts(c *control.PortCount) {
	m.freePorts.Clear()
	if c != nil {
		m.freePorts.Set(float64(c.FreeTCP), "tcp")
		m.freePorts.Set(float64(c.FreeUDP), "udp")
	}
}

// protocolValue returns a protocol as the value of a label.
func protocolValue(p portmap.Protocol) string {
	if p == portmap.TCP {
		return "tcp"
	}
	return "udp"
}

// stateOf returns the state of a mapping as the value of a label. One that is outbound
// alone is active.
func stateOf(m *portmap.Mapping) string {
	switch {
	case m.Dormant:
		return "dormant"
	case m.Inbound() && !m.Enabled():
		return "disabled"
	}
	return "active"
}
