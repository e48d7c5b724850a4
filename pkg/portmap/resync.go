package portmap

import (
	"cmp"
	"context"
	"errors"
	"time"
)

// How often the table makes the kernel hold what it holds itself: whenever it
// is asked to, since a firewall that restarts touches the rules many times,
// but less and less often when somebody removes them again and again.
const (
	settleAfter    = time.Minute // after which tries count anew
	immediateTries = 30
	firstPause     = 500 * time.Millisecond
	maxPause       = time.Minute
)

// resyncSchedule plans when the kernel is brought into line.
type resyncSchedule struct {
	due   time.Time // zero: nothing is to be done
	last  time.Time // the last try
	tries int       // without a calm between them
	fails int       // in a row; 0: the last try went well
	err   error     // of the last try
}

// failing reports whether the kernel does not hold what the table holds.
func (s *resyncSchedule) failing() bool { return s.fails > 0 }

// allows reports whether a try may come now.
func (s *resyncSchedule) allows(now time.Time) bool { return !s.earliest(now).After(now) }

// isDue reports whether it is time for a try.
func (s *resyncSchedule) isDue(now time.Time) bool { return !s.due.IsZero() && !s.due.After(now) }

// earliest returns when the next try may come.
func (s *resyncSchedule) earliest(now time.Time) time.Time {
	if now.Sub(s.last) >= settleAfter {
		s.tries = 0
	}
	if s.tries < immediateTries {
		return now
	}
	return later(now, s.last.Add(pause(s.tries-immediateTries)))
}

// request plans a try as soon as it is allowed.
func (s *resyncSchedule) request(now time.Time) { s.due = earlier(s.due, s.earliest(now)) }

// done notes how a try went. What failed is tried again.
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

// Resync makes the kernel hold exactly the table's mappings of a family, after
// others touched it. If that happens again and again it returns errLater, and
// the kernel follows later.
func (t *Table) Resync(ctx context.Context, f Family) (err error) {
	l := &t.lanes[f]
	ended := t.call(ctx, func(done func()) {
		l.resync.request(time.Now())
		t.afterForced = append(t.afterForced, func() { err = l.resync.status(); done() })
	})
	return cmp.Or(ended, err)
}

// errResyncPending is why the kernel does not hold what it should yet.
var errResyncPending = errors.New("portmap: the rules are written anew later, since that was needed too often")

// status returns why the kernel does not hold what it should, if so.
func (s *resyncSchedule) status() error {
	if s.err == nil && !s.due.IsZero() {
		return errResyncPending
	}
	return s.err
}

// noteSync notes how a try to bring a family into line went.
func (t *Table) noteSync(l *lane, err error) {
	failed := l.resync.failing()
	l.resync.done(time.Now(), err)
	switch {
	case err != nil && !failed:
		t.log.Error("the firewall does not take the rules, will try again", "family", l.family, "err", err)
	case err == nil && failed:
		t.log.Log(context.Background(), LevelNotice, "the firewall takes the rules again", "family", l.family)
	case err == nil && l.resync.tries == immediateTries:
		t.log.Warn("something removes the rules again and again, they will be written anew less often", "family", l.family)
	}
}
