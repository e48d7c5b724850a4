package stun

import (
	"context"
	"log/slog"
	"net/netip"
	"time"
)

// An address is looked up again after refreshInterval, since nothing reports that an
// upstream router has a new one. The pauses after failures grow from firstRetry to
// lastRetry.
const (
	refreshInterval = 10 * time.Minute
	firstRetry      = 30 * time.Second
	lastRetry       = 16 * time.Minute
)

// Options configure a Follower.
type Options struct {
	// Server is the STUN server, "host:port".
	Server string
	// Uplink returns the address to send from; the zero Addr means that there
	// is no uplink now.
	Uplink func() netip.Addr
	// Seen is called with the address that the server sees whenever it changes;
	// the zero Addr means that it is not known for the current uplink.
	Seen func(netip.Addr)
	Log  *slog.Logger
}

// Follower keeps up to date which address a STUN server sees.
type Follower struct {
	options Options
	lookup  func(ctx context.Context, server string, from netip.Addr) (netip.Addr, error)
	wake    chan struct{}

	uplink     netip.Addr // of the last lookup
	lastUplink netip.Addr // of the last successful lookup
	seen       netip.Addr // as reported last
	failures   int        // since the last successful lookup
}

// NewFollower returns a Follower; Run starts it.
func NewFollower(o Options) *Follower {
	return &Follower{options: o, lookup: Lookup, wake: make(chan struct{}, 1)}
}

// Refresh makes Run look up the address again if the uplink has changed. It never
// blocks.
func (f *Follower) Refresh() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Run looks up the address, on every new uplink and from time to time, until ctx
// ends.
func (f *Follower) Run(ctx context.Context) error {
	f.Refresh()
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.wake:
		case <-due:
			f.uplink = netip.Addr{}
		}
		from := f.options.Uplink()
		if from == f.uplink {
			continue
		}
		f.uplink, due = from, nil
		if from.IsValid() {
			due = time.After(f.update(ctx, from))
		}
	}
}

// update looks up the address once and returns the time until the next lookup.
func (f *Follower) update(ctx context.Context, from netip.Addr) time.Duration {
	seen, err := f.lookup(ctx, f.options.Server, from)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		if f.failures++; f.failures == 1 {
			f.options.Log.Warn("cannot learn the public address by STUN, will retry", "err", err)
		}
		if from != f.lastUplink {
			f.publish(netip.Addr{})
		}
		return min(lastRetry, firstRetry<<min(f.failures-1, 10))
	default:
		f.failures, f.lastUplink = 0, from
		f.publish(seen)
	}
	return refreshInterval
}

// publish reports the address if it has changed.
func (f *Follower) publish(seen netip.Addr) {
	if seen != f.seen {
		f.seen = seen
		f.options.Seen(seen)
	}
}
