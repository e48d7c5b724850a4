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
	settleAfter = time.Minute // after which tries count anew
	eagerTries  = 30
	firstPause  = 500 * time.Millisecond
	longestWait = time.Minute
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
func (r *resyncSchedule) failing() bool { return r.fails > 0 }

// allows reports whether a try may come now.
func (r *resyncSchedule) allows(now time.Time) bool { return !r.earliest(now).After(now) }

// isDue reports whether it is time for a try.
func (r *resyncSchedule) isDue(now time.Time) bool { return !r.due.IsZero() && !r.due.After(now) }

// earliest returns when the next try may come.
func (r *resyncSchedule) earliest(now time.Time) time.Time {
	if now.Sub(r.last) >= settleAfter {
		r.tries = 0
	}
	if r.tries < eagerTries {
		return now
	}
	return later(now, r.last.Add(pause(r.tries-eagerTries)))
}

// request plans a try as soon as it is allowed.
func (r *resyncSchedule) request(now time.Time) { r.due = earlier(r.due, r.earliest(now)) }

// done notes how a try went. What failed is tried again.
func (r *resyncSchedule) done(now time.Time, err error) {
	r.last, r.due, r.err = now, time.Time{}, err
	r.tries++
	if err == nil {
		r.fails = 0
		return
	}
	r.due = now.Add(pause(r.fails))
	r.fails++
}

// pause returns how long to wait after n tries, doubling.
func pause(n int) time.Duration { return min(firstPause<<min(n, 16), longestWait) }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Resync makes the kernel hold exactly the table's mappings of a family, after
// others touched it. If that happens again and again it returns errLater, and
// the kernel follows later.
func (t *Table) Resync(ctx context.Context, v Family) (err error) {
	l := &t.lanes[v]
	ended := t.call(ctx, func(done func()) {
		l.repair.request(time.Now())
		t.settled = append(t.settled, func() { err = l.repair.state(); done() })
	})
	return cmp.Or(ended, err)
}

// errLater is why the kernel does not hold what it should yet.
var errLater = errors.New("portmap: the rules are written anew later, since that was needed too often")

// state returns why the kernel does not hold what it should, if so.
func (r *resyncSchedule) state() error {
	if r.err == nil && !r.due.IsZero() {
		return errLater
	}
	return r.err
}

// noteSync notes how a try to bring a family into line went.
func (t *Table) noteSync(l *lane, err error) {
	failed := l.repair.failing()
	l.repair.done(time.Now(), err)
	switch {
	case err != nil && !failed:
		t.log.Error("the firewall does not take the rules, will try again", "family", l.family, "err", err)
	case err == nil && failed:
		t.log.Log(context.Background(), LevelNotice, "the firewall takes the rules again", "family", l.family)
	case err == nil && l.repair.tries == eagerTries:
		t.log.Warn("something removes the rules again and again, they will be written anew less often", "family", l.family)
	}
}
