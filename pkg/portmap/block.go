package portmap

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Block is a refusal of new mappings that the operator sets for a time: for
// ports, for a host, or both. It is not saved: it ends with the process.
type Block struct {
	Host     netip.Addr // the internal host; the zero Addr: every host
	Protocol Protocol   // 0: both
	External PortRange  // the zero range: every port
	Until    time.Time
}

// covers reports whether the block applies to a mapping.
func (b *Block) covers(p Protocol, external uint16, host netip.Addr) bool {
	return (b.Protocol == 0 || b.Protocol == p) &&
		(!b.Host.IsValid() || b.Host == host) &&
		(b.External == PortRange{} || b.External.Contains(external))
}

// blockFor returns the block in force that covers a mapping, or nil.
func (al *allocator) blockFor(p Protocol, external uint16, host netip.Addr) *Block {
	for i := range al.blocks {
		if b := &al.blocks[i]; b.covers(p, external, host) && b.Until.After(al.now) {
			return b
		}
	}
	return nil
}

// removeBlocked removes from ports those that are blocked for the request's
// target.
func (al *allocator) removeBlocked(ports *PortSet, req *Request) {
	for i := range al.blocks {
		b := al.blocks[i]
		if b.External == (PortRange{}) {
			b.External = PortRange{Last: 1<<16 - 1}
		}
		if b.covers(req.Protocol, b.External.First, req.Internal.Addr()) && b.Until.After(al.now) {
			ports.RemoveRange(b.External)
		}
	}
}

// block puts b in force and closes the mappings that it covers.
func (al *allocator) block(b Block) {
	al.blocks = slices.DeleteFunc(al.blocks, func(b Block) bool { return !b.Until.After(al.now) })
	al.blocks = append(al.blocks, b)
	al.withdraw(func(m *Mapping) bool { return b.covers(m.Protocol, m.externalEndpoint().Port(), m.Internal.Addr()) }, ByOperator)
}

// withdraw closes the mappings for which which is true.
func (al *allocator) withdraw(which func(*Mapping) bool, cause Cause) {
	for _, m := range slices.Clone(al.index.order) {
		if which(m) {
			al.drop(m, func(Claim) bool { return true }, cause)
		}
	}
}

// explain decides a request and reverts the result.
func (al *allocator) explain(req *Request) Explanation {
	serial, id, n := al.serial, al.lastID, len(al.changes)
	e := Explanation{Answer: al.decide(req)}
	al.undo(n)
	al.serial, al.lastID = serial, id
	external, to := req.externalPort(), al.destinationOf(req)
	if e.Refusal == Granted {
		external = e.Mapping.externalEndpoint().Port()
	}
	e.Rule = cmp.Or(e.Rule, al.policy.rule(external, to, req.Description))
	if e.Refusal == NotAuthorized && al.checkRules(external, to, req.Description) == UnknownHost {
		e.Refusal = UnknownHost
	}
	if b := al.blockFor(req.Protocol, external, req.Internal.Addr()); b != nil {
		found := *b
		e.Block = &found
	}
	return e
}
