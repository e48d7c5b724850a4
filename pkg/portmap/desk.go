package portmap

import (
	"net/netip"
	"slices"
	"time"
)

// desk decides requests one after another against what it has decided before.
// It touches nothing but its own book; what it changed is in changes.
type desk struct {
	book      *book
	deadlines [2]deadlines // by family
	resting   resting
	vetoes    []Veto
	policy    *Policy
	around    Surroundings
	listening func(Protocol, uint16) bool
	flowPort  func(Protocol, netip.AddrPort, netip.AddrPort) (uint16, bool)
	serial    uint64
	lastID    uint16
	now       time.Time
	changes   []Change
}

func newDesk(o Options) desk {
	return desk{
		book:      newBook(),
		deadlines: [2]deadlines{newDeadlines(), newDeadlines()},
		resting:   newResting(),
		policy:    o.Policy,
		around:    o.Surroundings,
		listening: o.Listening,
		flowPort:  o.FlowPort,
	}
}

// begin starts a batch. The changes of the one before are its owner's.
func (d *desk) begin() {
	d.now = time.Now()
	d.resting.sweep(d.now)
	d.changes = nil
}

// decide answers one request.
func (d *desk) decide(req *Request) Answer {
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
func (d *desk) decideByID(req *Request) Answer {
	m := d.book.byID[req.ID]
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
func (d *desk) change(c Change) {
	d.apply(c)
	d.changes = append(d.changes, c)
}

// undo takes back everything since the n-th change.
func (d *desk) undo(n int) {
	d.takeBack(d.changes[n:])
	d.changes = d.changes[:n]
}

// takeBack takes back changes that nothing has been built on since.
func (d *desk) takeBack(changes []Change) {
	for _, c := range slices.Backward(changes) {
		if c.After == nil {
			d.resting.forget(c.Before.Key)
		}
		d.apply(c.Inverse())
	}
}

func (d *desk) apply(c Change) {
	d.book.apply(c)
	d.deadlines[c.key().Family()].apply(c)
}
