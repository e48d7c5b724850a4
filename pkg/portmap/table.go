package portmap

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"igdd/pkg/fair"
)

// Queue and batch sizes, in requests: a full queue makes a datagram server keep
// or drop further ones; a bounded batch bounds the time until the first answer,
// and the share of one host in it the time that others wait for that host.
const (
	queueLength  = 1024
	batchLength  = 512
	batchPerHost = 64
)

// LevelNotice lies between slog's Info and Warn, as in syslog.
const LevelNotice = slog.LevelInfo + 2

// Options configure a Table.
type Options struct {
	Policy   *Policy
	Firewall Firewall
	Store    Store
	// Upstream is told of changes; nil: there never is a router in front.
	Upstream Upstream
	// Network is the network state at the start.
	Network NetworkState
	// Uptime returns the time since the system was started, by which the epoch
	// is measured; nil: since NewTable.
	Uptime func() time.Duration
	// Listening reports whether one of the router's own programs listens on a
	// port of the uplink.
	Listening func(p Protocol, port uint16) bool
	// Listeners returns all ports for which Listening is true.
	Listeners func(p Protocol) *PortSet
	// FlowPort returns the external port that an IPv4 flow without a mapping
	// has, if that is known; nil: it never is.
	FlowPort func(p Protocol, from, to netip.AddrPort) (uint16, bool)
	// Committed is called on the table's goroutine after changes are in force;
	// reset is set if the epoch restarted, so that clients must renew (RFC
	// 6887, section 8.5). It must not block.
	Committed func(changes []Change, reset bool)
	// Lost is called on the table's goroutine when new settings or another network
	// state have closed mappings or made them dormant, so that their clients can
	// be told. It must not block; it may be nil.
	Lost func([]Loss)
	// Skipped is called by Run with the saved mappings that are not allowed any more.
	// It may be nil.
	Skipped func([]Loss)
	// BlockEnded is called on the table's goroutine with each block that has ended by
	// itself. It must not block; it may be nil.
	BlockEnded func(*Block)
	// Decided is called on the table's goroutine with each request and its
	// final answer. It must not block; it may be nil.
	Decided func(Request, Answer)
	// Waited is called on the table's goroutine after each answer with the time
	// since the request was queued. It must not block; it may be nil.
	Waited func(time.Duration)
	Log    *slog.Logger
}

// Table owns all mappings. One goroutine, Run, decides all requests. It never
// waits for the kernel: other goroutines carry out the transactions. Mappings
// that are in force can be read at any time.
type Table struct {
	firewall  Firewall
	store     Store
	upstream  Upstream
	uptime    func() time.Duration
	committed func([]Change, bool)
	lost      func([]Loss)
	skipped   func([]Loss)
	decided   func(Request, Answer)

	blockEnded func(*Block)
	waited     func(time.Duration)
	log        *slog.Logger

	alloc   allocator
	queue   chan pending
	control chan func()
	done    chan result
	started chan struct{}
	ended   chan struct{}

	mu       sync.RWMutex // guards what readers see, and alloc.blocks for them
	inForce  *index
	external netip.Addr
	uplink   netip.Addr // NetworkState.Uplink
	epoch    Epoch
	updates  uint32

	lastBlock int // the highest number that a block has had

	lanes       [2]lane   // by family
	tasks       []func()  // of runTask, not yet started
	afterForced []func()  // called when all forced changes have been carried out
	parked      []parked  // answers that wait for the router in front, oldest first
	portMoved   bool      // the epoch is to restart: a NAT-PMP client was told another port
	lastReset   time.Time // when it did because of that
	unsaved     bool      // saving the last changes failed
	timer       *time.Timer

	limiter *fair.Counts[string] // of the queue, by host
	arrived []pending            // buffers of decideArrived
	answers []Answer
}

// pending is a request that waits for its answer.
type pending struct {
	Request
	since  time.Time // when it was queued
	answer func(Answer)
	state  *atomic.Int32 // nil: it cannot be withdrawn
	alone  bool          // decide it in a batch of its own, since its batch was refused
}

// The states of a request that can be withdrawn.
const (
	queued int32 = iota
	taken
	withdrawn
)

// take marks the request as taken for a decision and reports whether that was
// possible: not if it was withdrawn.
func (p *pending) take() bool {
	return p.state == nil || p.state.CompareAndSwap(queued, taken) || p.state.Load() == taken
}

// withdraw withdraws the request, unless it was taken, and reports whether it
// did.
func (p *pending) withdraw() bool { return p.state.CompareAndSwap(queued, withdrawn) }

// errStopped is returned once the table has stopped.
var errStopped = errors.New("portmap: the table has stopped")

// NewTable returns an empty table. Run restores the saved mappings.
func NewTable(o Options) *Table {
	if o.Uptime == nil {
		made := time.Now()
		o.Uptime = func() time.Duration { return time.Since(made) }
	}
	return &Table{
		firewall:   o.Firewall,
		store:      o.Store,
		upstream:   o.Upstream,
		uptime:     o.Uptime,
		committed:  o.Committed,
		lost:       o.Lost,
		skipped:    o.Skipped,
		decided:    o.Decided,
		blockEnded: o.BlockEnded,
		waited:     o.Waited,
		log:        o.Log,
		alloc:      newAllocator(o),
		queue:      make(chan pending, queueLength),
		control:    make(chan func()),
		done:       make(chan result),
		started:    make(chan struct{}),
		ended:      make(chan struct{}),
		lanes:      [2]lane{{family: IPv4}, {family: IPv6}},
		limiter:    newQueueLimiter(),
		inForce:    newIndex(),
		external:   o.Network.External,
		uplink:     o.Network.Uplink,
		epoch:      Epoch{o.Uptime(), o.Network.outermost()},
	}
}

