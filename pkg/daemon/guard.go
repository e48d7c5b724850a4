package daemon

import (
	"cmp"
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"igdd/pkg/netfilter"
)

// How the chains are watched over.
const (
	// slowCheck stands behind the notices of the kernel, which come at once.
	slowCheck = 15 * time.Minute
	// Somebody who takes our rules away more often than this many times in a
	// row, each within calm of the last, is not fought but outlasted.
	patient = 5
	calm    = 10 * time.Second
	// The pause between repairs then doubles from calm up to this.
	longestPause = 5 * time.Minute
)

// guard keeps the chains, jumps and rules as the table has them, whoever
// touches the firewall.
type guard struct {
	*Daemon
	last    time.Time     // of the last repair
	repairs int           // in a row
	pause   time.Duration // before the next one
	stopped bool          // the firewall was, when last seen
}

// guardFirewall checks the firewall whenever somebody touched it.
func (d *Daemon) guardFirewall(ctx context.Context) error {
	touched := make(chan struct{}, 1)
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error {
		err := d.firewall.Watch(ctx, func() {
			select {
			case touched <- struct{}{}:
			default:
			}
		})
		if err != nil {
			d.log.Warn("changes of the firewall are noticed late", "check_every", slowCheck, "err", err)
		}
		return nil
	})
	work.Go(func() error {
		g := guard{Daemon: d}
		timer := time.NewTimer(slowCheck)
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
	if g.pause > 0 && time.Since(g.last) < g.pause {
		return g.pause - time.Since(g.last)
	}
	healthy, err := g.firewall.Healthy()
	if stopped := errors.Is(err, netfilter.ErrStopped); stopped != g.stopped {
		g.stopped = stopped
		if stopped {
			g.log.Warn("the firewall is stopped, mappings come back with it")
		}
	}
	switch {
	case g.stopped:
	case err != nil:
		g.log.Error("the firewall cannot be looked at", "err", err)
	case !healthy:
		g.repair(ctx)
	}
	g.learnForwards()
	return cmp.Or(g.pause, slowCheck)
}

// repair puts everything back, and backs off from whoever takes it away again
// and again.
func (g *guard) repair(ctx context.Context) {
	if g.repairs++; time.Since(g.last) > max(calm, 2*g.pause) {
		g.repairs, g.pause = 1, 0
	}
	if g.repairs > patient {
		if g.pause == 0 {
			g.log.Warn("somebody removes the rules again and again, they are put back less and less often; look for another program that writes the chains")
		}
		g.pause = min(max(calm, 2*g.pause), longestPause)
	}
	g.last = time.Now()
	if g.table.Resync(ctx) == nil && g.repairs <= patient {
		g.log.Warn("chains or rules were missing in the firewall and have been put back")
	}
}
