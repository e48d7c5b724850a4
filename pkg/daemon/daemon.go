// Package daemon puts the rooms together: it says which belong to each other
// and in which order they start and stop.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"igdd/pkg/clock"
	"igdd/pkg/config"
	"igdd/pkg/hosts"
	"igdd/pkg/identity"
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
)

// Options are what a Daemon is made of.
type Options struct {
	Config  *config.Config
	Version string // of the program
	// Forwards are those that the service before this one knew: the firewall may
	// be starting just now, and have lost them for a moment.
	Forwards []portmap.Forward
	// Outdated is called when the settings, read again, would come to something
	// else: the system has switched IPv6 on or off. It may be nil.
	Outdated func()
	Log      *slog.Logger
}

// Daemon is the running service for one configuration.
type Daemon struct {
	config     *config.Config
	version    string
	log        *slog.Logger
	started    time.Time
	watch      *netif.Watcher
	ports      *netif.Ports
	clock      *clock.Watcher
	firewall   *netfilter.Firewall
	store      *leasefile.Store
	forwards   *forwards
	table      *portmap.Table
	resolver   *identity.Resolver // what the servers see of the table
	reconciler *reconciler

	// The servers of what is switched on; the others are nil.
	pcp  *pcpd.Server
	http *upnpd.Server
	ssdp *ssdpd.Server

	// What is done beside serving, if it is configured; else nil.
	notify *notify.Runner
	stun   *stun.Follower
	hosts  *hosts.Watcher

	mu          sync.Mutex // guards what follows
	policy      *portmap.Policy
	stunAddr    netip.Addr    // as the STUN server sees the router
	connectedAt time.Time     // when there came to be an external address
	wake        chan struct{} // forwards or outside are others than before
}

// New prepares the service: it reads the state of the links and makes sure
// that chains and jumps stand. Run starts it.
func New(o Options) (*Daemon, error) {
	c := o.Config
	d := &Daemon{
		config: c, version: o.Version, log: o.Log, started: time.Now(),
		policy: &c.Policy, wake: make(chan struct{}, 1),
	}
	if err := d.openKernel(); err != nil {
		return nil, err
	}
	d.store = leasefile.New(leasefile.Options{Path: c.LeaseFile, Delay: c.SaveDelay, Log: d.log})
	d.forwards = &forwards{
		read: d.firewall.StaticForwards, uplink: d.forwardUplink, changed: d.wakeUplink,
		current: forwardList{list: o.Forwards}, log: d.log,
	}
	d.setUpChains()
	if err := d.prepareOptional(); err != nil {
		return nil, err
	}
	links, _ := d.watch.Now()
	around, known := d.networkState(links)
	d.table = portmap.NewTable(portmap.Options{
		Policy:    &c.Policy,
		Firewall:  forwardChecker{d.firewall, d.forwards},
		Store:     d.store,
		Network:   around,
		Listening: d.listening,
		FlowPort:  flowPort,
		Committed: d.onCommit,
		Decided:   d.onDecision,
		Log:       d.log,
	})
	d.forwards.noteDelivered(known)
	d.resolver = d.newResolver()
	ipv6 := &ipv6Watch{config: c, stopped: d.firewall.Stopped, outdated: o.Outdated}
	d.reconciler = &reconciler{
		firewall: d.firewall, table: d.table, readForwards: d.forwards.update, checkIPv6: ipv6.check,
		changed: make(chan struct{}, 1), log: d.log,
	}
	return d, d.prepareServers()
}

// openKernel begins to listen to the kernel and finds the firewall.
func (d *Daemon) openKernel() (err error) {
	d.ports = netif.NewPorts()
	if d.watch, err = netif.Watch(); err != nil {
		return err
	}
	if d.clock, err = clock.Watch(); err != nil {
		return err
	}
	d.firewall, err = netfilter.New(netfilter.Options{
		WAN:              d.config.WAN,
		WAN6:             uplinks6(d.config),
		NATChain:         d.config.NATChain,
		ForwardChain:     d.config.ForwardChain,
		PostroutingChain: d.config.PostroutingChain,
		IPv6:             d.config.IPv6,
		OwnershipFile:    ownershipFile(d.config.PIDFile),
		Log:              d.log,
	})
	return err
}

// setUpChains makes chains and jumps. Without them the daemon still starts:
// they may come with the firewall later, and requests are refused until then.
func (d *Daemon) setUpChains() {
	if err := d.firewall.Setup(); err != nil {
		d.log.Error("chains are not in place, mappings will fail until they are", "err", err)
	}
	d.forwards.update(time.Now())
}

// wakeUplink makes followUplink look again.
func (d *Daemon) wakeUplink() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// listening reports whether one of the router's own programs needs the port.
func (d *Daemon) listening(p portmap.Protocol, port uint16) bool {
	if d.http != nil && p == portmap.TCP && port == d.http.Port || d.ssdp != nil && p == portmap.UDP && port == ssdp.Port {
		return true // ours, though bound to the LAN
	}
	links, _ := d.watch.Now()
	_, own := externalLink(d.config.WAN, links)
	return d.ports.Taken(strings.ToLower(p.String()), own, port)
}

// flowPort returns the external port that the kernel has given a flow.
func flowPort(p portmap.Protocol, from, to netip.AddrPort) (uint16, bool) {
	return netif.FlowPort(strings.ToLower(p.String()), from, to)
}

