package upstream

import (
	"context"
	"sync/atomic"
	"time"
)

// The router in front gets at most maxAsking requests at a time, and as many as the
// bucket has: rate a second, and burst of them at once.
const (
	maxAsking = 8
	rate      = 20
	burst     = 50
)

// bucket limits requests.
type bucket struct {
	full   time.Time   // when it is full again
	lifted atomic.Bool // wait does not wait any more
}

// take takes a request out of the bucket, if there is one.
func (b *bucket) take(now time.Time) bool {
	if now.Before(b.next()) {
		return false
	}
	if b.full.Before(now) {
		b.full = now
	}
	b.full = b.full.Add(time.Second / rate)
	return true
}

// wait waits for a request in the bucket, and takes it. The error is that of ctx.
func (b *bucket) wait(ctx context.Context) error {
	for !b.lifted.Load() && !b.take(time.Now()) {
		select {
		case <-time.After(time.Until(b.next())):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// next returns when there is a request in it again.
func (b *bucket) next() time.Time { return b.full.Add(-(burst - 1) * time.Second / rate) }

// queue has the wants whose request is due. New ones go first every other turn. The turns
// between are for those of which a client has heard, so that many new ones cannot keep a
// lease from being renewed, and what they were given is given back as fast. Hosts take turns.
type queue struct {
	classes [4]turns
	turns   int
}

// The classes of a queue.
const (
	fresh  = iota // not told of yet
	held          // renewals and what is given back
	failed        // to be tried again
	alone         // to be sent alone
)

// class returns the class of w.
func (w *want) class() int {
	switch {
	case w.alone:
		return alone
	case w.givesBack():
		return held
	case w.told.State == 0:
		return fresh
	case w.lease.expires.IsZero():
		return failed
	}
	return held
}

// add queues w.
func (q *queue) add(w *want) { q.classes[w.class()].add(w) }

// next removes and returns the want whose turn it is; nil if the queue is empty.
func (q *queue) next() *want {
	order := [...]int{fresh, held, failed, alone}
	if q.turns++; q.turns%2 == 0 {
		order = [...]int{held, failed, fresh, alone}
	}
	for _, c := range order {
		if w := q.classes[c].next(); w != nil {
			return w
		}
	}
	return nil
}

// hasAny reports whether a request is queued that may be sent while others wait for their
// answers.
func (q *queue) hasAny() bool {
	return !q.classes[fresh].isEmpty() || !q.classes[held].isEmpty() || !q.classes[failed].isEmpty()
}

// hasAlone reports whether a request is queued that is to be sent alone.
func (q *queue) hasAlone() bool { return !q.classes[alone].isEmpty() }
