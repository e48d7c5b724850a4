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

// copyDelay returns when the n-th copy is due, counted from 0.
func copyDelay(n int) time.Duration { return firstGap * (1<<n - 1) }

// announcer repeats announcements. A new event starts from the first copy again.
type announcer struct {
	triggered chan struct{}
	current   func() gatewayState     // the current state
	send      func(int, gatewayState) // sends the n-th copy with this state
}

// gatewayState is the content of an announcement.
type gatewayState struct {
	external netip.Addr
	epoch    uint32
}

// differsFrom reports whether s must be announced after old, which is no older than
// the first gap.
func (s gatewayState) differsFrom(old gatewayState) bool {
	return s.external != old.external || s.epoch < old.epoch
}

// trigger reports an event.
func (a *announcer) trigger() {
	select {
	case a.triggered <- struct{}{}:
	default: // an event is pending
	}
}

// run announces the start, then every event, until ctx ends. It announces a start
// also if the epoch goes on (RFC 6886, section 3.2.1): clients that see that do
// nothing.
func (a *announcer) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	began, sent := time.Now(), 0
	var last gatewayState  // state in the last copy
	var lastSent time.Time // when that copy was sent
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.triggered:
			began, sent = a.restart(last, lastSent, sent)
		case <-timer.C:
			last, lastSent = a.current(), time.Now()
			a.send(sent, last)
			sent++
		}
		if sent < copies {
			timer.Reset(time.Until(began.Add(copyDelay(sent))))
		}
	}
}

// restart returns when the copies for an event begin, and how many of them have been
// sent: the last copy of the earlier announcement counts as the first if it had the
// same state, as when an event is reported twice or late.
func (a *announcer) restart(last gatewayState, lastSent time.Time, sent int) (time.Time, int) {
	if 0 < sent && sent <= updateCopies && time.Since(lastSent) < firstGap && !a.current().differsFrom(last) {
		return lastSent, 1
	}
	return time.Now(), 0
}
