package netfilter

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"
)

// When the reconciler looks at the tables.
const (
	// firstLook is for changes that an iptables process of a killed daemon
	// finishes after the chains were set up and before notices are read.
	firstLook = time.Second
	// slowLook is a safety net: notices of changes come at once.
	slowLook = 15 * time.Minute
	// unsureDelay is when to look after own work during which another program may
	// have changed the tables: own work goes on meanwhile.
	unsureDelay = 1200 * time.Millisecond
	// A firewall script runs iptables hundreds of times within a second or two:
	// a look waits until there was no notice for quietTime, or for maxDelay.
	quietTime = 100 * time.Millisecond
	maxDelay  = 500 * time.Millisecond
)

// Run is the reconciler: it looks at the tables of each family after another
// program has used the firewall, and restores what is missing, until ctx ends.
func (f *Firewall) Run(ctx context.Context) error {
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error {
		if err := f.watch.Run(ctx, f.ipv4.programs); err != nil {
			f.log.Warn("changes are found by the periodic check only", "check_every", slowLook, "err", err)
		}
		return nil
	})
	work.Go(func() error { f.spread(ctx); return nil })
	work.Go(func() error { return f.runOthers(ctx) })
	for _, family := range f.families() {
		work.Go(func() error { f.run(ctx, family); return nil })
	}
	return work.Wait()
}

// Wake has the reconciler look at all families at once.
func (f *Firewall) Wake() {
	for _, family := range f.families() {
		family.wake()
	}
}

// spread passes notices on to the families.
func (f *Firewall) spread(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.watch.Changed:
			for _, family := range f.families() {
				notify(family.changed)
			}
		case <-f.watch.Unsure:
			for _, family := range f.families() {
				notify(family.unsure)
			}
		}
	}
}

// run looks at a family whenever that is due.
func (f *Firewall) run(ctx context.Context, family *family) {
	s := schedule{due: time.Now().Add(firstLook)}
	timer := time.NewTimer(firstLook)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-family.changed:
			now := time.Now()
			family.noteChange(now)
			s.change(now)
		case <-family.unsure:
			s.doubt(time.Now())
		case <-family.woken:
			s.due = time.Now()
		case <-timer.C:
			again, failed := f.look(ctx, family)
			s.looked(time.Now(), again, failed)
		}
		timer.Reset(time.Until(s.due))
	}
}

// schedule says when the next look at a family is due.
type schedule struct {
	due   time.Time
	first time.Time // of the changes that have not been looked at; zero: none
	retry time.Time // of a look that failed; zero: the last one did not
}

// change has another program's change looked at.
func (s *schedule) change(now time.Time) {
	if s.first.IsZero() {
		s.first = now
	}
	s.due = earlier(s.first.Add(maxDelay), now.Add(quietTime))
}

// doubt has it looked at whether another program has changed something during
// own work. What a failed look has tried is own work as well, and no reason to
// try again earlier.
func (s *schedule) doubt(now time.Time) {
	at := now.Add(unsureDelay)
	if s.retry.After(at) {
		at = s.retry
	}
	s.due = earlier(s.due, at)
}

// looked has the next look come some time after the last one.
func (s *schedule) looked(now time.Time, again time.Duration, failed bool) {
	*s = schedule{due: now.Add(again)}
	if failed {
		s.retry = s.due
	}
}

// earlier returns the earlier of two times.
func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// noteChange notes that another program has used the firewall.
func (f *family) noteChange(now time.Time) {
	f.status.Lock()
	defer f.status.Unlock()
	f.changedAt = now
}

// lastChange returns when another program has last used the firewall; zero: not
// since the start.
func (f *family) lastChange() time.Time {
	f.status.Lock()
	defer f.status.Unlock()
	return f.changedAt
}

// look looks at a family, restores what is missing, and returns after what time
// to look again, and whether that is because it failed.
func (f *Firewall) look(ctx context.Context, family *family) (again time.Duration, failed bool) {
	if family.mu.LockContext(ctx) != nil {
		return slowLook, false
	}
	defer family.mu.Unlock()
	now := time.Now()
	if wait := family.repairs.wait(now); wait > 0 && f.needsRepair(ctx, family) {
		f.noteLimit(family)
		return wait, false
	}
	_, err := f.restore(ctx, family)
	switch {
	case err == nil && family.restored:
		family.repairs.take(now)
		family.update(func(h *health) { h.repairs++; h.repaired = now })
		if f.repaired != nil {
			f.repaired(family.kind)
		}
	case err == nil && family.repairs.isFull(now):
		family.limited = false
	}
	return family.next(time.Now()), isFailure(err)
}

// errLimited is the trouble of a family that has to wait for its next repair.
var errLimited = errors.New("rules are missing: another program keeps removing them, so they are restored less often")

// needsRepair reports whether a look would restore anything, and notes what it finds.
func (f *Firewall) needsRepair(ctx context.Context, family *family) bool {
	s, err := f.untilEnd(ctx, family.snapshotAside)
	if err != nil {
		return false // the look says why
	}
	p := family.plan(s, f.wantedRules(family), f.currentNetwork())
	if p.isEmpty() {
		family.fresh = s // for the look
		return false
	}
	family.update(func(h *health) { h.trouble, h.dead = errLimited, p.dead })
	return true
}

// noteLimit logs once that repairs are limited.
func (f *Firewall) noteLimit(family *family) {
	if !family.limited {
		f.log.Warn("another program keeps removing the rules; restoring them less often. Find the program that writes these chains", "family", family.kind)
	}
	family.limited = true
}

// pauses returns those of tries to have the kernel accept rules that mappings can do
// without.
func (f *family) pauses() (list []*backoff) {
	for _, c := range f.chains {
		if c.exits != nil {
			list = append(list, &c.exits.pause)
		}
	}
	if f.hairpin != nil {
		list = append(list, &f.hairpin.pause)
	}
	return list
}

// endPauses notes that the kernel has accepted all rules but those of which it is not the
// time.
func (f *family) endPauses() {
	for _, b := range f.pauses() {
		if b.isOver(time.Now()) {
			*b = backoff{}
		}
	}
}

// next returns after what time to look again after a look.
func (f *family) next(now time.Time) time.Duration {
	again := slowLook
	for _, b := range append(f.pauses(), &f.retry, &f.refusals) {
		if !b.isOver(now) {
			again = min(again, b.until.Sub(now))
		}
	}
	if f.isInTransition() {
		again = min(again, abandonTime)
	}
	for _, wait := range [...]time.Duration{f.again, f.dead.wait()} {
		if wait > 0 {
			again = min(again, wait)
		}
	}
	return again
}
