package main

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// A busy client maps and unmaps one of its ports after the other.
const (
	portsEach = 64
	// busyWait is how long it waits for a response.
	busyWait = time.Second
	// errorPause is its pause after an error, such as while the daemon restarts.
	errorPause = 100 * time.Millisecond
)

// load is a number of busy clients.
type load struct {
	stopped atomic.Bool
	working sync.WaitGroup
	changes atomic.Int64 // mappings made and deleted
	errors  atomic.Int64 // refusals and requests without response
}

// startLoad starts clients that send requests without pause, half of them by NAT-PMP
// and half by PCP.
func startLoad(clients int) (*load, error) {
	l := new(load)
	for i := range clients {
		c, err := newClient(i, 0, nil, busyWait)
		if err != nil {
			l.stop()
			return nil, err
		}
		l.working.Go(func() {
			defer c.close()
			l.work(c, i)
		})
	}
	return l, nil
}

// work is one client, number i.
func (l *load) work(c *client, i int) {
	add, remove := c.natpmpMap, c.natpmpDelete
	if i%2 == 1 {
		add, remove = c.pcpMap, c.pcpDelete
	}
	for n := 0; !l.stopped.Load(); n++ {
		port := firstPort + uint16(i*portsEach+n%portsEach)
		if err := errors.Join(add(port), remove(port)); err != nil {
			l.errors.Add(1)
			time.Sleep(errorPause)
			continue
		}
		l.changes.Add(2)
	}
}

// stop returns when all clients have stopped.
func (l *load) stop() {
	l.stopped.Store(true)
	l.working.Wait()
}
