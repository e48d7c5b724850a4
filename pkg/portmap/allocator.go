package portmap

import (
	"net/netip"
	"slices"
	"time"
)

// allocator decides requests one after another against what it has decided before.
// It touches nothing but its own book; what it changed is in changes.
type allocator struct {
	index     *index
	deadlines [2]deadlines // by family
	holdDown  holdDown
	blocks    []Block
	policy    *Policy
	network   NetworkState
	listening func(Protocol, uint16) bool
	flowPort  func(Protocol, netip.AddrPort, netip.AddrPort) (uint16, bool)
	serial    uint64
	lastID    uint16
	now       time.Time
	changes   []Change
}

func newAllocator(o Options) allocator {
	return allocator{
		index:     newIndex(),
		deadlines: [2]deadlines{newDeadlines(), newDeadlines()},
		holdDown:  newHoldDown(),
		policy:    o.Policy,
		network:   o.Network,
		listening: o.Listening,
		flowPort:  o.FlowPort,
	}
}

// begin starts a batch. The changes of the one before are its owner's.
func (d *allocator) begin() {
	d.now = time.Now()
	d.holdDown.sweep(d.now)
	d.changes = nil
}

// decide answers one request.
func (d *allocator) decide(req *Request) Answer {
	switch {
	case req.ID != 0:
		return d.decideByID(req)
	case req.Op == Close:
		return d.close(req)
	}
	return d.open(req)
}

// decideByID renews or gives up one pinhole that UPnP opened
// (WANIPv6FirewallControl:1, sections 2.6.4 and 2.6.5).
func (d *allocator) decideByID(req *Request) Answer {
	m := d.index.byID[req.ID]
	if m == nil {
		return Answer{Refusal: NotFound}
	}
	if d.policy.Secure && !req.comesFrom(m.Internal.Addr()) {
		return Answer{Refusal: NotAuthorized, Mapping: m}
	}
	ours := func(c Claim) bool { return c.ID == req.ID }
	if req.Op == Close {
		d.drop(m, ours)
		return Answer{Closed: 1}
	}
	if r := d.readmits(m, req); r != Granted {
		return Answer{Refusal: r, Mapping: m}
	}
	after := m.withEnd(ours, d.now.Add(req.Lifetime))
	after.Host, after.Dormant = req.holder(m), d.unreachable(m.Key)
	d.change(Change{Before: m, After: after})
	return Answer{Mapping: after, Lifetime: req.Lifetime, ID: req.ID}
}

// change notes c and puts it in force on the desk's own book.
func (d *allocator) change(c Change) {
	d.apply(c)
	d.changes = append(d.changes, c)
}

// undo takes back everything since the n-th change.
func (d *allocator) undo(n int) {
	d.takeBack(d.changes[n:])
	d.changes = d.changes[:n]
}

// takeBack takes back changes that nothing has been built on since.
func (d *allocator) takeBack(changes []Change) {
	for _, c := range slices.Backward(changes) {
		if c.After == nil {
			d.holdDown.forget(c.Before.Key)
		}
		d.apply(c.Inverse())
	}
}

func (d *allocator) apply(c Change) {
	d.index.apply(c)
	d.deadlines[c.key().Family()].apply(c)
}
