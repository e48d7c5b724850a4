package leasefile

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"igdd/pkg/portmap"
)

// clockAhead returns a wall clock that is so far ahead of the right one.
func clockAhead(by time.Duration) func() clockReading {
	return func() clockReading {
		c := readClocks()
		c.unix += by.Milliseconds()
		return c
	}
}

// storeAt returns a store on path whose wall clock is so far ahead.
func storeAt(path string, ahead time.Duration) *Store {
	s := New(Options{Path: path})
	s.clock = clockAhead(ahead)
	s.base = s.clock()
	return s
}

// TestWrongClock saves a lease of an hour by one clock, and loads it by another
// as after a boot, with the state file and without. A lease is lost only to a
// clock that may be right, never lasts longer than it did, and ends in the lease
// file when it should once the clock is right.
func TestWrongClock(t *testing.T) {
	const tenYears = 10 * 365 * 24 * time.Hour
	unset := -time.Duration(time.Now().Unix()-300) * time.Second // 1970, five minutes after the boot
	for _, tt := range []struct {
		what          string
		written, read time.Duration // by clocks so far ahead
		want          time.Duration // what is left of the hour
	}{
		{"right", 0, 0, time.Hour},
		{"off for ten minutes", 0, 10 * time.Minute, 50 * time.Minute},
		{"off for two days", 0, 48 * time.Hour, 0},
		{"then 1970", 0, unset, time.Hour},
		{"then ten years back", 0, -tenYears, time.Hour},
		{"then ten years ahead", 0, tenYears, time.Hour},
		{"1970 before", unset, 0, time.Hour},
		{"1970 twice", unset, unset, time.Hour},
		{"ten years back before", -tenYears, 0, time.Hour},
		{"ten years ahead before", tenYears, 0, time.Hour},
	} {
		for _, without := range []string{"", ", without the state file"} {
			t.Run(tt.what+without, func(t *testing.T) {
				path := leasePath(t)
				s := storeAt(path, tt.written)
				load(t, s)
				save(t, s, additions(renewed(forward(1, portmap.Claim{Origin: portmap.UPnP}), time.Hour))...)
				checkpoint(t, s)
				if without != "" {
					withoutStateFile(t, path, time.Now().Add(tt.written))
				}
				demandLeft(t, path, storeAt(path, tt.read), tt.want)
			})
		}
	}
}

// withoutStateFile leaves the lease file alone, as written at a time.
func withoutStateFile(t *testing.T, path string, at time.Time) {
	t.Helper()
	if err := os.Remove(path + stateSuffix); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// demandLeft demands that the store loads a lease that lasts so long, 0 for none,
// and that its end is in the lease file when the clock has been set right.
func demandLeft(t *testing.T, path string, s *Store, want time.Duration) {
	t.Helper()
	got := load(t, s)
	if want == 0 {
		wantSame(t, got, nil)
		return
	}
	if len(got) != 1 || !isAbout(time.Until(got[0].Expires()), want) {
		t.Fatalf("loaded %s%v, want an end in %v", text(got), times(got), want)
	}
	save(t, s, additions(got...)...)
	s.clock = readClocks
	checkpoint(t, s)
	end, err := strconv.ParseInt(strings.Split(read(t, path), ":")[4], 10, 64)
	if left := time.Until(time.Unix(end, 0)); err != nil || !isAbout(left, want) {
		t.Errorf("the lease file has an end in %v, want %v (%v)", left, want, err)
	}
}

// isAbout reports whether two times agree to a minute: the test takes its time.
func isAbout(got, want time.Duration) bool { return (got - want).Abs() < time.Minute }
