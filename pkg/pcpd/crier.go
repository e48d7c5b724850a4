package pcpd

import (
	"context"
	"net/netip"
	"time"
)

// An announcement is repeated: after 250 ms, then each time after twice as long
// (RFC 6886, section 3.2.1; RFC 6887, section 14.1.3).
const (
	copies   = 10
	firstGap = 250 * time.Millisecond
)

// instant returns when the n-th copy is due, counted from 0.
func instant(n int) time.Duration { return firstGap * (1<<n - 1) }

// crier repeats announcements. A new event starts from the first copy again.
type crier struct {
	again chan struct{}
	news  func() news     // what a copy would say now
	tell  func(int, news) // sends the n-th copy, which says that
}

// news is what announcements are about.
type news struct {
	external netip.Addr
	epoch    uint32
}

// adds reports whether n says more than old, which is no older than the first
// gap.
func (n news) adds(old news) bool { return n.external != old.external || n.epoch < old.epoch }

// wake reports an event.
func (c *crier) wake() {
	select {
	case c.again <- struct{}{}:
	default: // one is on its way
	}
}

// run announces the start, then every event, until ctx ends.
func (c *crier) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	began, sent := time.Now(), 0
	var told news    // by the last copy,
	var at time.Time // which was then
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.again:
			began, sent = c.first(told, at, sent)
		case <-timer.C:
			told, at = c.news(), time.Now()
			c.tell(sent, told)
			sent++
		}
		if sent < copies {
			timer.Reset(time.Until(began.Add(instant(sent))))
		}
	}
}

// first returns when the copies for an event begin, and how many of them there
// have been: the last copy of what went before is the first if it has said all,
// as when an event is reported twice or a moment after everybody can see it.
func (c *crier) first(told news, at time.Time, sent int) (time.Time, int) {
	if 0 < sent && sent <= updateCopies && time.Since(at) < firstGap && !c.news().adds(told) {
		return at, 1
	}
	return time.Now(), 0
}
