package portmap

import (
	"cmp"
	"context"
	"net/netip"
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

// SetNetworkState puts a new network state in force. Mappings whose network or
// IPv6 firewall is gone are dormant, those for which it is there again are in
// force again, and mappings of ports that a new static port forward has are
// closed. If the external address differs from the last one, the epoch restarts
// (RFC 6887, section 8.5), and clients may use other nonces for a while.
func (t *Table) SetNetworkState(ctx context.Context, s NetworkState) error {
	return t.runTask(ctx, func() {
		moved := t.epoch.isMoved(s.outermost())
		t.alloc.setNetwork(s)
		t.announce(s, moved)
		d := t.recheck(noHost)
		t.forceRechecked(d.lost, moved)
	})
}

// announce publishes the addresses of a network state to readers; moved restarts the epoch
// with them.
func (t *Table) announce(s NetworkState, moved bool) {
	before := t.epoch
	e := Epoch{before.Start, cmp.Or(s.outermost(), before.External)}
	if moved {
		e.Start = t.uptime()
	}
	t.setEpoch(e)
	if e != before {
		t.save(nil)
	}
}

// SetPolicy puts new rules in force: mappings that they forbid are closed, and
// those whose hosts are not known but matter are dormant.
func (t *Table) SetPolicy(ctx context.Context, p *Policy) error {
	return t.runTask(ctx, func() {
		t.alloc.policy = p
		d := t.recheck(noHost)
		t.forceRechecked(append(d.lost, d.suspended...), false)
	})
}

// Recognize updates the hosts of mappings: known returns the host of an
// address, if it is known now. Dormant mappings come into force if the rules
// allow their hosts and are closed if not; other mappings get a hardware
// address if they had none. The function is called on the table's goroutine.
func (t *Table) Recognize(ctx context.Context, known func(netip.Addr) (Host, bool)) error {
	return t.runTask(ctx, func() {
		t.recheck(known)
		t.force(false)
	})
}

// noHost knows no hosts.
func noHost(netip.Addr) (Host, bool) { return Host{}, false }

// recheck checks all mappings under the present settings and network state.
func (t *Table) recheck(known func(netip.Addr) (Host, bool)) digest {
	t.alloc.begin()
	d := t.alloc.recheck(known)
	d.logTo(t.log)
	return d
}

// forceRechecked queues the changes of a recheck, and reports the losses once
// they are in force; moved is set if the epoch has restarted with the external
// address. Otherwise it restarts if a client learns of its loss from that alone
// (RFC 6886, section 3.7). The nonces of others bind even then: they have lost
// nothing, and most clients keep their nonces.
func (t *Table) forceRechecked(losses []Loss, moved bool) {
	reset := moved || needEpoch(losses)
	switch {
	case moved:
		t.alloc.unbindNonces()
	case reset:
		t.restartEpoch()
	}
	t.force(reset)
	if len(losses) > 0 && t.lost != nil {
		t.afterForced = append(t.afterForced, func() { t.lost(losses) })
	}
}

// Withdraw closes the mappings for which which is true and returns how many
// they were. The epoch does not restart. The function is called on the table's
// goroutine.
func (t *Table) Withdraw(ctx context.Context, which func(*Mapping) bool) (closed int, err error) {
	return t.withdraw(ctx, which, HostLeft)
}

// withdraw closes the mappings for which which is true, because of a cause.
func (t *Table) withdraw(ctx context.Context, which func(*Mapping) bool, cause Cause) (closed int, err error) {
	err = t.runTask(ctx, func() {
		t.alloc.begin()
		t.alloc.withdraw(which, cause)
		closed = len(t.alloc.changes)
		t.force(false)
	})
	return closed, err
}

// Explanation is the answer that a request would get, and the reason: where the rules
// decide, Rule is the one that does, also if it allows the external port; nil: none does,
// which allows it.
type Explanation struct {
	Answer
	// HostUnknown is set if the rules deny the request only because they depend on an
	// address of the host that is not known.
	HostUnknown bool
	// Ambiguous is set if they deny it only because more than one interface has the
	// host's network, so that no rule for an interface allows it.
	Ambiguous bool
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
