// Package daemon wires the packages into one service and starts and stops them in
// order.
package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"igdd/pkg/clock"
	"igdd/pkg/config"
	"igdd/pkg/event"
	"igdd/pkg/hosts"
	"igdd/pkg/identity"
	"igdd/pkg/lan"
	"igdd/pkg/leasefile"
	"igdd/pkg/netfilter"
	"igdd/pkg/netif"
	"igdd/pkg/notify"
	"igdd/pkg/pcpd"
	"igdd/pkg/portmap"
	"igdd/pkg/ssdp"
	"igdd/pkg/ssdpd"
	"igdd/pkg/stun"
	"igdd/pkg/upnpd"
	"igdd/pkg/upstream"
	"igdd/pkg/xtables"
)

// Options configure a Daemon.
type Options struct {
	Config  *config.Config
	Version string // of the program
	// IPv6Tables are those of IPv6 if DetectIPv6 has listed them.
	IPv6Tables xtables.Snapshot
	// Forwards are the static port forwards that the previous instance knew: a
	// firewall that is starting may not have restored them yet.
	Forwards []portmap.Forward
	// Unsaved is what the previous instance has if it could not save everything;
	// nil: the lease file has them.
	Unsaved *Inheritance
	// Dormant are the mappings of the previous instance, and whether they were dormant;
	// nil: there is none.
	Dormant map[portmap.Key]bool
	// Events takes all events, and has those of previous instances; nil: a new feed.
	Events *event.Feed
	// Outdated is called when the settings should be read again, because the system
	// has enabled or disabled IPv6. It may be nil.
	Outdated func()
	// Notify runs the notification program; nil: notify.Run.
	Notify func(ctx context.Context, command string, values []string) error
	// HelperErr returns an error if the process has lost its helper.
	HelperErr func() error
	// Covered returns why the daemon does not write to the lease file that other
	// programs see, nil if it does. It may be nil.
	Covered func() error
	// Metrics are those of the process.
	Metrics *Metrics
	Log     *slog.Logger
}

// Daemon is the running service for one configuration.
type Daemon struct {
	config   *config.Config
	version  string
	helper   func() error // Options.HelperErr
	events   *event.Feed
	metrics  *Metrics
	log      *slog.Logger
	started  time.Time
	watch    *netif.Watcher
	uplink   *uplinkChooser
	ports    *netif.Ports
	clock    *clock.Watcher
	firewall *netfilter.Firewall
	store    *leasefile.TimedStore
	unsaved  *Inheritance         // what Run could not save; nil: it could
	dormant  map[portmap.Key]bool // Options.Dormant
	covered  func() error         // Options.Covered
	barred   error                // why the leases could not be saved before privileges were dropped; nil: they could
	forwards *forwards
	table    *portmap.Table
	finder   *hosts.Finder
	lanHosts *lan.Hosts
	resolver *identity.Resolver // the table as the servers see it
	ipv6     *ipv6Watch
	pinholes atomic.Bool // a look at the IPv6 tables has succeeded

	// The servers of the protocols that are enabled; the others are nil.
	pcp  *pcpd.Server
	http *upnpd.Server
	ssdp *ssdpd.Server

	// nil if not configured.
	notify   *notify.Runner
	stun     *stun.Follower
	upstream *upstream.Client
	hosts    *hosts.Watcher

	asked   upstream.Gateway // that upstream was told last; for followUplink alone
	updates *pacer           // of the PCP clients whose ports the router in front forwards otherwise

	mu          sync.Mutex // guards what follows
	policy      *portmap.Policy
	stunAddr    netip.Addr    // the router's address as the STUN server sees it
	outerAddr   netip.Addr    // the external address of the router in front
	connectedAt time.Time     // when the external address appeared; zero: there is none
	wake        chan struct{} // forwards, stunAddr or outerAddr have changed; capacity 1
}

