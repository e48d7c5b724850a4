package portmap

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// allocator decides requests one after another against what it has decided
// before. It changes nothing but its own state and collects what it changed in
// changes.
type allocator struct {
	index     *index
	deadlines [2]deadlines // by family
	quotas    quotas
	// forwardedUntil is when the forwardings of the router in front end unless it renews
	// them; the zero Time: never.
	forwardedUntil map[Key]time.Time
	numbers        numbers
	holdDown       holdDown
	blocks         []BlockRecord
	policy         *Policy
	network        NetworkState
	listening      func(Protocol, uint16) bool
	listeners      func(Protocol) *PortSet
	flowPort       func(Protocol, netip.AddrPort, netip.AddrPort) (uint16, bool)
	serial         uint64
	lastID         uint16
	now            time.Time
	changes        []Change
}

func newAllocator(o Options) allocator {
	n := make(numbers)
	return allocator{
		index:          newIndex(),
		deadlines:      [2]deadlines{newDeadlines(), newDeadlines()},
		quotas:         newQuotas(),
		forwardedUntil: make(map[Key]time.Time),
		numbers:        n,
		holdDown:       newHoldDown(n),
		policy:         o.Policy,
		network:        o.Network,
		listening:      o.Listening,
		listeners:      o.Listeners,
		flowPort:       o.FlowPort,
		// A client that does not know yet that its pinhole has ended, before this table or
		// since, must not name another one.
		lastID: uint16(rand.Uint32()),
	}
}

// begin starts a batch with no changes. Those of the last batch belong to its
// caller.
func (al *allocator) begin() {
	al.now = time.Now()
	al.holdDown.sweep(al.now)
	al.changes = nil
}

// decide answers one request, and closes what a block that refuses it covers.
func (al *allocator) decide(req *Request) Answer {
	a := al.decideAlone(req)
	for _, m := range al.leftOpen(req, a) {
		if m.Family() == req.family() {
			al.drop(m, allClaims, ByOperator)
		}
	}
	return a
}

// decideAlone is decide for the request alone.
func (al *allocator) decideAlone(req *Request) Answer {
	n := len(al.changes)
	var a Answer
	switch {
	case req.ID != 0:
		a = al.decideByID(req)
	case req.Op == Close:
		a = al.close(req)
	default:
		a = al.open(req)
	}
	for i := n; i < len(al.changes); i++ {
		al.changes[i].Client, al.changes[i].ClientHost = req.Client, req.ClientHost
	}
	if a.Refusal.isByRules() && a.Block == nil {
		a.Rule = al.denyingRule(req, a.Mapping)
	}
	return a
}

// denyingRule returns the rule that denies a request, which m prevents unless it is
// nil.
func (al *allocator) denyingRule(req *Request, m *Mapping) *Rule {
	port, to := req.externalPort(), al.destinationOf(req)
	if m != nil {
		port = m.externalEndpoint().Port()
	}
	if req.ID != 0 {
		to = al.destinationIn(m, m.Internal, req)
	}
	if r := al.policy.rule(port, to, req.Description); r != nil && !r.Allow {
		return r
	}
	return nil
}

// externalPort returns the external port that the rules are asked about first.
func (req *Request) externalPort() uint16 { return cmp.Or(req.External, req.Internal.Port()) }

// decideByID renews or deletes one pinhole that UPnP opened
// (WANIPv6FirewallControl:1, sections 2.6.4 and 2.6.5).
func (al *allocator) decideByID(req *Request) Answer {
	m := al.index.byID[req.ID]
	if m == nil {
		return Answer{Refusal: NotFound}
	}
	if al.policy.Secure && !req.comesFrom(m.Internal.Addr()) {
		return Answer{Refusal: NotOwner, Mapping: m}
	}
	byID := func(c Claim) bool { return c.ID == req.ID }
	if req.Op == Close {
		al.drop(m, byID, Deleted)
		return Answer{Closed: 1}
	}
	if a, blocked := al.refuseBlocked(req.about(m), m.externalEndpoint().Port()); blocked {
		a.Mapping = m
		return a
	}
	n, r := al.renewed(m, m.Internal, req)
	if r != Granted {
		return Answer{Refusal: r, Mapping: m}
	}
	after := n.withEnd(byID, al.now.Add(req.Lifetime))
	al.change(Change{Before: m, After: after})
	return Answer{Mapping: after, Lifetime: req.Lifetime, ID: req.ID}
}

// change applies c to the allocator's own index and adds it to the batch.
func (al *allocator) change(c Change) {
	al.setForwarding(c)
	al.apply(c)
	al.changes = append(al.changes, c)
}

// undo reverts the changes from the n-th on.
func (al *allocator) undo(n int) {
	al.revert(al.changes[n:])
	al.changes = al.changes[:n]
}

// revert undoes changes on which no later change depends.
func (al *allocator) revert(changes []Change) {
	for _, c := range slices.Backward(changes) {
		if c.After == nil && c.Before.needsHoldDown() { // an earlier one stays
			al.holdDown.forget(c.Before.Key)
		}
		al.apply(c.Inverse())
	}
}

func (al *allocator) apply(c Change) {
	al.index.apply(c)
	al.count(c)
	al.deadlines[c.key().Family()].apply(c)
}
