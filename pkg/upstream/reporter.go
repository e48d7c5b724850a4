package upstream

import (
	"context"
	"log/slog"
	"sync"

	"igdd/pkg/portmap"
)

// reporter tells the table what became of forwardings. The last state of each counts.
type reporter struct {
	report func(context.Context, []portmap.Report) error
	log    *slog.Logger
	wake   chan struct{}

	mu      sync.Mutex
	waiting map[portmap.Key]portmap.Report
}

func newReporter(o Options) *reporter {
	return &reporter{report: o.Report, log: o.Log, wake: make(chan struct{}, 1), waiting: make(map[portmap.Key]portmap.Report)}
}

// add queues a report. It never blocks.
func (r *reporter) add(report portmap.Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting[report.Key] = report
	signal(r.wake)
}

// drop drops the queued report on a mapping that has ended.
func (r *reporter) drop(k portmap.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, k)
}

// clear drops all queued reports.
func (r *reporter) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.waiting)
}

// take removes all queued reports and returns them.
func (r *reporter) take() []portmap.Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]portmap.Report, 0, len(r.waiting))
	for _, report := range r.waiting {
		list = append(list, report)
	}
	clear(r.waiting)
	return list
}

// run tells the table until ctx ends.
func (r *reporter) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
		if list := r.take(); len(list) > 0 {
			if err := r.report(ctx, list); err != nil && ctx.Err() == nil {
				r.log.Warn("cannot take over what the router in front forwards", "err", err)
			}
		}
	}
}

// signal makes the receiver of wake look again.
func signal(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}