// New prepares the service: it reads the state of the links and sets up chains and
// jumps. Run starts it.
func New(o Options) (*Daemon, error) {
	c := o.Config
	d := &Daemon{
		config: c, version: o.Version, helper: o.HelperErr, events: cmp.Or(o.Events, event.NewFeed()), dormant: o.Dormant, metrics: o.Metrics, log: o.Log, started: time.Now(),
		policy: &c.Policy, wake: make(chan struct{}, 1),
	}
	if err := d.openKernel(o.IPv6Tables); err != nil {
		return nil, err
	}
	d.forwards = &forwards{
		uplink: d.forwardUplink, look: d.firewall.Look, changed: d.wakeUplink,
		current: forwardList{list: o.Forwards}, log: d.log,
	}
	d.ipv6 = &ipv6Watch{
		config: c, stopped: d.firewall.Stopped, outdated: o.Outdated, log: d.log, looks: make(chan netfilter.Look, 1),
	}
	d.store = leasefile.NewTimed(leasefile.Options{Path: c.LeaseFile, Delay: c.SaveDelay, Written: d.metrics.written, Log: d.log})
	d.barred, d.covered = d.store.Trouble(), o.Covered
	d.setUpChains()
	if err := d.prepareOptional(o); err != nil {
		return nil, err
	}
	links, _ := d.watch.Now()
	state, known := d.networkState(links)
	d.table = portmap.NewTable(portmap.Options{
		Policy:     &c.Policy,
		Firewall:   timedFirewall{forwardChecker{d.firewall, d.forwards}, d.metrics},
		Store:      inheritingStore{d.store, o.Unsaved},
		Upstream:   d.tableUpstream(),
		Network:    state,
		Uptime:     clock.Uptime,
		Listening:  d.listening,
		Listeners:  d.listeners,
		FlowPort:   flowPort,
		Committed:  d.onCommit,
		Lost:       d.onLoss,
		Skipped:    d.emitSkipped,
		BlockEnded: d.onBlockEnd,
		Decided:    d.onDecision,
		Waited:     d.metrics.waited,
		Log:        d.log,
	})
	d.forwards.noteDelivered(known)
	d.prepareHosts()
	return d, d.prepareServers()
}

// prepareHosts makes the parts that tell hosts apart.
func (d *Daemon) prepareHosts() {
	d.finder = &hosts.Finder{Leases: d.config.DHCPLeases, Log: d.log}
	d.lanHosts = lan.NewHosts(d.finder, d.log)
	if len(d.config.Routes) > 0 { // otherwise no datagram pays for the question
		d.finder.Routed, d.lanHosts.Routed = d.routedBy, d.routedBy
	}
	d.resolver = d.newResolver()
	d.hideHosts()
}

// openKernel subscribes to the kernel's notices and opens the firewall.
func (d *Daemon) openKernel(ipv6 xtables.Snapshot) (err error) {
	d.ports = netif.NewPorts()
	if d.watch, err = netif.Watch(); err != nil {
		return err
	}
	if d.clock, err = clock.Watch(); err != nil {
		return err
	}
	links, _ := d.watch.Now()
	d.uplink = newUplinkChooser(d.config.WAN, gatewayReader(d.config), links, d.log)
	o := firewallOptions(d.config, d.log)
	o.IPv6Tables, o.Network, o.Looked, o.Repaired = ipv6, d.network, d.looked, d.onRepair
	d.firewall, err = netfilter.New(o)
	return err
}

// outboundOptions are the firewall's options for the setting.
var outboundOptions = [...]netfilter.Outbound{
	config.OutboundAuto: netfilter.OutboundAuto, config.OutboundAlways: netfilter.OutboundAlways, config.OutboundNever: netfilter.OutboundNever,
}

// firewallOptions returns the options of the firewall that the settings give.
func firewallOptions(c *config.Config, log *slog.Logger) netfilter.Options {
	return netfilter.Options{
		WAN:              c.WAN,
		WAN6:             uplinks6(c),
		NATChain:         c.NATChain,
		ForwardChain:     c.ForwardChain,
		PostroutingChain: c.PostroutingChain,
		Outbound:         outboundOptions[c.Outbound],
		IPv6:             c.IPv6,
		Hairpin:          c.Hairpin,
		OwnershipFile:    ownershipFile(c.PIDFile),
		Log:              log,
	}
}

// setupTimeout is how long a start waits for chains and jumps.
const setupTimeout = 15 * time.Second

// setUpChains creates chains and jumps. If that fails or hangs the daemon still
// starts, and refuses requests until it succeeds: the firewall may start later.
func (d *Daemon) setUpChains() {
	result := make(chan error, 1)
	go func() { result <- d.firewall.Setup() }()
	err := errors.New("a program of iptables hangs")
	select {
	case err = <-result:
	case <-time.After(setupTimeout):
	}
	if err != nil {
		d.log.Error("chains are not in place; requests are refused until they are", "err", err)
	}
}