// Run restores the saved mappings, then decides requests until ctx ends. It
// leaves the rules in the kernel as they are; transactions under way are
// aborted.
func (t *Table) Run(ctx context.Context) error {
	defer close(t.ended)
	t.timer = time.NewTimer(time.Hour)
	defer t.timer.Stop()
	t.restore(ctx)
	close(t.started)
	for {
		t.advance(ctx)
		t.resetTimer()
		select {
		case <-ctx.Done():
			t.close(ctx)
			return nil
		case first := <-t.queue:
			t.decideArrived(first)
		case f := <-t.control:
			f()
		case r := <-t.done:
			t.finish(ctx, r)
		case <-t.timer.C:
		}
	}
}

// Started returns a channel that is closed when the saved mappings are in
// force.
func (t *Table) Started() <-chan struct{} { return t.started }

// close waits for the transactions under way, which are aborted by ctx, and
// answers all requests that wait. Forced changes are saved: the next Sync
// carries them out.
func (t *Table) close(ctx context.Context) {
	for i := range t.lanes {
		l := &t.lanes[i]
		for l.busy != nil {
			t.finish(ctx, <-t.done)
		}
		t.publish(l.forced, false)
		rejectPending(l.held)
	}
	for _, done := range t.afterForced {
		done()
	}
	t.releaseParked(time.Now().Add(upstreamWait))
	t.saveHits()
	for {
		select {
		case p := <-t.queue:
			rejectPending([]pending{p})
		default:
			return
		}
	}
}

// rejectPending answers requests that are not decided any more.
func rejectPending(list []pending) {
	for _, p := range list {
		p.answer(Answer{Refusal: Stopping})
	}
}

// resetTimer sets the timer to what happens next by itself.
func (t *Table) resetTimer() {
	due := earlier(t.alloc.nextBlockEnd(), t.nextReset())
	if len(t.parked) > 0 {
		due = earlier(due, t.parked[0].until)
	}
	for i := range t.lanes {
		if l := &t.lanes[i]; l.busy == nil {
			due = earlier(due, t.alloc.deadlines[l.family].next())
		}
	}
	if due.IsZero() {
		t.timer.Stop()
	} else {
		t.timer.Reset(max(0, time.Until(due)))
	}
}

// Submit queues a request; answer is called on the table's goroutine once the
// decision is in force, and must not block. Submit returns false when the queue
// is full or has too many requests of this host: then answer is never called.
func (t *Table) Submit(req Request, answer func(Answer)) bool {
	host := req.clientHost()
	if !t.limiter.Acquire(host) {
		return false
	}
	p := pending{Request: req, since: time.Now(), answer: func(a Answer) { t.limiter.Release(host); answer(a) }}
	select {
	case t.queue <- p:
		return true
	default:
		t.limiter.Release(host)
		return false
	}
}

// Do submits a request and waits for its answer. When ctx ends it withdraws the
// request, or waits for the answer if the request is being decided: an error
// means that there is no mapping.
func (t *Table) Do(ctx context.Context, req Request) (Answer, error) {
	got := make(chan Answer, 1)
	p := pending{Request: req, since: time.Now(), answer: func(a Answer) { got <- a }, state: new(atomic.Int32)}
	select {
	case t.queue <- p:
	case <-ctx.Done():
		return Answer{}, ctx.Err()
	case <-t.ended:
		return Answer{}, errStopped
	}
	select {
	case a := <-got:
		return a, nil
	case <-ctx.Done():
		if p.withdraw() {
			return Answer{}, ctx.Err()
		}
		return <-got, nil
	case <-t.ended:
		if p.withdraw() {
			return Answer{}, errStopped
		}
		return <-got, nil
	}
}

// restore takes over the saved mappings that the present settings allow. The
// epoch goes on if they are all there; if it does not, clients may use other
// nonces for a while.
func (t *Table) restore(ctx context.Context) {
	stored, err := t.store.Load()
	if err != nil {
		t.log.Error("cannot load all saved mappings", "err", err)
	}
	resumed := t.resumeEpoch()
	t.alloc.begin()
	t.restoreBlocks()
	d := t.alloc.restore(stored, !resumed)
	d.logTo(t.log)
	if len(d.closed) > 0 && t.skipped != nil {
		t.skipped(d.closed)
	}
	restored := t.alloc.changes
	for i := range t.lanes {
		l := &t.lanes[i]
		if err := t.firewall.Sync(ctx, l.family, t.alloc.index.ofFamily(l.family)); err != nil {
			t.setLastErr(l, err)
		}
	}
	reset := !resumed || needEpoch(d.lost)
	if reset {
		t.restartEpoch()
	}
	t.commit(restored, reset)
	if len(restored) > 0 {
		t.log.Info("mappings restored", "count", len(restored), "of", len(stored))
	}
}
