package main

import (
	"math"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"
)

// percent returns the growth after which the runtime collects, or MaxUint64.
func percent() uint64 {
	in := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(in)
	return in[0].Value.Uint64()
}

// until waits for a setting, and does something meanwhile.
func until(t *testing.T, want uint64, meanwhile func()) {
	t.Helper()
	for begin := time.Now(); percent() != want; meanwhile() {
		if time.Since(begin) > time.Minute {
			t.Fatalf("GC percent is %d, want %d", percent(), want)
		}
	}
}

func TestIdleGCWaitsUntilMemoryGrows(t *testing.T) {
	c := gcTuner{idleAfter: time.Hour} // the test ends it
	c.setActive()
	c.watchCollections()
	if percent() != activeGCPercent {
		t.Fatalf("GC percent is %d at the start, want %d", percent(), activeGCPercent)
	}
	expire := func() { c.timer.Stop(); c.setIdle() }
	for range 2 {
		until(t, math.MaxUint64, expire) // a collection that is on its way wakes it once more
		var kept [][]byte
		until(t, activeGCPercent, func() {
			if len(kept) < 4*idleHeadroom>>16 {
				kept = append(kept, make([]byte, 1<<16))
			} else { // that has to be enough
				time.Sleep(time.Millisecond)
			}
		})
		runtime.KeepAlive(kept)
	}
}

func TestGCIsIdleAfterAWhile(t *testing.T) {
	c := gcTuner{idleAfter: time.Millisecond}
	for range 2 {
		c.setActive()
		until(t, math.MaxUint64, func() { time.Sleep(time.Millisecond) })
	}
}
