package main

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"time"
)

// How long a daemon without clients is observed, after settleTime: igdd's last
// announcement of a new epoch comes 128 s after its start (RFC 6886, section 3.2.1).
const (
	settleTime = 150 * time.Second
	longWatch  = 5 * time.Minute
	quickWatch = 30 * time.Second
)

func (b *bench) idleTime() time.Duration {
	if b.quick {
		return quickWatch
	}
	return longWatch
}

// idleStats are the figures of a daemon without clients.
type idleStats struct {
	wakeups, memory float64
	err             error
}

// idle measures the rows for idle daemons, each on its own router, at the same time as
// everything else. The function that it returns waits for the results.
func (b *bench) idle(groups []group) (wait func()) {
	if !slices.ContainsFunc(groups, func(g group) bool { return g.name == "idle" }) {
		return func() {}
	}
	seen := make([]idleStats, len(b.daemons))
	var all sync.WaitGroup
	for i, d := range b.daemons {
		all.Go(func() { seen[i] = b.watch(d) })
	}
	return func() {
		fmt.Fprintln(os.Stderr, "waiting for the idle daemons")
		all.Wait()
		for i, d := range b.daemons {
			b.table.add(key{"idle", 0, d.name}, 0, seen[i].wakeups, seen[i].err)
			b.table.add(key{"idle-memory", 0, d.name}, 0, seen[i].memory, seen[i].err)
		}
	}
}

// watch runs a daemon without clients.
func (b *bench) watch(d daemon) (w idleStats) {
	l, err := newLab(b.lab+"-"+d.name, b.folder)
	if err != nil {
		return idleStats{err: err}
	}
	p, err := l.launch(d.program, leases{})
	if err != nil {
		return idleStats{err: err}
	}
	defer p.stop()
	time.Sleep(settleTime)
	before := p.switches()
	select {
	case <-p.exited:
		return idleStats{err: fmt.Errorf("the daemon exited: %s", l.log.recent())}
	case <-time.After(b.idleTime()):
	}
	return idleStats{wakeups: p.switches() - before, memory: resident(p.pids())}
}
