package portmap

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Queue and batch sizes: a queue that is full tells a datagram server to drop
// (its clients ask again), a batch that is bounded keeps answers coming.
const (
	queueLength = 4096
	batchLength = 512
)

// retryAfter is how long the table waits before it tries again to bring a
// firewall that failed into line.
const retryAfter = 5 * time.Second

// LevelNotice lies between slog's Info and Warn, as in syslog.
const LevelNotice = slog.LevelInfo + 2

// Options are what a Table is made of.
type Options struct {
	Policy   *Policy
	Firewall Firewall
	Store    Store
	// Surroundings are the first that the table knows.
	Surroundings Surroundings
	// Listening returns the ports at which the router's own programs answer
	// on the uplink.
	Listening func(Protocol) []uint16
	// Committed is called on the table's goroutine after changes are in
	// force; reset tells that clients must renew (RFC 6887, section 8.5). It
	// must not block.
	Committed func(changes []Change, reset bool)
	Log       *slog.Logger
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
	next    time.Time  // when the first claim ends; zero: never
	retryAt time.Time  // when to bring the kernel into line; zero: it is
	timer   *time.Timer
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
		t.wind()
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
	if due := earlier(t.next, t.retryAt); due.IsZero() {
		t.timer.Stop()
	} else {
		t.timer.Reset(max(0, time.Until(due)))
	}
}