// wakeUplink makes followUplink read the state again.
func (d *Daemon) wakeUplink() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// listening reports whether one of the router's own programs listens on the port, at
// any address of the uplinks: the rules of a mapping are for all of them.
func (d *Daemon) listening(p portmap.Protocol, port uint16) bool {
	if d.http != nil && p == portmap.TCP && port == d.http.HTTPPort() || d.ssdp != nil && p == portmap.UDP && port == ssdp.Port {
		return true // the daemon's, although bound to the LAN
	}
	taken := func(a netip.Addr) bool { return d.ports.Taken(strings.ToLower(p.String()), a, port) }
	if addrs := d.forwardUplink().Addrs; len(addrs) > 0 {
		return slices.ContainsFunc(addrs, taken)
	}
	return taken(netip.Addr{})
}

// listeners returns the ports for which listening is true.
func (d *Daemon) listeners(p portmap.Protocol) *portmap.PortSet {
	ports := new(portmap.PortSet)
	if d.http != nil && p == portmap.TCP {
		ports.Add(d.http.HTTPPort())
	}
	if d.ssdp != nil && p == portmap.UDP {
		ports.Add(ssdp.Port)
	}
	addrs := d.forwardUplink().Addrs
	if len(addrs) == 0 {
		addrs = []netip.Addr{{}}
	}
	for _, a := range addrs {
		for _, port := range netif.Listening(strings.ToLower(p.String()), a) {
			ports.Add(port)
		}
	}
	return ports
}

// flowPort returns the external port that the kernel has assigned to a flow.
func flowPort(p portmap.Protocol, from, to netip.AddrPort) (uint16, bool) {
	return netif.FlowPort(strings.ToLower(p.String()), from, to)
}

// onCommit is called for every change that is in force.
func (d *Daemon) onCommit(changes []portmap.Change, reset bool) {
	if reset && d.pcp != nil {
		d.pcp.Announce()
	}
	if d.http != nil {
		d.http.Changed()
	}
	d.updateClients(changes)
	if !d.restoring() {
		d.emitChanges(changes)
	}
	d.firewall.Refresh(changes)
	d.resolver.Committed(changes)
	d.hosts.Wake()
}

// onLoss is called for mappings that new settings or another network state have
// closed.
func (d *Daemon) onLoss(losses []portmap.Loss) {
	if d.pcp != nil {
		d.pcp.Lost(losses)
	}
}

// restoring reports whether the table is restoring stored mappings, which is no
// event.
func (d *Daemon) restoring() bool {
	select {
	case <-d.table.Started():
		return false
	default:
		return true
	}
}

// Run serves until ctx ends. It calls ready once: with nil as soon as the servers
// listen on all LAN interfaces that exist, or with the error that prevents it.
func (d *Daemon) Run(ctx context.Context, ready func(error)) error {
	// The store outlives the table, so that every mapping that was granted is saved.
	// The table stops with the servers: it drops requests that the kernel has not
	// committed by then, and they get no answer.
	storing, closeStore := context.WithCancel(context.WithoutCancel(ctx))
	defer closeStore()
	servers, serving := errgroup.WithContext(ctx)

	var state errgroup.Group
	state.Go(func() error { return task{"lease file", d.store.Run}.Run(storing) })
	tableDone := make(chan struct{})
	state.Go(func() error { defer close(tableDone); return task{"table", d.table.Run}.Run(serving) })
	<-d.table.Started()
	d.emitStates(d.table.List())
	if err := d.leaseTrouble(); err != nil && !d.isLogged(err) {
		d.log.Error("leases are not saved; mappings work, but a restart loses them", "path", d.config.LeaseFile, "err", err)
	}
	d.log.Info(fmt.Sprintf("version %s starting ext if %s", d.version, strings.Join(d.config.WAN, ", ")))

	for _, task := range d.tasks(ready) {
		servers.Go(func() error { return task.Run(serving) })
	}
	err := servers.Wait()

	d.log.Log(ctx, portmap.LevelNotice, "shutting down MiniUPnPd")
	<-tableDone
	if d.store.Checkpoint() != nil { // logged
		d.unsaved = d.inheritance()
	}
	closeStore()
	d.finder.Close()
	d.ports.Close()
	return errors.Join(err, state.Wait())
}

