package portmap

import (
	"context"
	"net/netip"
	"slices"
	"time"
)

// runTask runs f on the table's goroutine, as soon as no change under way can
// be refused, and waits until the kernel has carried out the changes that f
// forces.
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

// SetNetworkState puts a new network state in force. An external address that
// differs from the last one restarts the epoch (RFC 6887, section 8.5), and
// mappings of ports that a new static port forward has are closed.
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

// announce publishes the external address to readers; moved restarts the epoch
// with it.
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

// SetPolicy puts new rules in force: mappings that they forbid are closed, all
// others stay as they are. If there are any, the epoch restarts, so that
// clients renew (RFC 6886, section 3.7).
func (t *Table) SetPolicy(ctx context.Context, p *Policy) error {
	return t.runTask(ctx, func() {
		t.alloc.policy = p
		t.reevaluate(false)
	})
}

// Recognize updates the hosts of mappings: known returns the host of an
// address, if it is known now. Dormant mappings come into force if the rules
// allow their hosts and are closed if not; other mappings get a hardware
// address if they had none. The function is called on the table's goroutine.
func (t *Table) Recognize(ctx context.Context, known func(netip.Addr) (Host, bool)) error {
	return t.runTask(ctx, func() { t.recheckDormant(known) })
}

// recheckDormant rechecks the dormant mappings and updates the hosts of others.
func (t *Table) recheckDormant(known func(netip.Addr) (Host, bool)) {
	t.alloc.begin()
	t.alloc.recheckDormant(known)
	for _, c := range t.alloc.changes {
		switch {
		case c.After == nil:
			t.log.Warn("closed a dormant mapping: the settings forbid it for its host", "mapping", c.Before.Key)
		case c.Before.Dormant:
			t.log.Info("dormant mapping is in force again", "mapping", c.After.Key)
		}
	}
	t.force(false)
}

// reevaluate closes the mappings that the present settings forbid, and makes
// those dormant whose hosts are not known but matter. If there are any, or the
// external address has moved, clients must renew.
func (t *Table) reevaluate(moved bool) {
	t.alloc.begin()
	t.alloc.evict()
	closed, dormant := countLost(t.alloc.changes)
	if closed > 0 {
		t.log.Warn("closed mappings that the new settings forbid", "count", closed)
	}
	if dormant > 0 {
		t.log.Warn("mappings are dormant until it is known whether the new settings allow their hosts", "count", dormant)
	}
	if closed+dormant == 0 && !moved {
		t.force(false)
		return
	}
	t.alloc.unbindNonces()
	t.force(true)
}

// countLost counts the mappings that changes close or make dormant.
func countLost(changes []Change) (closed, dormant int) {
	for _, c := range changes {
		switch {
		case c.After == nil:
			closed++
		case c.After.Dormant:
			dormant++
		}
	}
	return closed, dormant
}

// Withdraw closes the mappings for which which is true and returns how many
// they were. The epoch does not restart. The function is called on the table's
// goroutine.
func (t *Table) Withdraw(ctx context.Context, which func(*Mapping) bool) (closed int, err error) {
	err = t.runTask(ctx, func() {
		t.alloc.begin()
		t.alloc.withdraw(which)
		closed = len(t.alloc.changes)
		t.force(false)
	})
	return closed, err
}

// Block closes the mappings that b covers and refuses new ones until it ends.
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

// Explanation is the answer that a request would get, and the reason.
type Explanation struct {
	Answer
	// Rule is the index in Policy.Rules of the rule that decides about the
	// external port, -1 when none does, which allows it.
	Rule int
	// Block is the operator's block that covers it; nil if none does.
	Block *Block
}

// Explain decides a request to open a mapping without opening it.
func (t *Table) Explain(ctx context.Context, req Request) (e Explanation, err error) {
	req.Op = Open
	err = t.call(ctx, func(done func()) {
		t.alloc.begin()
		e = t.alloc.explain(&req)
		done()
	})
	return e, err
}
