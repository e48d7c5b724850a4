// Package daemon puts the rooms together: it says which belong to each other
// and in which order they start and stop.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"igdd/pkg/config"
	"igdd/pkg/leasefile"
	"igdd/pkg/netfilter"
	"igdd/pkg/netif"
	"igdd/pkg/pcpd"
	"igdd/pkg/portmap"
)

// Daemon is the running service for one configuration.
type Daemon struct {
	config   *config.Config
	log      *slog.Logger
	watch    *netif.Watcher
	firewall *netfilter.Firewall
	store    *leasefile.Store
	table    *portmap.Table
	pcp      *pcpd.Server

	mu       sync.Mutex // guards forwards
	forwards []portmap.Forward
	learned  chan struct{} // forwards are others than before
}

// New prepares the service: it reads the state of the links and makes sure
// that chains and jumps stand. Run starts it.
func New(c *config.Config, log *slog.Logger) (*Daemon, error) {
	d := &Daemon{config: c, log: log, learned: make(chan struct{}, 1)}
	var err error
	if d.watch, err = netif.Watch(); err != nil {
		return nil, err
	}
	d.firewall, err = netfilter.New(netfilter.Options{
		WAN:              c.WAN,
		NATChain:         c.NATChain,
		ForwardChain:     c.ForwardChain,
		PostroutingChain: c.PostroutingChain,
		IPv6:             c.IPv6,
		Log:              log,
	})
	if err != nil {
		return nil, err
	}
	d.store = leasefile.New(leasefile.Options{Path: c.LeaseFile, Log: log})
	d.setUpChains()
	links, _ := d.watch.Now()
	d.table = portmap.NewTable(portmap.Options{
		Policy:       &c.Policy,
		Firewall:     d.firewall,
		Store:        d.store,
		Surroundings: surroundings(c, links, d.forwards),
		Listening:    d.listening,
		Committed:    d.committed,
		Log:          log,
	})
	d.pcp = pcpd.New(pcpd.Options{
		NATPMP:     c.NATPMP,
		PCP:        c.PCP,
		IPv6:       c.IPv6,
		ThirdParty: c.ThirdParty,
		Peer:       c.Peer,
		Desk:       d.table,
		Log:        log,
	})
	return d, nil
}

// setUpChains makes chains and jumps. Without them the daemon still starts:
// they may come with the firewall later, and requests are refused until then.
func (d *Daemon) setUpChains() {
	if err := d.firewall.Setup(); err != nil {
		d.log.Error("chains are not in place, mappings will fail until they are", "err", err)
	}
	d.learnForwards()
}

// learnForwards reads which ports the administrator's firewall forwards.
func (d *Daemon) learnForwards() {
	forwards, err := d.firewall.StaticForwards()
	if err != nil {
		d.log.Warn("the firewall's own port forwards are not known", "err", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if slices.Equal(forwards, d.forwards) {
		return
	}
	d.forwards = forwards
	select {
	case d.learned <- struct{}{}:
	default:
	}
}

// TakeDownChains removes the chains and jumps that the daemon made; those of
// others it leaves alone, who may be at it this moment (AST-108).
func (d *Daemon) TakeDownChains() {
	if err := d.firewall.Teardown(); err != nil {
		d.log.Error("chains are still there", "err", err)
	}
}

// listening returns the ports that the router's own programs need.
func (d *Daemon) listening(p portmap.Protocol) []uint16 {
	links, _ := d.watch.Now()
	return netif.Listening(strings.ToLower(p.String()), external(d.config, links))
}

// committed hears of every change that is in force.
func (d *Daemon) committed(_ []portmap.Change, reset bool) {
	if reset {
		d.pcp.Announce()
	}
}

// Run serves until ctx ends. It calls ready once: with nil as soon as clients
// are answered on all LAN interfaces that exist, or with what prevents it.
func (d *Daemon) Run(ctx context.Context, ready func(error)) error {
	// The table outlives the servers, and the store the table, so that
	// nothing is granted that is not written down.
	storing, closeStore := context.WithCancel(context.WithoutCancel(ctx))
	deciding, closeTable := context.WithCancel(storing)
	defer closeStore()
	defer closeTable()

	var back errgroup.Group
	back.Go(func() error { return d.store.Run(storing) })
	tableDone := make(chan struct{})
	back.Go(func() error { defer close(tableDone); return d.table.Run(deciding) })
	<-d.table.Started()

	front, serving := errgroup.WithContext(ctx)
	front.Go(func() error { return d.watch.Run(serving) })
	front.Go(func() error { return d.followUplink(serving) })
	front.Go(func() error { return d.guardFirewall(serving) })
	follow := &follower{watch: d.watch, lans: d.config.LANs, open: d.servers(), log: d.log, ready: ready}
	front.Go(func() error { return follow.Run(serving) })
	err := front.Wait()

	d.log.Log(ctx, portmap.LevelNotice, "shutting down MiniUPnPd")
	closeTable()
	<-tableDone
	closeStore()
	return errors.Join(err, back.Wait())
}

// servers returns what listens on each LAN interface.
func (d *Daemon) servers() map[string]opener {
	return map[string]opener{
		"NAT-PMP/PCP": func(l *lan) (listener, error) { return d.pcp.Listen(l) },
	}
}

// followUplink keeps the table informed about links and addresses.
func (d *Daemon) followUplink(ctx context.Context) error {
	announced := d.table.External()
	d.describeUplink(announced)
	for {
		links, changed := d.watch.Now()
		d.mu.Lock()
		s := surroundings(d.config, links, d.forwards)
		d.mu.Unlock()
		if err := d.table.SetSurroundings(ctx, s); err != nil {
			return nil // the context has ended
		}
		if s.External != announced {
			announced = s.External
			d.describeUplink(announced)
			d.pcp.Announce()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-d.learned:
		}
	}
}

// describeUplink logs what clients are told of the uplink, in the words that
// log readers know.
func (d *Daemon) describeUplink(a netip.Addr) {
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
	d.setUpChains()
	return d.table.SetPolicy(ctx, &c.Policy) == nil
}

// Announce tells clients again that the gateway is here (SIGUSR1).
func (d *Daemon) Announce() { d.pcp.Announce() }