// tasks returns the tasks that run beside the table and its store.
func (d *Daemon) tasks(ready func(error)) []task {
	servers := &supervisor{
		watch: d.watch, lans: d.config.LANs, uplinks: uplinks(d.config), routes: d.missingRoutes,
		servers: d.servers(), log: d.log, ready: ready,
	}
	tasks := []task{
		{"interfaces", d.watch.Run},
		{"uplink", d.followUplink},
		{"firewall", d.firewall.Run},
		{"clock", d.followClock},
		{"hosts", d.hosts.Run},
		{"host identities", d.resolver.Run},
		{"servers", servers.Run},
	}
	if d.config.IPv6Auto {
		tasks = append(tasks, task{"IPv6", d.ipv6.Run})
	}
	if d.http != nil {
		tasks = append(tasks, task{"UPnP events", d.http.Run})
	}
	if d.notify != nil {
		tasks = append(tasks, task{"notification program", d.notify.Run})
	}
	if d.stun != nil {
		tasks = append(tasks, task{"STUN", d.stun.Run})
	}
	if d.upstream != nil {
		tasks = append(tasks, task{"router in front", d.upstream.Run})
	}
	if d.config.ControlSocket != "" {
		tasks = append(tasks, task{"control socket", d.serveOperator})
	}
	return tasks
}

// followClock saves the leases with their new times when the clock is set.
func (d *Daemon) followClock(ctx context.Context) error {
	return d.clock.Run(ctx, func() {
		if err := d.store.Checkpoint(); err != nil {
			d.log.Error("the clock was set: cannot save the leases with their new times", "err", err)
		}
	})
}

// followUplink tells the table and the servers of changes to links and addresses.
func (d *Daemon) followUplink(ctx context.Context) error {
	announced := d.table.External()
	d.noteUplink(announced)
	first := d.uplinkEvent(announced)
	first.Log(d.log) // nothing has changed yet
	network := d.network()
	for {
		links, changed := d.watch.Now()
		d.uplink.update(links)
		d.forwards.updateOnMove(ctx)
		if now := d.network(); !now.HasSameLinks(network) {
			network = now
			d.firewall.Wake() // where jumps can stand depends on them
		}
		state, known := d.networkState(links)
		if err := d.table.SetNetworkState(ctx, state); err != nil {
			return nil // the context has ended
		}
		d.forwards.noteDelivered(known)
		d.followRouter()
		if state.External != announced {
			announced = state.External
			d.metrics.uplinkChanges.Inc()
			d.noteUplink(announced)
			d.emit(d.uplinkEvent(announced))
			if d.pcp != nil {
				d.pcp.Announce()
			}
		}
		if d.http != nil {
			d.http.Changed()
			d.ssdp.Changed()
		}
		if d.stun != nil {
			d.stun.Refresh()
		}
		if !d.uplink.await(ctx, changed, d.wake, d.watch.RouteChanged()) {
			return nil
		}
	}
}

// noteUplink notes since when there is an address that clients are told.
func (d *Daemon) noteUplink(a netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !a.IsValid() {
		d.connectedAt = time.Time{}
	} else if d.connectedAt.IsZero() {
		d.connectedAt = time.Now()
	}
}

// Reload applies new settings if they differ in the policy alone. It reports false
// if they need a new instance.
func (d *Daemon) Reload(ctx context.Context, c *config.Config) bool {
	if !d.config.SameService(c) {
		return false
	}
	d.mu.Lock()
	d.policy = &c.Policy
	d.mu.Unlock()
	if d.resolver.SetPolicy(ctx, &c.Policy) != nil {
		return false
	}
	for _, w := range c.Warnings {
		d.log.Warn(w)
	}
	d.firewall.Wake()
	return true
}

// Forwards returns the static port forwards that are known.
func (d *Daemon) Forwards() []portmap.Forward {
	list, _ := d.forwards.list()
	return list
}

// Announce announces the gateway to its clients again (SIGUSR1).
func (d *Daemon) Announce() {
	if d.pcp != nil {
		d.pcp.Announce()
	}
	if d.ssdp != nil {
		d.ssdp.Announce()
	}
}
