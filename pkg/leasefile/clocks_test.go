package leasefile

import (
	"fmt"
	"testing"
	"time"

	"igdd/pkg/portmap"
)

// fractions lists parts of a millisecond.
var fractions = []time.Duration{0, 1, 100_000, 499_999, 500_000, 500_001, 900_000, 999_999}

// millisecond returns a time that is a whole millisecond on the wall clock.
func millisecond() time.Time {
	now := time.Now()
	return now.Add(-time.Duration(now.Nanosecond()) % time.Millisecond)
}

// TestClockReadingKeepsEnds converts a time by one reading and back by another.
func TestClockReadingKeepsEnds(t *testing.T) {
	base := millisecond()
	for _, read := range fractions {
		for _, written := range fractions {
			for _, away := range []int64{-3_600_000, -1, 0, 1, 999, 3_600_000} {
				a, b := clockReadingOf(base.Add(read)), clockReadingOf(base.Add(written+7*time.Second))
				if got := b.unixAt(a.timeAt(a.unix + away)); got != a.unix+away {
					t.Errorf("read at %v, written at %v: %d becomes %d", read, written, a.unix+away, got)
				}
				if !a.agreesWith(b) {
					t.Errorf("the clock seems to have been set between %v and %v", read, written)
				}
			}
		}
	}
}

// TestClockReadingBefore1970 truncates a wall clock before 1970 downwards.
func TestClockReadingBefore1970(t *testing.T) {
	for _, fraction := range fractions {
		c := clockReadingOf(time.Unix(-7, 0).Add(fraction))
		if c.unix != -7000 || c.unixAt(c.mono) != c.unix {
			t.Errorf("%v after the second: %d, %d", fraction, c.unix, c.unixAt(c.mono))
		}
	}
}

// TestRestartsKeepEnds has ten stores, one after another, take over a lease and
// write both files.
func TestRestartsKeepEnds(t *testing.T) {
	base := millisecond().Add(time.Minute) // after the files' own times
	line := fmt.Sprintf("TCP:3001:192.168.101.1:80:%d:web\n", base.Unix()+3600)
	m := forward(1, portmap.Claim{Origin: portmap.UPnP, Description: "web"})
	m.Claims[0].Expires = clockReadingOf(base).timeAt(base.Unix()*1000 + 3_600_000)
	for name, path := range map[string]string{"lease file of miniupnpd": leasePath(t), "both files": newFiles(t, m)} {
		t.Run(name, func(t *testing.T) {
			write(t, path, line)
			for i := range 10 {
				now := base.Add(time.Duration(i)*time.Second + 800*time.Microsecond)
				s := New(Options{Path: path})
				s.clock = func() clockReading { // read late in a millisecond, then early in the next one
					now = now.Add(100 * time.Microsecond)
					return clockReadingOf(now)
				}
				save(t, s, additions(load(t, s)...)...)
				s.journal.Outdate(errClockSet)
				checkpoint(t, s)
				if got := read(t, path); got != line {
					t.Fatalf("after restart %d: %q, want %q", i+1, got, line)
				}
			}
		})
	}
}
