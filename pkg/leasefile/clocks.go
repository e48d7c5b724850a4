package leasefile

import (
	"time"

	"igdd/pkg/clock"
)

// unsetClock is clock.Earliest in Unix milliseconds.
const unsetClock = clock.Earliest * 1000

// maxDistance bounds the distance of two times, in milliseconds, so that a year
// from a damaged file cannot overflow a time.Duration (about 292 years).
const maxDistance = int64(200 * 365 * 24 * time.Hour / time.Millisecond)

// longestOff bounds, in milliseconds, for how long a wall clock can make a router
// look switched off: a year. Such a clock is wrong more often than right, and
// believing it would drop every lease.
const longestOff = int64(365 * 24 * time.Hour / time.Millisecond)

// clockReading is one time on both clocks. Leases run on the monotonic clock;
// the files have Unix times, since the monotonic clock restarts with the
// system.
type clockReading struct {
	mono time.Time
	unix int64 // milliseconds since 1970
}

// readClocks reads both clocks.
func readClocks() clockReading { return clockReadingOf(time.Now()) }

// clockReadingOf splits a result of time.Now. Both clocks are truncated to the
// wall clock's last whole millisecond. If only one were, a time that is read
// from a file and written again later would change by a fraction of a
// millisecond each time.
func clockReadingOf(now time.Time) clockReading {
	now = now.Add(-time.Duration(now.Nanosecond()) % time.Millisecond)
	return clockReading{mono: now, unix: now.UnixMilli()}
}

// unixAt returns the wall clock's time at t, in Unix milliseconds.
func (c clockReading) unixAt(t time.Time) int64 {
	return c.unix + t.Sub(c.mono).Round(time.Millisecond).Milliseconds()
}

// timeAt returns the time on the monotonic clock at which the wall clock is
// unix.
func (c clockReading) timeAt(unix int64) time.Time {
	away := min(max(unix-c.unix, -maxDistance), maxDistance)
	return c.mono.Add(time.Duration(away) * time.Millisecond)
}

// resumed returns the reading by which the leases in a file go on that was written
// at a time, in Unix milliseconds; 0: there is none. It is c, unless c is earlier or
// too much later: then one of the clocks was wrong, and the router counts as not
// having been off.
func (c clockReading) resumed(written int64) clockReading {
	if off := c.unix - written; written != 0 && (off < 0 || off > longestOff) {
		c.unix = written
	}
	return c
}

// agreesWith reports whether the two clocks ran alike between both readings, to
// the second: false means that the wall clock was set in between.
func (c clockReading) agreesWith(o clockReading) bool {
	off := c.unixAt(o.mono) - o.unix
	return -1000 < off && off < 1000
}
