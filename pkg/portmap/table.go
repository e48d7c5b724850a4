package portmap

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// Queue and batch sizes: a queue that is full tells a datagram server to drop
// (its clients ask again), a batch that is bounded keeps answers coming.
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
	// Surroundings are the first that the table knows.
	Surroundings Surroundings
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

// Table owns every mapping. One goroutine, Run, decides all requests; what it
// has put in force can be read at any time without waiting for the kernel.
type Table struct {
	Options
	desk    desk
	queue   chan pending
	control chan func()
	started chan struct{}

	mu       sync.RWMutex // guards what readers see
	inForce  *book
	external netip.Addr
	epoch    time.Time
	updates  uint32

	known   netip.Addr // the last external address there was
	repair  repair     // of the kernel's rules
	unsaved bool       // the Store did not take the last changes
	timer   *time.Timer

	senders waiting
	waiting []pending // buffers of a batch
	answers []Answer
}

// pending is a request that waits for its answer.
type pending struct {
	Request
	answer func(Answer)
}

// NewTable returns an empty table. Run restores what the Store holds.
func NewTable(o Options) *Table {
	return &Table{
		Options:  o,
		desk:     newDesk(o),
		queue:    make(chan pending, queueLength),
		control:  make(chan func()),
		started:  make(chan struct{}),
		senders:  waiting{clients: make(map[netip.Addr]int)},
		inForce:  newBook(),
		external: o.Surroundings.External,
		known:    o.Surroundings.External,
		epoch:    time.Now(),
	}
}

// Run restores the stored mappings, then decides requests until ctx ends. It
// leaves the kernel's rules as they are.
func (t *Table) Run(ctx context.Context) error {
	t.timer = time.NewTimer(time.Hour)
	defer t.timer.Stop()
	t.restore()
	close(t.started)
	for {
		t.wind()
		select {
		case <-ctx.Done():
			t.turnAway()
			return nil
		case first := <-t.queue:
			t.batch(first)
		case f := <-t.control:
			f()
		case <-t.timer.C:
			t.tick()
		}
	}
}

// Started is closed when the stored mappings are in force.
func (t *Table) Started() <-chan struct{} { return t.started }

// turnAway answers whoever still waits.
func (t *Table) turnAway() {
	for {
		select {
		case p := <-t.queue:
			p.answer(Answer{Refusal: Stopping})
		default:
			return
		}
	}
}

// wind sets the one timer to what comes next.
func (t *Table) wind() {
	if due := earlier(t.desk.deadlines.next(), t.repair.due); due.IsZero() {
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
	if !t.senders.enter(client) {
		return false
	}
	p := pending{req, func(a Answer) { t.senders.leave(client); answer(a) }}
	select {
	case t.queue <- p:
		return true
	default:
		t.senders.leave(client)
		return false
	}
}

// Do submits a request and waits for its answer.
func (t *Table) Do(ctx context.Context, req Request) (Answer, error) {
	got := make(chan Answer, 1)
	select {
	case t.queue <- pending{req, func(a Answer) { got <- a }}:
	case <-ctx.Done():
		return Answer{}, ctx.Err()
	}
	select {
	case a := <-got:
		return a, nil
	case <-ctx.Done():
		return Answer{}, ctx.Err()
	}
}

// tick drops what is due and repairs what needs it.
func (t *Table) tick() {
	t.desk.begin()
	if t.repair.isDue(t.desk.now) {
		t.sync()
	}
	t.desk.expire()
	expired := t.desk.changes
	t.enforce(false)
	for _, c := range expired {
		if c.After == nil {
			t.Log.Log(context.Background(), LevelNotice, "remove port mapping "+c.Before.logName()+" because it has expired",
				"internal", c.Before.Internal)
		}
	}
}

// restore takes over what the Store holds, judged by the settings of today.
func (t *Table) restore() {
	stored, err := t.Store.Load()
	if err != nil {
		t.Log.Error("stored mappings are lost", "err", err)
	}
	t.desk.begin()
	for _, m := range stored {
		if r := t.desk.restore(m); r != Granted {
			t.Log.Warn("stored mapping is not taken over", "mapping", m.Key, "internal", m.Internal, "reason", r)
		}
	}
	restored := t.desk.changes
	t.sync()
	t.publish(restored, true)
	if len(restored) > 0 {
		t.Log.Info("mappings restored", "count", len(restored), "of", len(stored))
	}
}
