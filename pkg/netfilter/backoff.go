package netfilter

import (
	"fmt"
	"time"

	"igdd/pkg/portmap"
)

// The pause after a failure doubles from firstPause up to maxPause.
const (
	firstPause = 500 * time.Millisecond
	maxPause   = time.Minute
)

// backoff says when to try again what has failed. The zero value: at once.
type backoff struct {
	failures int // in a row
	until    time.Time
}

// fail notes the failure of a try from began until now. The pause is at least as
// long as the try took.
func (b *backoff) fail(began, now time.Time) {
	b.until = now.Add(max(now.Sub(began), min(firstPause<<min(b.failures, 16), maxPause)))
	b.failures++
}

// isOver reports whether the next try may begin.
func (b *backoff) isOver(now time.Time) bool { return !now.Before(b.until) }

// unavailable returns why the kernel takes no rules of the family now, nil if
// that is not known.
func (f *family) unavailable(now time.Time) error {
	if f.failing == nil || f.retry.isOver(now) {
		return nil
	}
	return fmt.Errorf("%w: %w", portmap.ErrUnavailable, f.failing)
}

// How often rules that another program removes are restored at once: a firewall
// that restarts changes them many times. After that many times it is done once
// in repairInterval.
const (
	repairBurst    = 100
	repairInterval = 2 * time.Second
)

// tokens limits repairs: each takes a token, and one comes back in each
// repairInterval. The zero value has all of them.
type tokens struct {
	used  int
	since time.Time // of the last one that came back
}

// wait returns how long to wait for a token.
func (t *tokens) wait(now time.Time) time.Duration {
	t.refill(now)
	if t.used < repairBurst {
		return 0
	}
	return t.since.Add(repairInterval).Sub(now)
}

// take takes a token.
func (t *tokens) take(now time.Time) {
	t.refill(now)
	t.used++
}

// isFull reports whether no token is missing.
func (t *tokens) isFull(now time.Time) bool {
	t.refill(now)
	return t.used == 0
}

// refill puts back the tokens that are due.
func (t *tokens) refill(now time.Time) {
	if back := int(now.Sub(t.since) / repairInterval); back > 0 {
		t.used, t.since = max(0, t.used-back), now
	}
}
