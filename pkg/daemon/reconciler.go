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

// When the firewall is checked and repaired.
const (
	// firstCheck is for changes that an iptables process of a killed daemon finishes
	// after the chains were set up and before the kernel's notices are read.
	firstCheck = time.Second
	// slowCheck is a safety net: the kernel's notices of changes come at once.
	slowCheck = 15 * time.Minute
	// A program that removes the rules more than maxStreak times in a row, each time
	// within streakGap of the last repair, is met with longer and longer pauses.
	maxStreak = 20
	streakGap = 10 * time.Second
	// The pause between repairs doubles from streakGap up to maxPause.
	maxPause = 5 * time.Minute
)

// families are checked one by one, so that an error of one does not keep the other
// from being repaired.
var families = [...]portmap.Family{portmap.IPv4, portmap.IPv6}

// reconciler restores chains, jumps and rules when another program has changed the
// firewall.
type reconciler struct {
	firewall *netfilter.Firewall
	table    *portmap.Table
	// readForwards reads the static port forwards from a firewall that last changed at
	// the given time, and returns after what time to do so again; 0: never.
	readForwards func(changed time.Time) time.Duration
	changed      chan struct{} // the firewall has changed; capacity 1
	// checkIPv6 checks whether the system has enabled or disabled IPv6, and returns after
	// what time to do so again; 0: never.
	checkIPv6 func(now time.Time) time.Duration
	log       *slog.Logger

	streak    int           // repairs in quick succession
	pause     time.Duration // before the next one
	lastErr   [2]error      // of each family, at the last check
	changedAt time.Time     // when the firewall last changed

	mu         sync.Mutex // guards what status shows
	repairs    int        // in total
	repairedAt time.Time  // time of the last one
}

// Run checks the firewall whenever it has changed, until ctx ends.
func (r *reconciler) Run(ctx context.Context) error {
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error {
		err := r.firewall.Watch(ctx, r.wake)
		if err != nil {
			r.log.Warn("cannot watch the firewall; changes are found by the periodic check only", "check_every", slowCheck, "err", err)
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
			case <-r.changed:
				r.changedAt = time.Now()
			case <-timer.C:
			}
			timer.Reset(r.check(ctx))
		}
	})
	return work.Wait()
}

// wake makes Run check the firewall.
func (r *reconciler) wake() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// check checks the firewall and returns after what time to do so again.
func (r *reconciler) check(ctx context.Context) time.Duration {
	if wait := r.pause - time.Since(r.lastRepair()); r.pause > 0 && wait > 0 {
		return wait
	}
	again := r.readForwards(r.changedAt)
	var broken []portmap.Family
	for _, v := range families {
		healthy, err := r.firewall.Healthy(v)
		r.noteStopped(v, err)
		if err == nil && !healthy {
			broken = append(broken, v)
		}
	}
	if len(broken) > 0 {
		r.repair(ctx, broken)
	}
	return min(cmp.Or(r.pause, slowCheck), cmp.Or(again, slowCheck), cmp.Or(r.checkIPv6(time.Now()), slowCheck))
}

// noteStopped logs once why a family cannot be checked.
func (r *reconciler) noteStopped(v portmap.Family, err error) {
	before := r.lastErr[v]
	r.lastErr[v] = err
	switch {
	case err == nil || before != nil && before.Error() == err.Error():
	case errors.Is(err, netfilter.ErrStopped):
		r.log.Warn("the firewall is stopped; mappings are restored when it starts", "family", v)
	default:
		r.log.Error("cannot read the firewall's rules", "family", v, "err", err)
	}
}

// repair restores everything, less and less often if another program keeps removing
// it.
func (r *reconciler) repair(ctx context.Context, broken []portmap.Family) {
	if r.streak++; time.Since(r.lastRepair()) > max(streakGap, 2*r.pause) {
		r.streak, r.pause = 1, 0
	}
	if r.streak > maxStreak {
		if r.pause == 0 {
			r.log.Warn("another program keeps removing the rules; restoring them less often. Find the program that writes these chains")
		}
		r.pause = min(max(streakGap, 2*r.pause), maxPause)
	}
	for _, v := range broken {
		if r.table.Resync(ctx, v) == nil && r.streak <= maxStreak {
			r.log.Warn("restored missing chains or rules", "family", v)
		}
	}
	r.mu.Lock()
	r.repairs++
	r.repairedAt = time.Now()
	r.mu.Unlock()
}

func (r *reconciler) lastRepair() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.repairedAt
}

// status returns the state of the firewall.
func (r *reconciler) status() control.Firewall {
	f := control.Firewall{Healthy: true}
	var troubles []string
	for _, v := range families {
		healthy, err := r.firewall.Healthy(v)
		f.Healthy = f.Healthy && healthy && err == nil
		if err = cmp.Or(err, r.table.LastError(v)); err != nil {
			troubles = append(troubles, fmt.Sprintf("%v: %v", v, err))
		}
	}
	f.Trouble = strings.Join(troubles, "; ")
	r.mu.Lock()
	defer r.mu.Unlock()
	f.Repairs, f.Repaired = r.repairs, r.repairedAt
	return f
}
