package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
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
	maxStreak = 20
	streakGap = 10 * time.Second
	// The pause between repairs then doubles from calm up to this.
	maxPause = 5 * time.Minute
)

// families are those that are looked after, one by one: what fails for one
// keeps nobody from looking after the other.
var families = [...]portmap.Family{portmap.IPv4, portmap.IPv6}

// reconciler keeps the chains, jumps and rules as the table has them, whoever
// touches the firewall.
type reconciler struct {
	firewall *netfilter.Firewall
	table    *portmap.Table
	// readForwards reads the administrator's forwards and returns when to do so again.
	readForwards func(touched time.Time) time.Duration
	changed      chan struct{} // somebody touched the firewall, capacity 1
	// checkIPv6 sees whether the system still has IPv6 on, and returns when to do so again.
	checkIPv6 func(now time.Time) time.Duration
	log       *slog.Logger

	streak    int           // repairs in a row
	pause     time.Duration // before the next one
	lastErr   [2]error      // of each family, when last looked at
	changedAt time.Time     // when it was last touched

	mu         sync.Mutex // guards what the operator is shown
	repairs    int        // in all
	repairedAt time.Time  // when the last one was
}

// Run checks the firewall whenever somebody touched it.
func (g *reconciler) Run(ctx context.Context) error {
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error {
		err := g.firewall.Watch(ctx, g.wake)
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
			case <-g.changed:
				g.changedAt = time.Now()
			case <-timer.C:
			}
			timer.Reset(g.check(ctx))
		}
	})
	return work.Wait()
}

// wake makes Run look at the firewall.
func (g *reconciler) wake() {
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// check looks after the firewall and returns when to do so again.
func (g *reconciler) check(ctx context.Context) time.Duration {
	if rest := g.pause - time.Since(g.lastRepair()); g.pause > 0 && rest > 0 {
		return rest
	}
	again := g.readForwards(g.changedAt)
	var broken []portmap.Family
	for _, v := range families {
		healthy, err := g.firewall.Healthy(v)
		g.noteStopped(v, err)
		if err == nil && !healthy {
			broken = append(broken, v)
		}
	}
	if len(broken) > 0 {
		g.repair(ctx, broken)
	}
	return min(cmp.Or(g.pause, slowCheck), cmp.Or(again, slowCheck), cmp.Or(g.checkIPv6(time.Now()), slowCheck))
}

// noteStopped logs once what keeps a family from being looked after.
func (g *reconciler) noteStopped(v portmap.Family, err error) {
	before := g.lastErr[v]
	g.lastErr[v] = err
	switch {
	case err == nil || before != nil && before.Error() == err.Error():
	case errors.Is(err, netfilter.ErrStopped):
		g.log.Warn("the firewall is stopped, mappings come back with it", "family", v)
	default:
		g.log.Error("the firewall cannot be looked at", "family", v, "err", err)
	}
}

// repair puts everything back, and backs off from whoever takes it away again
// and again.
func (g *reconciler) repair(ctx context.Context, broken []portmap.Family) {
	if g.streak++; time.Since(g.lastRepair()) > max(streakGap, 2*g.pause) {
		g.streak, g.pause = 1, 0
	}
	if g.streak > maxStreak {
		if g.pause == 0 {
			g.log.Warn("somebody removes the rules again and again, they are put back less and less often; look for another program that writes the chains")
		}
		g.pause = min(max(streakGap, 2*g.pause), maxPause)
	}
	for _, v := range broken {
		if g.table.Resync(ctx, v) == nil && g.streak <= maxStreak {
			g.log.Warn("chains or rules were missing in the firewall and have been put back", "family", v)
		}
	}
	g.mu.Lock()
	g.repairs++
	g.repairedAt = time.Now()
	g.mu.Unlock()
}

func (g *reconciler) lastRepair() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.repairedAt
}

// status returns the state of the firewall for the operator.
func (g *reconciler) status() control.Firewall {
	f := control.Firewall{Healthy: true}
	var troubles []string
	for _, v := range families {
		healthy, err := g.firewall.Healthy(v)
		f.Healthy = f.Healthy && healthy && err == nil
		if err = cmp.Or(err, g.table.Trouble(v)); err != nil {
			troubles = append(troubles, fmt.Sprintf("%v: %v", v, err))
		}
	}
	f.Trouble = strings.Join(troubles, "; ")
	g.mu.Lock()
	defer g.mu.Unlock()
	f.Repairs, f.Repaired = g.repairs, g.repairedAt
	return f
}
