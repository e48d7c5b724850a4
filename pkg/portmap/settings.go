package portmap

import (
	"context"
	"net/netip"
	"slices"
	"time"
)

// runTask runs f on the table's goroutine, as soon as nothing is under way that the
// kernel may refuse, and waits until the kernel has been told what came of it.
func (t *Table) runTask(ctx context.Context, f func()) error {
	return t.call(ctx, func(done func()) {
		t.tasks = append(t.tasks, func() {
			f()
			t.afterForced = append(t.afterForced, done)
		})
	})
}

// call runs f on the table's goroutine at once, and waits until done is called.
func (t *Table) call(ctx context.Context, f func(done func())) error {
	done := make(chan struct{})
	select {
	case t.control <- func() { f(func() { close(done) }) }:
	case <-ctx.Done():
		return ctx.Err()
	case <-t.ended:
		return errStopped
	}
	select {
	case <-done:
		return nil
	case <-t.ended:
		return errStopped
	}
}

// SetNetworkState tells the table what changed around it. Another external
// address than the last one restarts the epoch (RFC 6887, section 8.5), and
// mappings make way for new forwards of the administrator's.
func (t *Table) SetNetworkState(ctx context.Context, s NetworkState) error {
	return t.runTask(ctx, func() {
		forwarded := !slices.Equal(s.Forwards, t.alloc.network.Forwards)
		moved := s.External.IsValid() && t.lastExternal.IsValid() && s.External != t.lastExternal
		t.alloc.network = s
		t.announce(s.External, moved)
		if moved || forwarded {
			t.reevaluate(moved)
		}
		t.recheckDormant(func(netip.Addr) (Host, bool) { return Host{}, false })
	})
}

// announce shows readers the external address, and with another one than the
// last the epoch that goes with it.
func (t *Table) announce(external netip.Addr, moved bool) {
	if external.IsValid() {
		t.lastExternal = external
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.external = external
	if moved {
		t.epoch = time.Now()
	}
}

// SetPolicy puts new rules in force: mappings that they forbid are closed,
// all others stay as they are. Clients whose mappings may be gone are told by
// a new epoch (RFC 6886, section 3.7).
func (t *Table) SetPolicy(ctx context.Context, p *Policy) error {
	return t.runTask(ctx, func() {
		t.alloc.policy = p
		t.reevaluate(false)
	})
}

// Recognize tells the table whose addresses are, as far as known says. The
// dormant mappings of hosts that the rules allow come into force, those of hosts
// that they forbid are closed; the others' hosts are noted where they were not
// known. The function is called on the table's goroutine.
func (t *Table) Recognize(ctx context.Context, known func(netip.Addr) (Host, bool)) error {
	return t.runTask(ctx, func() { t.recheckDormant(known) })
}

// recheckDormant judges the dormant mappings again, and notes the hosts of others.
func (t *Table) recheckDormant(known func(netip.Addr) (Host, bool)) {
	t.alloc.begin()
	t.alloc.recheckDormant(known)
	for _, c := range t.alloc.changes {
		switch {
		case c.After == nil:
			t.log.Warn("the settings forbid a mapping of a host that is known again, it is closed", "mapping", c.Before.Key)
		case c.Before.Dormant:
			t.log.Info("the host of a mapping is known again, it is in force", "mapping", c.After.Key)
		}
	}
	t.force(false)
}

// reevaluate closes the mappings that today's settings forbid, and puts to rest those
// whose hosts are not known now. If there are any, or mappings have moved,
// clients must renew.
func (t *Table) reevaluate(moved bool) {
	t.alloc.begin()
	t.alloc.evict()
	closed, resting := countLost(t.alloc.changes)
	if closed > 0 {
		t.log.Warn("the new settings forbid mappings, which are closed", "count", closed)
	}
	if resting > 0 {
		t.log.Warn("mappings wait until it is known whether the new settings forbid their hosts", "count", resting)
	}
	if closed+resting == 0 && !moved {
		t.force(false)
		return
	}
	t.alloc.unbindNonces()
	t.force(true)
}

// countLost counts the mappings that changes close or put to rest.
func countLost(changes []Change) (closed, resting int) {
	for _, c := range changes {
		switch {
		case c.After == nil:
			closed++
		case c.After.Dormant:
			resting++
		}
	}
	return closed, resting
}

// Withdraw closes the mappings that which names, whoever holds them, and
// returns how many they were. The other clients hear nothing of it. The
// function is called on the table's goroutine.
func (t *Table) Withdraw(ctx context.Context, which func(*Mapping) bool) (closed int, err error) {
	err = t.runTask(ctx, func() {
		t.alloc.begin()
		t.alloc.withdraw(which)
		closed = len(t.alloc.changes)
		t.force(false)
	})
	return closed, err
}

// Block closes the mappings that v covers and refuses new ones until it ends.
// It returns how many were closed.
func (t *Table) Block(ctx context.Context, b Block) (closed int, err error) {
	err = t.runTask(ctx, func() {
		t.alloc.begin()
		t.alloc.block(b)
		closed = len(t.alloc.changes)
		t.force(false)
	})
	return closed, err
}

// Explanation says how the desk would answer a request, and why.
type Explanation struct {
	Answer
	// Rule is the index in Policy.Rules of the rule that decides about the
	// external port, -1 when none does, which allows it.
	Rule int
	// Block is the operator's that forbids it; nil: none does.
	Block *Block
}

// Explain decides a request to open a mapping without doing it.
func (t *Table) Explain(ctx context.Context, req Request) (e Explanation, err error) {
	req.Op = Open
	err = t.call(ctx, func(done func()) {
		t.alloc.begin()
		e = t.alloc.explain(&req)
		done()
	})
	return e, err
}
