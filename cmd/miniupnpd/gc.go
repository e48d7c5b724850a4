package main

import (
	"runtime"
	"runtime/debug"
	"time"
)

// A smaller heap for a little more work of the garbage collector: with 5,000 mappings
// a fifth less memory is resident than with Go's default. 16,384 mappings with all
// servers busy stay below the limit.
const (
	activeGCPercent = 25 // percent of growth
	memoryLimit     = 64 << 20
)

// After idleAfter without a collection, the heap may grow by idleHeadroom before the
// next one.
const (
	idleAfter    = 10 * time.Second
	idleHeadroom = 2 << 20
)

// tuneRuntime tunes Go's runtime for a small board. One processor is enough, since
// the table decides one batch after another and the kernel does the rest; a second
// one would only be woken for each packet, which doubles the time of a request with
// its own connection.
func tuneRuntime() {
	runtime.GOMAXPROCS(1)
	gcTuner{time.AfterFunc}.setActive()
}

// gcTuner returns memory and disables the periodic garbage collection while the program
// is idle. The runtime would collect every two minutes even if nothing was allocated,
// which makes 26 wake-ups in five minutes of 10, and would keep what a burst has used until
// some more collections: after a start with 5,000 mappings 20 MB instead of 16.
type gcTuner struct {
	after func(time.Duration, func()) *time.Timer // time.AfterFunc
}

// setActive sets the growth for an active program, until there has been no collection
// for a while.
func (c gcTuner) setActive() {
	debug.SetGCPercent(activeGCPercent)
	debug.SetMemoryLimit(memoryLimit)
	c.awaitIdle(memory().NumGC)
}

// awaitIdle calls setIdle as soon as the number of collections has stayed the same for
// idleAfter.
func (c gcTuner) awaitIdle(collections uint32) {
	c.after(idleAfter, func() {
		if now := memory().NumGC; now != collections {
			c.awaitIdle(now)
			return
		}
		c.setIdle()
	})
}

// setIdle returns what is free to the system, and has the next collection, after which
// the program is active, wait until memory has grown by idleHeadroom.
func (c gcTuner) setIdle() {
	debug.FreeOSMemory()
	m := memory()
	debug.SetMemoryLimit(min(memoryLimit, int64(m.Sys-m.HeapReleased)+idleHeadroom))
	debug.SetGCPercent(-1)
	sentinel := new([64]byte) // unreachable, so the next collection finds it
	runtime.AddCleanup(sentinel, gcTuner.setActive, c)
}

// memory returns the runtime's figures.
func memory() (m runtime.MemStats) {
	runtime.ReadMemStats(&m)
	return m
}
