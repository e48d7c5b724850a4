package leasefile

import "time"

// unsetClock is the start of 2024 in Unix milliseconds. A wall clock before it
// has not been set since the board was switched on.
const unsetClock = 1_704_067_200_000

// maxDistance bounds how far apart two times may be, so that a year from a
// damaged file cannot overflow a time.Duration (about 292 years).
const maxDistance = int64(200 * 365 * 24 * time.Hour / time.Millisecond)

// clockReading is one instant on both clocks. Leases run on the monotonic one; the
// files carry Unix time, since the monotonic clock ends with the system.
type clockReading struct {
	mono time.Time
	unix int64 // milliseconds since 1970
}

// readClocks reads both clocks.
func readClocks() clockReading { return clockReadingOf(time.Now()) }

// clockReadingOf splits what time.Now returned. Both clocks are cut to the wall
// clock's last whole millisecond: an end read from a file at one moment and
// written at another would else move by what only one of them had lost.
func clockReadingOf(now time.Time) clockReading {
	now = now.Add(-time.Duration(now.Nanosecond()) % time.Millisecond)
	return clockReading{mono: now, unix: now.UnixMilli()}
}

// unixAt returns what the wall clock shows at t, in Unix milliseconds.
func (c clockReading) unixAt(t time.Time) int64 {
	return c.unix + t.Sub(c.mono).Round(time.Millisecond).Milliseconds()
}

// timeAt returns, on the monotonic clock, when the wall clock shows unix.
func (c clockReading) timeAt(unix int64) time.Time {
	away := min(max(unix-c.unix, -maxDistance), maxDistance)
	return c.mono.Add(time.Duration(away) * time.Millisecond)
}

// agreesWith reports whether both moments put the wall clock in the same place, to
// the second: false means that somebody set it in between.
func (c clockReading) agreesWith(o clockReading) bool {
	off := c.unixAt(o.mono) - o.unix
	return -1000 < off && off < 1000
}
