package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// Memory, against a little more work for the collector: with 5,000 mappings a
// fifth less is resident than by Go's own setting. The limit is what 16,384 of
// them with all servers busy stay below.
const (
	activeGCPercent = 25 // percent of growth
	memoryLimit     = 64 << 20
)

// A program that needed no collection for a while may grow by so much before
// the next.
const (
	idleAfter    = time.Minute
	idleHeadroom = 2 << 20
)

// tuneRuntime fits the runtime to a small board. One processor is enough, since
// the table decides one batch after another and the kernel does the rest; a
// second would only be woken for each packet, which doubles the time of a
// request that comes with a connection of its own.
func tuneRuntime() {
	runtime.GOMAXPROCS(1)
	c := gcTuner{idleAfter: idleAfter}
	c.setActive()
	c.watchCollections()
}

// gcTuner lets the runtime's garbage collector sleep while nothing happens:
// it would come round every two minutes even if nothing was allocated.
type gcTuner struct {
	idleAfter time.Duration

	mu    sync.Mutex
	timer *time.Timer
}

// watchCollections has the collector awake after each collection.
func (c *gcTuner) watchCollections() {
	sentinel := new([64]byte) // unreachable, so the next collection finds it
	runtime.AddCleanup(sentinel, func(c *gcTuner) { c.setActive(); c.watchCollections() }, c)
}

// setActive collects at the usual growth, until there has been no collection for a
// while.
func (c *gcTuner) setActive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil && c.timer.Reset(c.idleAfter) {
		return
	}
	debug.SetGCPercent(activeGCPercent)
	debug.SetMemoryLimit(memoryLimit)
	if c.timer == nil {
		c.timer = time.AfterFunc(c.idleAfter, c.setIdle)
	}
}

// setIdle collects only when memory has grown, which then wakes the collector.
func (c *gcTuner) setIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	in := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(in)
	debug.SetMemoryLimit(min(memoryLimit, int64(in[0].Value.Uint64()-in[1].Value.Uint64())+idleHeadroom))
	debug.SetGCPercent(-1)
}
