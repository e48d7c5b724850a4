package leasefile

import "time"

// The pause after a failed write: the first one, then doubling up to a maximum.
const (
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// schedule says when to write the files.
type schedule struct {
	due      time.Time     // zero: they are up to date
	earliest time.Time     // the next write is not before that
	retry    time.Duration // the pause after a failed write; 0: the last one succeeded
	wake     chan struct{} // signals that due has changed
}

// by sets the files to be written at t, or at the earliest time that is allowed.
func (c *schedule) by(t time.Time) {
	if c.retry > 0 && !c.due.IsZero() {
		return // due is the time of the next attempt
	}
	if t.Before(c.earliest) {
		t = c.earliest
	}
	if c.due.IsZero() || t.Before(c.due) {
		c.set(t)
	}
}

// set sets when to write the files.
func (c *schedule) set(t time.Time) {
	c.due = t
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// begin records the beginning of a write.
func (c *schedule) begin() { c.due = time.Time{} }

// end records the end of a write that began at start. The next one begins no
// earlier than this one took, so that a slow disk is idle at least half the time.
func (c *schedule) end(start time.Time, delay time.Duration, failed bool) {
	now := time.Now()
	c.earliest = now.Add(max(delay, now.Sub(start)))
	switch due := c.due; {
	case failed:
		c.retry = min(max(2*c.retry, firstRetry), lastRetry)
		c.set(now.Add(c.retry))
	case !due.IsZero():
		c.retry, c.due = 0, time.Time{}
		c.by(due)
	default:
		c.retry = 0
	}
}
