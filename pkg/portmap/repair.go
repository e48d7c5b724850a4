package portmap

import (
	"context"
	"errors"
	"time"
)

// How often the table makes the kernel hold what it holds itself: whenever it
// is asked to, since a firewall that restarts touches the rules many times,
// but less and less often when somebody removes them again and again.
const (
	calm        = time.Minute // after which tries count anew
	eagerTries  = 30
	firstPause  = 500 * time.Millisecond
	longestWait = time.Minute
)

// repair plans when the kernel is brought into line.
type repair struct {
	due   time.Time // zero: nothing is to be done
	last  time.Time // the last try
	tries int       // without a calm between them
	fails int       // in a row; 0: the last try went well
}

// failing reports whether the kernel does not hold what the table holds.
func (r *repair) failing() bool { return r.fails > 0 }

// isDue reports whether it is time for a try.
func (r *repair) isDue(now time.Time) bool { return !r.due.IsZero() && !r.due.After(now) }

// allowed returns when the next try may come.
func (r *repair) allowed(now time.Time) time.Time {
	if now.Sub(r.last) >= calm {
		r.tries = 0
	}
	if r.tries < eagerTries {
		return now
	}
	return later(now, r.last.Add(pause(r.tries-eagerTries)))
}

// ask plans a try as soon as it is allowed.
func (r *repair) ask(now time.Time) { r.due = earlier(r.due, r.allowed(now)) }

// tried notes how a try went. What failed is tried again.
func (r *repair) tried(now time.Time, err error) {
	r.last, r.due = now, time.Time{}
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

// Resync makes the kernel hold exactly the table, after others touched it. If
// that happens again and again it returns at once and the kernel follows later.
func (t *Table) Resync(ctx context.Context) error {
	return t.on(ctx, t.resync)
}

// resync makes the kernel hold what the table holds as soon as it is allowed.
func (t *Table) resync() {
	now := time.Now()
	if t.repair.ask(now); t.repair.isDue(now) {
		t.sync()
	}
}

// sync makes the kernel hold what the table holds, or plans another try.
func (t *Table) sync() error {
	failed := t.repair.failing()
	var v4, v6 []*Mapping
	for _, m := range t.desk.book.order {
		if m.Family() == IPv6 {
			v6 = append(v6, m)
		} else {
			v4 = append(v4, m)
		}
	}
	ctx := context.Background()
	err := errors.Join(t.Firewall.Sync(ctx, IPv4, v4), t.Firewall.Sync(ctx, IPv6, v6))
	t.repair.tried(time.Now(), err)
	switch {
	case err != nil && !failed:
		t.Log.Error("the firewall does not take the rules, will try again", "err", err)
	case err == nil && failed:
		t.Log.Log(context.Background(), LevelNotice, "the firewall takes the rules again")
	case err == nil && t.repair.tries == eagerTries:
		t.Log.Warn("something removes the rules again and again, they will be written anew less often")
	}
	return err
}

// errBehind is why nothing is tried before the next repair.
var errBehind = errors.New("portmap: the firewall does not take the rules")

// instruct has the kernel carry out the desk's changes; on error they are
// undone. If the firewall refuses them somebody may have flushed the chains:
// it is asked once more when all other rules stand.
func (t *Table) instruct() error {
	changes := t.desk.changes
	if len(changes) == 0 {
		return nil
	}
	if t.repair.failing() && !t.repair.isDue(time.Now()) {
		t.desk.undo(0)
		return errBehind
	}
	err := t.Firewall.Apply(context.Background(), changes)
	if err == nil {
		return nil
	}
	t.desk.undo(0)
	now := time.Now()
	if t.repair.ask(now); !t.repair.isDue(now) || t.sync() != nil {
		return err
	}
	if again := t.Firewall.Apply(context.Background(), changes); again != nil {
		return again
	}
	t.desk.redo(changes)
	t.Log.Warn("rules were not as expected and have been written anew", "err", err)
	return nil
}
