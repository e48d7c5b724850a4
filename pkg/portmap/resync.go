package portmap

import (
	"cmp"
	"context"
	"errors"
	"time"
)

// How often the table resyncs the kernel: whenever it is asked to, since a
// firewall that restarts changes the rules many times, but after immediateTries
// with longer and longer pauses, in case another program keeps removing the
// rules.
const (
	settleAfter    = time.Minute // without a try, after which they are counted anew
	immediateTries = 30
	firstPause     = 500 * time.Millisecond
	maxPause       = time.Minute
)

// resyncSchedule plans when to resync the rules of one family.
type resyncSchedule struct {
	due   time.Time // of the next try; zero: none is planned
	last  time.Time // the last try
	tries int       // without a pause of settleAfter between them
	fails int       // in a row; 0: the last try succeeded
	err   error     // of the last try
}

// isFailing reports whether the last try failed, so that the rules in the kernel
// may differ from the table.
func (s *resyncSchedule) isFailing() bool { return s.fails > 0 }

// allows reports whether a try may start now.
func (s *resyncSchedule) allows(now time.Time) bool { return !s.earliest(now).After(now) }

// isDue reports whether it is time for a try.
func (s *resyncSchedule) isDue(now time.Time) bool { return !s.due.IsZero() && !s.due.After(now) }

// earliest returns when the next try may start.
func (s *resyncSchedule) earliest(now time.Time) time.Time {
	if now.Sub(s.last) >= settleAfter {
		s.tries = 0
	}
	if s.tries < immediateTries {
		return now
	}
	return later(now, s.last.Add(pause(s.tries-immediateTries)))
}

// request plans a try for the earliest time that is allowed.
func (s *resyncSchedule) request(now time.Time) { s.due = earlier(s.due, s.earliest(now)) }

// done records the result of a try and plans the next one if it failed.
func (s *resyncSchedule) done(now time.Time, err error) {
	s.last, s.due, s.err = now, time.Time{}, err
	s.tries++
	if err == nil {
		s.fails = 0
		return
	}
	s.due = now.Add(pause(s.fails))
	s.fails++
}

// pause returns how long to wait after n tries, doubling.
func pause(n int) time.Duration { return min(firstPause<<min(n, 16), maxPause) }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Resync installs the rules of exactly the table's mappings of a family, after
// another program has changed them. If that happens too often it only plans the
// resync for later and returns an error.
func (t *Table) Resync(ctx context.Context, f Family) (err error) {
	l := &t.lanes[f]
	ended := t.call(ctx, func(done func()) {
		l.resync.request(time.Now())
		t.afterForced = append(t.afterForced, func() { err = l.resync.status(); done() })
	})
	return cmp.Or(ended, err)
}

// errResyncPending is returned while a resync waits for its pause to end.
var errResyncPending = errors.New("portmap: rules were removed too often; they are restored after a pause")

// status returns why the rules in the kernel may differ from the table, or nil.
func (s *resyncSchedule) status() error {
	if s.err == nil && !s.due.IsZero() {
		return errResyncPending
	}
	return s.err
}

// noteSync records and logs the result of a resync.
func (t *Table) noteSync(l *lane, err error) {
	failed := l.resync.isFailing()
	l.resync.done(time.Now(), err)
	switch {
	case err != nil && !failed:
		t.log.Error("cannot apply rules, will retry", "family", l.family, "err", err)
	case err == nil && failed:
		t.log.Log(context.Background(), LevelNotice, "rules are applied again", "family", l.family)
	case err == nil && l.resync.tries == immediateTries:
		t.log.Warn("another program keeps removing the rules; restoring them less often", "family", l.family)
	}
}