// Submit queues a request; answer is called on the table's goroutine once the
// decision is in force, and must not block. Submit returns false when the
// queue is full: then nothing happens and answer is never called.
func (t *Table) Submit(req Request, answer func(Answer)) bool {
	select {
	case t.queue <- pending{req, answer}:
		return true
	default:
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

// batch decides everything that waits and puts it in force in one go. While
// the kernel works the next batch gathers.
func (t *Table) batch(first pending) {
	waiting := []pending{first}
	for more := true; more && len(waiting) < batchLength; {
		select {
		case p := <-t.queue:
			waiting = append(waiting, p)
		default:
			more = false
		}
	}
	answers, err := t.attempt(waiting)
	if err != nil && len(waiting) > 1 {
		t.Log.Warn("firewall refused a batch, trying its requests one by one", "requests", len(waiting), "err", err)
		answers = answers[:0]
		for i := range waiting {
			one, err := t.attempt(waiting[i : i+1])
			answers = append(answers, failed(one[0], err))
		}
	} else {
		for i := range answers {
			answers[i] = failed(answers[i], err)
		}
	}
	for i, p := range waiting {
		t.report(p.Request, answers[i])
		p.answer(answers[i])
	}
}

// failed returns the answer that a request gets when its batch met err.
func failed(a Answer, err error) Answer {
	if err == nil || a.Refusal != Granted {
		return a
	}
	return Answer{Refusal: FirewallFailed}
}

// attempt decides requests and commits them; on error nothing of it remains.
func (t *Table) attempt(waiting []pending) ([]Answer, error) {
	t.desk.begin()
	answers := make([]Answer, len(waiting))
	for i, p := range waiting {
		answers[i] = t.desk.decide(p.Request)
	}
	err := t.commit(false)
	if err != nil {
		t.desk.undo(0)
	}
	return answers, err
}

// commit puts the desk's changes in force: kernel, then file, then readers.
func (t *Table) commit(reset bool) error {
	changes := t.desk.changes
	if len(changes) == 0 && !reset {
		return nil
	}
	if err := t.Firewall.Apply(changes); err != nil {
		// Somebody may have flushed the chains: then one Sync mends all.
		if t.Firewall.Sync(t.desk.book.order) != nil {
			return err
		}
		t.Log.Warn("rules were not as expected and have been written anew", "err", err)
		t.retryAt = time.Time{}
	}
	t.publish(changes, reset)
	return nil
}

// publish writes changes down and shows them to readers.
func (t *Table) publish(changes []Change, reset bool) {
	if err := t.Store.Save(changes); err != nil {
		t.Log.Error("mappings are in force but not written down", "err", err)
	}
	t.mu.Lock()
	for _, c := range changes {
		t.inForce.apply(c)
		if c.port() {
			t.updates++
		}
	}
	if reset {
		t.epoch = time.Now()
	}
	t.mu.Unlock()
	for _, c := range changes {
		if c.After != nil {
			for _, claim := range c.After.Claims {
				t.next = earlier(t.next, claim.Expires)
			}
		}
	}
	t.Committed(changes, reset)
}

// tick drops what is due and brings a firewall that failed into line.
func (t *Table) tick() {
	if !t.retryAt.IsZero() && !t.retryAt.After(time.Now()) {
		t.resync()
	}
	t.desk.begin()
	t.next = t.desk.expire()
	expired := t.desk.changes
	t.enforce(false)
	for _, c := range expired {
		if c.After == nil {
			t.Log.Log(context.Background(), LevelNotice, "remove port mapping "+c.Before.logName()+" because it has expired",
				"internal", c.Before.Internal)
		}
	}
}

// enforce commits what no firewall error may hold up; the kernel follows when
// it can.
func (t *Table) enforce(reset bool) {
	if err := t.commit(reset); err != nil {
		t.fallBehind(err)
		t.publish(t.desk.changes, reset)
	}
}

// fallBehind notes that the kernel does not hold what the table holds.
func (t *Table) fallBehind(err error) {
	if t.retryAt.IsZero() {
		t.Log.Error("the firewall does not take the rules, will try again", "err", err)
	}
	t.retryAt = time.Now().Add(retryAfter)
}

// resync makes the kernel hold what the table holds.
func (t *Table) resync() {
	if err := t.Firewall.Sync(t.desk.book.order); err != nil {
		t.fallBehind(err)
	} else {
		t.retryAt = time.Time{}
	}
}

// on runs f on the table's goroutine and waits for it.
func (t *Table) on(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case t.control <- func() { f(); close(done) }:
		<-done
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Resync makes the kernel hold exactly the table, after others touched it.
func (t *Table) Resync(ctx context.Context) error { return t.on(ctx, t.resync) }

// SetSurroundings tells the table what changed around it. Another external
// address than the last one restarts the epoch (RFC 6887, section 8.5).
func (t *Table) SetSurroundings(ctx context.Context, s Surroundings) error {
	return t.on(ctx, func() {
		t.desk.around = s
		t.mu.Lock()
		t.external = s.External
		t.mu.Unlock()
		changed := s.External.IsValid() && t.known.IsValid() && s.External != t.known
		if s.External.IsValid() {
			t.known = s.External
		}
		if changed {
			t.desk.begin()
			t.desk.unbind()
			t.enforce(true)
		}
	})
}

// SetPolicy puts new rules in force: mappings that they forbid are closed,
// all others stay as they are. Clients whose mappings may be gone are told by
// a new epoch (RFC 6886, section 3.7).
func (t *Table) SetPolicy(ctx context.Context, p *Policy) error {
	return t.on(ctx, func() {
		t.desk.begin()
		t.desk.policy = p
		t.desk.evict()
		closed := len(t.desk.changes)
		if closed > 0 {
			t.Log.Warn("the new settings forbid mappings, which are closed", "count", closed)
			t.desk.unbind()
			t.enforce(true)
		}
	})
}

// restore takes over what the Store holds, judged by the policy of today.
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
	t.resync()
	t.publish(restored, true)
	if len(restored) > 0 {
		t.Log.Info("mappings restored", "count", len(restored), "of", len(stored))
	}
}

// List returns all mappings in order of creation. The mappings are shared and
// must not be changed.
func (t *Table) List() []*Mapping {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.Clone(t.inForce.order)
}

// At returns the i-th port mapping in order of creation, counted from 0.
// Pinholes do not count.
func (t *Table) At(i int) (*Mapping, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if i < 0 || i >= len(t.inForce.ports) {
		return nil, false
	}
	return t.inForce.ports[i], true
}

// Lookup returns the mapping of a key.
func (t *Table) Lookup(k Key) (*Mapping, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	m, ok := t.inForce.byKey[k]
	return m, ok
}

// Pinhole returns the pinhole that UPnP knows by this UniqueID.
func (t *Table) Pinhole(id uint16) (*Mapping, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	m, ok := t.inForce.byID[id]
	return m, ok
}

// Count returns the number of port mappings and of changes ever made to them,
// which is UPnP's SystemUpdateID (WANIPConnection:2, section 2.3.23). Pinholes
// do not count.
func (t *Table) Count() (mappings int, updates uint32) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.inForce.ports), t.updates
}

// External returns the announced IPv4 address; the zero Addr means none now.
func (t *Table) External() netip.Addr {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.external
}

// Epoch returns the seconds since mappings were last lost or moved (RFC 6886,
// section 3.6; RFC 6887, section 8.5): one clock for all protocols.
func (t *Table) Epoch() uint32 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return uint32(time.Since(t.epoch) / time.Second)
}

// report logs a decision.
func (t *Table) report(req Request, a Answer) {
	log := t.Log.With("client", req.Client, "by", req.Origin)
	switch {
	case a.Refusal != Granted:
		log.Info("refused", "reason", a.Refusal, "protocol", req.Protocol, "external", req.External, "internal", req.Internal)
	case req.Op == Close && a.Closed > 0:
		log.Info("removing redirect rule", "protocol", req.Protocol, "external", req.External, "internal", req.Internal, "count", a.Closed)
	case req.Op == Open && len(a.Mapping.Claims) > 0:
		log.Info("redirecting port "+a.Mapping.logName(), "to", a.Mapping.Internal, "for", a.Mapping.Description(), "lifetime", a.Lifetime)
	}
}
