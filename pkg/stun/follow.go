package stun

import (
	"context"
	"log/slog"
	"net/netip"
	"time"
)

// How long an answer is good, since nothing tells when a router in front gets
// another address, and how long to wait after the first and any later failure.
const (
	refresh    = 10 * time.Minute
	firstRetry = 30 * time.Second
	lastRetry  = 16 * time.Minute
)

// Options are what a Follower is made of.
type Options struct {
	// Server is the STUN server, "host:port".
	Server string
	// Uplink returns the address to ask from; the zero Addr means that there
	// is no uplink now.
	Uplink func() netip.Addr
	// Seen is told the address that the server sees whenever it is another;
	// the zero Addr means that it is not known for the uplink of now.
	Seen func(netip.Addr)
	Log  *slog.Logger
}

// Follower keeps asking a STUN server, seldom, as long as there is an uplink.
type Follower struct {
	Options
	lookup func(ctx context.Context, server string, from netip.Addr) (netip.Addr, error)
	again  chan struct{}

	uplink     netip.Addr // for which an answer is there or under way
	from, seen netip.Addr // of the last answer
	failures   int        // since then
}

// NewFollower returns a Follower that has asked nobody yet.
func NewFollower(o Options) *Follower {
	return &Follower{Options: o, lookup: Lookup, again: make(chan struct{}, 1)}
}

// Refresh tells that the uplink may have changed: Run asks at once if it has. It
// never blocks.
func (f *Follower) Refresh() {
	select {
	case f.again <- struct{}{}:
	default:
	}
}

// Run asks until ctx ends.
func (f *Follower) Run(ctx context.Context) error {
	f.Refresh()
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.again:
		case <-due:
			f.uplink = netip.Addr{}
		}
		from := f.Uplink()
		if from == f.uplink {
			continue
		}
		f.uplink, due = from, nil
		if from.IsValid() {
			due = time.After(f.round(ctx, from))
		}
	}
}

// round asks once and returns when to ask again.
func (f *Follower) round(ctx context.Context, from netip.Addr) time.Duration {
	seen, err := f.lookup(ctx, f.Server, from)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		if f.failures++; f.failures == 1 {
			f.Log.Warn("cannot learn the address before the router in front, will try again", "err", err)
		}
		if from != f.from {
			f.publish(netip.Addr{})
		}
		return min(lastRetry, firstRetry<<min(f.failures-1, 10))
	default:
		f.failures, f.from = 0, from
		f.publish(seen)
	}
	return refresh
}

// publish passes on what is new.
func (f *Follower) publish(seen netip.Addr) {
	if seen != f.seen {
		f.seen = seen
		f.Seen(seen)
	}
}
