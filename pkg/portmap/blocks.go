package portmap

import (
	"slices"
	"time"
)

// Block is the operator's refusal of mappings. Values are immutable once in force.
type Block struct {
	ID int // from 1 on; 0: it was never in force
	Selector
	Since time.Time
	Until time.Time // zero: for ever
}

// isInForce reports whether the block has not ended.
func (b *Block) isInForce(now time.Time) bool { return b.Until.IsZero() || b.Until.After(now) }

// BlockRecord is a block with the requests that it has refused.
type BlockRecord struct {
	*Block
	Hits    uint64
	LastHit time.Time // zero: never
}

// blockFor returns the first block in force that refuses a request an external
// port, and with which reason; nil if none does. If it is uncertain whether the
// host is the blocked one, it is refused as an unknown one.
func (al *allocator) blockFor(req *Request, external uint16) (*Block, Refusal) {
	for i := range al.blocks {
		b := al.blocks[i].Block
		switch certain, possible := b.refuses(req, external); {
		case !possible || !b.isInForce(al.now):
		case certain:
			return b, Blocked
		default:
			return b, UnknownHost
		}
	}
	return nil, Granted
}

// isBlocked reports whether a block refuses a request an external port.
func (al *allocator) isBlocked(req *Request, external uint16) bool {
	b, _ := al.blockFor(req, external)
	return b != nil
}

// refuseBlocked returns the refusal of a request that a block refuses an external
// port.
func (al *allocator) refuseBlocked(req *Request, external uint16) (a Answer, blocked bool) {
	b, r := al.blockFor(req, external)
	return Answer{Refusal: r, Block: b}, b != nil
}

// blockBehind returns the block because of which a request was refused a new
// mapping; nil if that is for another reason.
func (al *allocator) blockBehind(req *Request, r Refusal) *Block {
	if r != Blocked {
		return nil
	}
	if b, _ := al.blockFor(req, req.externalPort()); b != nil {
		return b
	}
	for i := range al.blocks { // one for some ports, and the rules deny the others
		if b := al.blocks[i].Block; b.isInForce(al.now) {
			if _, possible := b.refuses(req, b.External.First); possible {
				return b
			}
		}
	}
	return nil
}

// removeBlocked removes from ports those that are blocked for a request.
func (al *allocator) removeBlocked(ports *PortSet, req *Request) {
	for i := range al.blocks {
		b := al.blocks[i].Block
		_, possible := b.refuses(req, b.External.First)
		switch {
		case !possible || !b.isInForce(al.now):
		case b.External == PortRange{}:
			ports.RemoveRange(PortRange{Last: 1<<16 - 1})
		default:
			ports.RemoveRange(b.External)
		}
	}
}

// leftOpen returns the mappings that the block which refused a request covers and that
// lead to an address of the host that it certainly blocks: those that the host got
// while it was not recognized.
func (al *allocator) leftOpen(req *Request, a Answer) (list []*Mapping) {
	if a.Refusal != Blocked || a.Block == nil {
		return nil
	}
	if req.ID != 0 {
		req = req.about(a.Mapping)
	}
	for _, addr := range a.Block.Host.addrsOf(req) {
		for _, m := range al.index.toHost(addr) {
			if a.Block.coversPort(m.Protocol, m.ExternalPort()) {
				list = append(list, m)
			}
		}
	}
	return list
}

// closeLeftOpen closes what a refusal has left open: mappings of the other family, and
// those that the kernel has kept.
func (t *Table) closeLeftOpen(req *Request, a Answer) {
	if len(t.alloc.leftOpen(req, a)) == 0 {
		return
	}
	about := *req
	t.tasks = append(t.tasks, func() {
		t.alloc.begin()
		for _, m := range t.alloc.leftOpen(&about, a) {
			t.alloc.drop(m, allClaims, ByOperator)
		}
		t.force(false)
	})
}

// about returns an UPnP request by UniqueID as one for the pinhole.
func (req *Request) about(m *Mapping) *Request {
	n := *req
	n.Protocol, n.Internal = m.Protocol, m.Internal
	return &n
}

// checkExisting is checkMapping for a mapping that was granted before. A block
// closes it, too, and while it is uncertain whether one does it is dormant.
func (al *allocator) checkExisting(m *Mapping) Refusal {
	r := al.checkMapping(m, al.checkClaims(m))
	if r != Granted && !r.isTemporary() {
		return r
	}
	for i := range al.blocks {
		b := al.blocks[i].Block
		switch certain, possible := b.covers(m); {
		case !b.isInForce(al.now):
		case certain:
			return Blocked
		case possible && r == Granted:
			r = UnknownHost
		}
	}
	return r
}

// block puts b in force and closes the mappings that it covers. Those to its
// address are among them even if another host had made them.
func (al *allocator) block(b *Block) {
	al.blocks = append(al.blocks, BlockRecord{Block: b})
	al.withdraw(b.closes, ByOperator)
}

// nextBlockEnd returns when the next block ends; zero means never.
func (al *allocator) nextBlockEnd() (next time.Time) {
	for i := range al.blocks {
		next = earlier(next, al.blocks[i].Until)
	}
	return next
}

// closures returns how many mappings changes close.
func closures(changes []Change) (n int) {
	for _, c := range changes {
		if c.After == nil {
			n++
		}
	}
	return n
}

// hit counts a request that b has refused.
func hit(list []BlockRecord, b *Block, now time.Time) {
	if i := slices.IndexFunc(list, func(r BlockRecord) bool { return r.ID == b.ID }); i >= 0 {
		list[i].Hits++
		list[i].LastHit = now
	}
}
