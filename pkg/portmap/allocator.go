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
func (al *allocator) begin() {
	al.now = time.Now()
	al.holdDown.sweep(al.now)
	al.changes = nil
}

// decide answers one request.
func (al *allocator) decide(req *Request) Answer {
	switch {
	case req.ID != 0:
		return al.decideByID(req)
	case req.Op == Close:
		return al.close(req)
	}
	return al.open(req)
}

// decideByID renews or gives up one pinhole that UPnP opened
// (WANIPv6FirewallControl:1, sections 2.6.4 and 2.6.5).
func (al *allocator) decideByID(req *Request) Answer {
	m := al.index.byID[req.ID]
	if m == nil {
		return Answer{Refusal: NotFound}
	}
	if al.policy.Secure && !req.comesFrom(m.Internal.Addr()) {
		return Answer{Refusal: NotAuthorized, Mapping: m}
	}
	ours := func(c Claim) bool { return c.ID == req.ID }
	if req.Op == Close {
		al.drop(m, ours)
		return Answer{Closed: 1}
	}
	if r := al.checkRenewal(m, req); r != Granted {
		return Answer{Refusal: r, Mapping: m}
	}
	after := m.withEnd(ours, al.now.Add(req.Lifetime))
	after.Host, after.Dormant = req.hostToKeep(m), al.lacksFirewall(m.Key)
	al.change(Change{Before: m, After: after})
	return Answer{Mapping: after, Lifetime: req.Lifetime, ID: req.ID}
}

// change notes c and puts it in force on the desk's own book.
func (al *allocator) change(c Change) {
	al.apply(c)
	al.changes = append(al.changes, c)
}

// undo takes back everything since the n-th change.
func (al *allocator) undo(n int) {
	al.takeBack(al.changes[n:])
	al.changes = al.changes[:n]
}

// takeBack takes back changes that nothing has been built on since.
func (al *allocator) takeBack(changes []Change) {
	for _, c := range slices.Backward(changes) {
		if c.After == nil {
			al.holdDown.forget(c.Before.Key)
		}
		al.apply(c.Inverse())
	}
}

func (al *allocator) apply(c Change) {
	al.index.apply(c)
	al.deadlines[c.key().Family()].apply(c)
}
