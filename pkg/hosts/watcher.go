package hosts

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// pollInterval is how often the hosts that hold something are looked for: seldom, and
// longer than the kernel takes to give up on a neighbour that does not answer.
const pollInterval = 5 * time.Minute

// Options are what a Watcher is made of.
type Options struct {
	// Leases is the path of dnsmasq's leases file; it may be empty.
	Leases string
	// Grace is how long a host may be gone before Withdraw is told, give or take
	// a few minutes; 0: for ever.
	Grace time.Duration
	// Clients returns the hosts that hold mappings.
	Clients func() []netip.Addr
	// Index returns the number of the interface that a host is behind; 0 means
	// that there is none.
	Index func(netip.Addr) int
	// Withdraw is told, once in each round, who is gone for longer than Grace.
	Withdraw func(netip.Addr)
	Log      *slog.Logger
}

// Watcher notices that hosts which hold mappings have left. It does nothing
// while nobody holds any.
type Watcher struct {
	Options
	read  func(leases string) (map[netip.Addr]Host, error)
	probe func(host netip.Addr, index int) error
	wake  chan struct{}

	missing map[netip.Addr]absence
}

// absence is how long a client is asked for in vain.
type absence struct {
	since  time.Time
	logged bool // in the log
}

// NewWatcher returns a Watcher that Run puts to work.
func NewWatcher(o Options) *Watcher {
	return &Watcher{Options: o, read: Read, probe: Probe, wake: make(chan struct{}, 1), missing: make(map[netip.Addr]absence)}
}

// Wake tells that there may be mappings now. It never blocks.
func (w *Watcher) Wake() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run looks for the clients until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	var next <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.wake:
			if next != nil {
				continue // the round is on its way
			}
		case <-next:
			w.look(time.Now())
		}
		if next = nil; len(w.Clients()) > 0 {
			next = time.After(pollInterval)
		}
	}
}

// look does one round: it reports who is gone, and has the kernel ask for all
// others whose presence is not certain until the next.
func (w *Watcher) look(now time.Time) {
	known, err := w.read(w.Leases)
	if err != nil {
		w.Log.Warn("cannot tell which clients have left", "err", err)
		return
	}
	clients := w.Clients()
	maps.DeleteFunc(w.missing, func(host netip.Addr, _ absence) bool {
		return known[host].Present() || !slices.Contains(clients, host)
	})
	for _, host := range clients {
		w.update(host, known[host], now)
	}
}

// update notes that a client is here, missing or gone.
func (w *Watcher) update(client netip.Addr, h Host, now time.Time) {
	index := w.Index(client)
	if index == 0 {
		delete(w.missing, client) // its whole network is down, and may come back
		return
	}
	if err := w.probe(client, index); err != nil {
		w.Log.Debug("cannot ask for a host", "client", client, "err", err)
	}
	if h.Present() {
		return
	}
	a, asked := w.missing[client]
	if !asked { // nobody has asked for it yet
		w.missing[client] = absence{since: now}
		return
	}
	if !a.logged {
		w.Log.Info("client has left and still holds mappings", "client", client)
		w.missing[client] = absence{since: a.since, logged: true}
	}
	if w.Grace > 0 && now.Sub(a.since) >= w.Grace {
		w.Withdraw(client)
	}
}
