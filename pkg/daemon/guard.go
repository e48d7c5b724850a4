package daemon

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"igdd/pkg/control"
	"igdd/pkg/netfilter"
	"igdd/pkg/portmap"
)

// How the chains are watched over.
const (
	// firstCheck is for what the iptables of a daemon that was killed finishes
	// after we have looked, and before anybody watches.
	firstCheck = time.Second
	// slowCheck stands behind the notices of the kernel, which come at once.
	slowCheck = 15 * time.Minute
	// Somebody who takes our rules away more often than this many times in a
	// row, each within calm of the last, is not fought but outlasted.
	patient = 20
	calm    = 10 * time.Second
	// The pause between repairs then doubles from calm up to this.
	longestPause = 5 * time.Minute
)

// guard keeps the chains, jumps and rules as the table has them, whoever
// touches the firewall.
type guard struct {
	firewall *netfilter.Firewall
	resync   func(context.Context) error // puts everything back
	learn    func()                      // reads the administrator's forwards
	log      *slog.Logger

	row     int           // repairs in a row
	pause   time.Duration // before the next one
	stopped bool          // the firewall was, when last seen

	mu      sync.Mutex // guards what the operator is shown
	repairs int        // in all
	last    time.Time  // when the last one was
}

// Run checks the firewall whenever somebody touched it.
func (g *guard) Run(ctx context.Context) error {
	touched := make(chan struct{}, 1)
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error {
		err := g.firewall.Watch(ctx, func() {
			select {
			case touched <- struct{}{}:
			default:
			}
		})
		if err != nil {
			g.log.Warn("changes of the firewall are noticed late", "check_every", slowCheck, "err", err)
		}
		return nil
	})
	work.Go(func() error {
		timer := time.NewTimer(firstCheck)
		defer timer.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-touched:
			case <-timer.C:
			}
			timer.Reset(g.check(ctx))
		}
	})
	return work.Wait()
}

// check looks after the firewall and returns when to do so again.
func (g *guard) check(ctx context.Context) time.Duration {
	if rest := g.pause - time.Since(g.lastRepair()); g.pause > 0 && rest > 0 {
		return rest
	}
	healthy, err := g.firewall.Healthy(portmap.IPv4)
	g.note(err)
	switch {
	case g.stopped:
	case err != nil:
		g.log.Error("the firewall cannot be looked at", "err", err)
	case !healthy:
		g.repair(ctx)
	}
	g.learn()
	return cmp.Or(g.pause, slowCheck)
}

// note logs that the firewall was stopped.
func (g *guard) note(err error) {
	stopped := errors.Is(err, netfilter.ErrStopped)
	if stopped && !g.stopped {
		g.log.Warn("the firewall is stopped, mappings come back with it")
	}
	g.stopped = stopped
}

// repair puts everything back, and backs off from whoever takes it away again
// and again.
func (g *guard) repair(ctx context.Context) {
	if g.row++; time.Since(g.lastRepair()) > max(calm, 2*g.pause) {
		g.row, g.pause = 1, 0
	}
	if g.row > patient {
		if g.pause == 0 {
			g.log.Warn("somebody removes the rules again and again, they are put back less and less often; look for another program that writes the chains")
		}
		g.pause = min(max(calm, 2*g.pause), longestPause)
	}
	g.mu.Lock()
	g.repairs++
	g.last = time.Now()
	g.mu.Unlock()
	if g.resync(ctx) == nil && g.row <= patient {
		g.log.Warn("chains or rules were missing in the firewall and have been put back")
	}
}

func (g *guard) lastRepair() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.last
}

// status returns the state of the firewall for the operator.
func (g *guard) status() control.Firewall {
	healthy, err := g.firewall.Healthy(portmap.IPv4)
	g.mu.Lock()
	defer g.mu.Unlock()
	f := control.Firewall{Healthy: healthy && err == nil, Repairs: g.repairs, Repaired: g.last}
	if err != nil {
		f.Trouble = err.Error()
	}
	return f
}
