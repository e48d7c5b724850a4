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

func TestIdleProgramReturnsMemoryAndWaitsUntilItGrows(t *testing.T) {
	expired := make(chan func(), 1)
	c := gcTuner{func(_ time.Duration, f func()) *time.Timer { expired <- f; return nil }}
	c.setActive()
	for range 2 {
		if percent() != activeGCPercent {
			t.Fatalf("GC percent is %d while active, want %d", percent(), activeGCPercent)
		}
		until(t, math.MaxUint64, func() { (<-expired)() }) // there may have been a collection
		if m := memory(); m.HeapIdle-m.HeapReleased > 1<<20 {
			t.Errorf("%d kB are free and not returned", (m.HeapIdle-m.HeapReleased)>>10)
		}
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
