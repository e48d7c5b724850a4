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
	collectAt   = 25 // percent of growth
	memoryLimit = 64 << 20
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
	c := gcTuner{after: idleAfter}
	c.setActive()
	c.watch()
}

// gcTuner lets the runtime's garbage collector sleep while nothing happens:
// it would come round every two minutes even if nothing was allocated.
type gcTuner struct {
	after time.Duration

	mu   sync.Mutex
	rest *time.Timer
}

// watch has the collector awake after each collection.
func (c *gcTuner) watch() {
	sentinel := new([64]byte) // unreachable, so the next collection finds it
	runtime.AddCleanup(sentinel, func(c *gcTuner) { c.setActive(); c.watch() }, c)
}

// setActive collects at the usual growth, until there has been no collection for a
// while.
func (c *gcTuner) setActive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rest != nil && c.rest.Reset(c.after) {
		return
	}
	debug.SetGCPercent(collectAt)
	debug.SetMemoryLimit(memoryLimit)
	if c.rest == nil {
		c.rest = time.AfterFunc(c.after, c.setIdle)
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
