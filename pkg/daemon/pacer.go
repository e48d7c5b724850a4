package daemon

import (
	"sync"
	"time"
)

// pacer calls a function when it is asked to, on a goroutine of its own, but never more
// often than once in an interval.
type pacer struct {
	interval time.Duration
	call     func()

	mu   sync.Mutex // guards what follows
	last time.Time  // when the last call began
	due  bool       // a call is to come
}

// request has the function called soon, once for all requests until then. It never
// blocks.
func (p *pacer) request() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.due {
		p.due = true
		time.AfterFunc(max(0, p.interval-time.Since(p.last)), p.run)
	}
}

// run calls the function.
func (p *pacer) run() {
	p.mu.Lock()
	p.due, p.last = false, time.Now()
	p.mu.Unlock()
	p.call()
}
