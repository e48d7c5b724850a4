package hosts

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// pollInterval is how often hosts with mappings are checked: longer than the kernel
// takes to give up on a neighbour that does not answer. If more hosts than maxAdditions
// are not in its table, the check goes on after stepPause.
const (
	pollInterval = 5 * time.Minute
	stepPause    = 2 * resolveTime
)

// Options configure a Watcher.
type Options struct {
	// Leases is the path of dnsmasq's leases file; it may be empty.
	Leases string
	// Grace is how long a host may be absent before Withdraw is called, give or
	// take a few minutes; 0: for ever.
	Grace time.Duration
	// Clients returns the hosts that hold mappings.
	Clients func() []netip.Addr
	// Index returns the index of the interface that a host is behind; 0: none.
	Index func(netip.Addr) int
	// Withdraw is called in each round for every host that has been absent for
	// longer than Grace.
	Withdraw func(netip.Addr)
	Log      *slog.Logger
}

// Watcher notices when hosts that hold mappings have left. It does nothing while
// there are no mappings.
type Watcher struct {
	options Options
	read    func(leases string) (map[netip.Addr]Host, error)
	probe   func(host netip.Addr, index int) error
	links   func() map[int]bool // indexes of the links without hardware addresses
	wake    chan struct{}

	missing map[netip.Addr]absence
	rest    []netip.Addr // the clients that are still to be checked in this round
}

// absence says since when a client has not answered.
type absence struct {
	since  time.Time
	logged bool
}

// NewWatcher returns a Watcher; Run starts it.
func NewWatcher(o Options) *Watcher {
	return &Watcher{
		options: o, read: Read, probe: Probe, links: readUnaddressed,
		wake: make(chan struct{}, 1), missing: make(map[netip.Addr]absence),
	}
}

// Wake makes Run check for mappings. It never blocks.
func (w *Watcher) Wake() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run checks the clients until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	var next <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.wake:
			if next != nil {
				continue // the next round is scheduled
			}
		case <-next:
			w.poll(time.Now())
		}
		next = w.next()
	}
}

// next returns when to poll next; nil: not before Wake.
func (w *Watcher) next() <-chan time.Time {
	switch {
	case len(w.rest) > 0:
		return time.After(stepPause)
	case len(w.options.Clients()) > 0:
		return time.After(pollInterval)
	}
	return nil
}

// poll does one round, or a part of it: it updates the absences and makes the kernel
// probe the clients, for the next round.
func (w *Watcher) poll(now time.Time) {
	known, err := w.read(w.options.Leases)
	if err != nil {
		w.options.Log.Warn("cannot find out which clients have left", "err", err)
		w.rest = nil // until the next round
		return
	}
	if len(w.rest) == 0 {
		w.rest = w.options.Clients()
		maps.DeleteFunc(w.missing, func(host netip.Addr, _ absence) bool {
			return known[host].Present() || !slices.Contains(w.rest, host)
		})
	}
	w.check(known, now)
}

// check updates the clients that are still to be checked, until it has added as many
// neighbours to the kernel's table as it may at a time.
func (w *Watcher) check(known map[netip.Addr]Host, now time.Time) {
	unaddressed := w.links()
	for added := 0; len(w.rest) > 0 && added < maxAdditions; w.rest = w.rest[1:] {
		host := w.rest[0]
		if unaddressed[w.options.Index(host)] { // the kernel never knows whether it answers
			delete(w.missing, host)
			continue
		}
		if known[host].Index == 0 { // it is no neighbour yet
			added++
		}
		w.update(host, known[host], now)
	}
}

// update probes a client, and records if it is absent and acts on that.
func (w *Watcher) update(client netip.Addr, h Host, now time.Time) {
	index := w.options.Index(client)
	if index == 0 {
		delete(w.missing, client) // its network is down and may come back
		return
	}
	if err := w.probe(client, index); err != nil {
		w.options.Log.Debug("cannot probe a host", "client", client, "err", err)
	}
	if h.Present() {
		return
	}
	a, isMissing := w.missing[client]
	if !isMissing { // it has not been probed yet
		w.missing[client] = absence{since: now}
		return
	}
	if !a.logged {
		w.options.Log.Info("client has left and still holds mappings", "client", client)
		w.missing[client] = absence{since: a.since, logged: true}
	}
	if w.options.Grace > 0 && now.Sub(a.since) >= w.options.Grace {
		w.options.Withdraw(client)
	}
}