// onCommit hears of every change that is in force.
func (d *Daemon) onCommit(changes []portmap.Change, reset bool) {
	if reset && d.pcp != nil {
		d.pcp.Announce()
	}
	if d.http != nil {
		d.http.Changed()
	}
	if d.notify != nil && !d.restoring() {
		d.notify.Committed(changes)
	}
	d.resolver.Committed(changes)
	d.hosts.Wake()
}

// restoring reports whether the table takes over what was stored, which is no
// news to the notification program.
func (d *Daemon) restoring() bool {
	select {
	case <-d.table.Started():
		return false
	default:
		return true
	}
}

// onDecision hears of every answer.
func (d *Daemon) onDecision(r portmap.Request, a portmap.Answer) {
	if d.notify != nil {
		d.notify.Decided(r, a)
	}
}

// Run serves until ctx ends. It calls ready once: with nil as soon as clients
// are answered on all LAN interfaces that exist, or with what prevents it.
func (d *Daemon) Run(ctx context.Context, ready func(error)) error {
	// The store outlives the table, so that nothing is granted that is not
	// written down. The table stops with the servers: what the kernel has not
	// done by then is given up, and nobody was told that it is done.
	storing, closeStore := context.WithCancel(context.WithoutCancel(ctx))
	defer closeStore()
	front, serving := errgroup.WithContext(ctx)

	var back errgroup.Group
	back.Go(func() error { return task{"lease file", d.store.Run}.Run(storing) })
	tableDone := make(chan struct{})
	back.Go(func() error { defer close(tableDone); return task{"table", d.table.Run}.Run(serving) })
	<-d.table.Started()
	d.log.Info(fmt.Sprintf("version %s starting ext if %s", d.version, strings.Join(d.config.WAN, ", ")))

	for _, task := range d.tasks(ready) {
		front.Go(func() error { return task.Run(serving) })
	}
	err := front.Wait()

	d.log.Log(ctx, portmap.LevelNotice, "shutting down MiniUPnPd")
	<-tableDone
	closeStore()
	return errors.Join(err, back.Wait())
}

// tasks returns what is done at the same time while the service runs.
func (d *Daemon) tasks(ready func(error)) []task {
	servers := &supervisor{watch: d.watch, lans: d.config.LANs, uplinks: uplinks(d.config), servers: d.servers(), log: d.log, ready: ready}
	tasks := []task{
		{"interfaces", d.watch.Run},
		{"uplink", d.followUplink},
		{"firewall", d.reconciler.Run},
		{"clock", d.followClock},
		{"hosts", d.hosts.Run},
		{"host identities", d.resolver.Run},
		{"servers", servers.Run},
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
	if d.config.ControlSocket != "" {
		tasks = append(tasks, task{"control socket", d.serveOperator})
	}
	return tasks
}

// followClock has the lease file say true times after somebody set the clock.
func (d *Daemon) followClock(ctx context.Context) error {
	return d.clock.Run(ctx, func() {
		if err := d.store.Checkpoint(); err != nil {
			d.log.Error("the clock was set, but leases cannot be written with true times", "err", err)
		}
	})
}

// followUplink keeps the table and the servers informed about links and
// addresses.
func (d *Daemon) followUplink(ctx context.Context) error {
	announced := d.table.External()
	d.noteUplink(announced)
	for {
		links, changed := d.watch.Now()
		if d.forwards.updateOnMove() {
			d.reconciler.wake()
		}
		s, known := d.networkState(links)
		if err := d.table.SetNetworkState(ctx, s); err != nil {
			return nil // the context has ended
		}
		d.forwards.noteDelivered(known)
		if s.External != announced {
			announced = s.External
			d.noteUplink(announced)
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
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-d.wake:
		}
	}
}

// noteUplink notes since when there is an address, and logs what clients are
// told of the uplink, in the words that log readers know.
func (d *Daemon) noteUplink(a netip.Addr) {
	d.mu.Lock()
	if !a.IsValid() {
		d.connectedAt = time.Time{}
	} else if d.connectedAt.IsZero() {
		d.connectedAt = time.Now()
	}
	d.mu.Unlock()
	name := strings.Join(d.config.WAN, ", ")
	switch {
	case !a.IsValid():
		d.log.Warn(fmt.Sprintf("ext interface %s has no IPv4 address. Network is down", name))
	case config.Reserved(a):
		d.log.Warn(fmt.Sprintf("Reserved / private IP address %v on ext interface %s: ports are forwarded, but another router in front may hide them", a, name))
	default:
		d.log.Info(fmt.Sprintf("Public IP address %v on ext interface %s: Port forwarding is enabled", a, name))
	}
}

// Reload puts new settings in force where they are the administrator's rules;
// it reports false when only a new service can.
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
	d.setUpChains() // last: it may have to wait for the firewall
	d.reconciler.wake()
	return true
}

// Forwards returns the port forwards of the administrator's that are known.
func (d *Daemon) Forwards() []portmap.Forward {
	list, _ := d.forwards.list()
	return list
}

// Announce tells clients again that the gateway is here (SIGUSR1).
func (d *Daemon) Announce() {
	if d.pcp != nil {
		d.pcp.Announce()
	}
	if d.ssdp != nil {
		d.ssdp.Announce()
	}
}
