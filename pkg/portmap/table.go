package portmap

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Queue and batch sizes: a queue that is full tells a datagram server to keep
// what comes, or to drop it; a batch that is bounded keeps answers coming.
const (
	queueLength = 1024
	batchLength = 512
)

// LevelNotice lies between slog's Info and Warn, as in syslog.
const LevelNotice = slog.LevelInfo + 2

// Options are what a Table is made of.
type Options struct {
	Policy   *Policy
	Firewall Firewall
	Store    Store
	// Network are the first that the table knows.
	Network NetworkState
	// Listening reports whether one of the router's own programs answers at a
	// port of the uplink.
	Listening func(p Protocol, port uint16) bool
	// FlowPort returns the external port that a flow over IPv4 has without a
	// mapping, if that is known; nil: it never is.
	FlowPort func(p Protocol, from, to netip.AddrPort) (uint16, bool)
	// Committed is called on the table's goroutine after changes are in
	// force; reset tells that clients must renew (RFC 6887, section 8.5). It
	// must not block.
	Committed func(changes []Change, reset bool)
	// Decided is called on the table's goroutine for each request when its
	// answer stands. It must not block; nil: nobody wants to know.
	Decided func(Request, Answer)
	Log     *slog.Logger
}

// Table owns every mapping. One goroutine, Run, decides all requests and never
// waits for the kernel, which is told by others meanwhile; what is in force can
// be read at any time.
type Table struct {
	firewall  Firewall
	store     Store
	committed func([]Change, bool)
	decided   func(Request, Answer)
	log       *slog.Logger

	alloc   allocator
	queue   chan pending
	control chan func()
	done    chan result
	started chan struct{}
	ended   chan struct{}

	mu       sync.RWMutex // guards what readers see
	inForce  *index
	external netip.Addr
	epoch    time.Time
	updates  uint32

	lastExternal netip.Addr // the last external address there was
	lanes        [2]lane    // by family
	tasks        []func()   // what the table was told to do and has not begun
	afterForced  []func()   // who waits until all that is forced has been told to the kernel
	unsaved      bool       // the Store did not take the last changes
	timer        *time.Timer

	limiter queueLimiter
	arrived []pending // buffers of sortOut
	answers []Answer
}

// pending is a request that waits for its answer.
type pending struct {
	Request
	answer func(Answer)
	state  *atomic.Int32 // nil: it is never withdrawn
	alone  bool          // it is decided by itself
}

// The states of a request whose client may give it up.
const (
	queued int32 = iota
	taken
	withdrawn
)

// take begins to decide the request, unless it was given up.
func (p *pending) take() bool {
	return p.state == nil || p.state.CompareAndSwap(queued, taken) || p.state.Load() == taken
}

// withdraw gives the request up, unless it is being decided.
func (p *pending) withdraw() bool { return p.state.CompareAndSwap(queued, withdrawn) }

// errStopped is what callers get once the table has stopped.
var errStopped = errors.New("portmap: the table has stopped")

// NewTable returns an empty table. Run restores what the Store holds.
func NewTable(o Options) *Table {
	return &Table{
		firewall:     o.Firewall,
		store:        o.Store,
		committed:    o.Committed,
		decided:      o.Decided,
		log:          o.Log,
		alloc:        newAllocator(o),
		queue:        make(chan pending, queueLength),
		control:      make(chan func()),
		done:         make(chan result),
		started:      make(chan struct{}),
		ended:        make(chan struct{}),
		lanes:        [2]lane{{family: IPv4}, {family: IPv6}},
		limiter:      queueLimiter{clients: make(map[netip.Addr]int)},
		inForce:      newIndex(),
		external:     o.Network.External,
		lastExternal: o.Network.External,
		epoch:        time.Now(),
	}
}

// Run restores the stored mappings, then decides requests until ctx ends. It
// leaves the kernel's rules as they are; what the kernel has not carried out by
// then is given up.
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

// Started is closed when the stored mappings are in force.
func (t *Table) Started() <-chan struct{} { return t.started }

// close waits for the kernel, which has been told to give up, and answers
// whoever still waits. What is forced is written down: the kernel follows with
// the next Sync.
func (t *Table) close(ctx context.Context) {
	for i := range t.lanes {
		l := &t.lanes[i]
		for l.busy != nil {
			t.finish(ctx, <-t.done)
		}
		t.publish(l.forced, false)
		rejectPending(l.held)
	}
	for {
		select {
		case p := <-t.queue:
			rejectPending([]pending{p})
		default:
			return
		}
	}
}

// rejectPending answers requests that nobody will decide.
func rejectPending(list []pending) {
	for _, p := range list {
		p.answer(Answer{Refusal: Stopping})
	}
}

// resetTimer sets the one timer to what comes next.
func (t *Table) resetTimer() {
	var due time.Time
	for i := range t.lanes {
		if l := &t.lanes[i]; l.busy == nil {
			due = earlier(due, earlier(t.alloc.deadlines[l.family].next(), l.resync.due))
		}
	}
	if due.IsZero() {
		t.timer.Stop()
	} else {
		t.timer.Reset(max(0, time.Until(due)))
	}
}

// Submit queues a request; answer is called on the table's goroutine once the
// decision is in force, and must not block. Submit returns false when the
// queue is full, or holds much of this client already: then nothing happens and
// answer is never called.
func (t *Table) Submit(req Request, answer func(Answer)) bool {
	client := req.Client
	if !t.limiter.acquire(client) {
		return false
	}
	p := pending{Request: req, answer: func(a Answer) { t.limiter.release(client); answer(a) }}
	select {
	case t.queue <- p:
		return true
	default:
		t.limiter.release(client)
		return false
	}
}

// Do submits a request and waits for its answer. When ctx ends the request is
// withdrawn, or its answer is waited for if it is being decided: who gets an
// error has no mapping.
func (t *Table) Do(ctx context.Context, req Request) (Answer, error) {
	got := make(chan Answer, 1)
	p := pending{Request: req, answer: func(a Answer) { got <- a }, state: new(atomic.Int32)}
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

// restore takes over what the Store holds, judged by the settings of today.
func (t *Table) restore(ctx context.Context) {
	stored, err := t.store.Load()
	if err != nil {
		t.log.Error("stored mappings are lost", "err", err)
	}
	t.alloc.begin()
	for _, m := range stored {
		if r := t.alloc.restore(m); r != Granted {
			t.log.Warn("stored mapping is not taken over", "mapping", m.Key, "internal", m.Internal, "reason", r)
		}
	}
	restored := t.alloc.changes
	for i := range t.lanes {
		l := &t.lanes[i]
		t.noteSync(l, t.firewall.Sync(ctx, l.family, t.alloc.index.ofFamily(l.family)))
	}
	t.publish(restored, true)
	if len(restored) > 0 {
		t.log.Info("mappings restored", "count", len(restored), "of", len(stored))
	}
}
