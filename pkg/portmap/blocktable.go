package portmap

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// maxBlocks bounds the blocks in force: every request is compared with all of them.
const maxBlocks = 256

// BlockResult is what came of a new block.
type BlockResult struct {
	Block   *Block
	Closed  int   // the mappings that were closed
	Unsaved error // why the block, which is in force, ends with the process; nil: it is saved
	// Elsewhere is set if the address that was named is on no LAN now.
	Elsewhere bool
}

// Block puts a block in force: it closes the mappings that b covers and refuses
// new ones. It sets the block's number and beginning. It returns an error if there
// are too many blocks, or if no client can be the host that b names.
func (t *Table) Block(ctx context.Context, b Block) (r BlockResult, err error) {
	var refused error
	err = t.runTask(ctx, func() {
		elsewhere := false
		if elsewhere, refused = t.checkBlock(&b); refused == nil {
			r = t.block(b)
			r.Elsewhere = elsewhere
		}
	})
	if err == nil {
		err = refused
	}
	return r, err
}

// checkBlock returns why b cannot be set, and whether its host's address is on no LAN.
func (t *Table) checkBlock(b *Block) (elsewhere bool, err error) {
	if len(t.alloc.blocks) >= maxBlocks {
		return false, fmt.Errorf("there are %d blocks, the maximum; unblock some first", maxBlocks)
	}
	return t.alloc.network.checkBlock(&b.Host)
}

// block is Block on the table's goroutine.
func (t *Table) block(b Block) (r BlockResult) {
	t.alloc.begin()
	b.ID, b.Since = t.lastBlock+1, t.alloc.now
	t.store.SetBlock(BlockRecord{Block: &b})
	r.Block, r.Unsaved = &b, t.save(nil)
	t.mu.Lock()
	t.lastBlock = b.ID
	t.alloc.block(&b)
	t.mu.Unlock()
	r.Closed = closures(t.alloc.changes)
	t.force(false)
	t.applyBlocks()
	return r
}

// Bind binds the block with a number, if it is unbound, to hardware addresses of the host
// that it names: it then holds as if it had been set so. It returns an error if the table
// has stopped or ctx has ended.
func (t *Table) Bind(ctx context.Context, id int, hardware []string) error {
	return t.runTask(ctx, func() {
		i := slices.IndexFunc(t.alloc.blocks, func(r BlockRecord) bool { return r.ID == id && r.Host.IsUnbound() })
		if i >= 0 {
			t.bind(&t.alloc.blocks[i], hardware)
		}
	})
}

// bind is Bind on the table's goroutine.
func (t *Table) bind(r *BlockRecord, hardware []string) {
	b := *r.Block
	b.Host.Bound = hardware
	t.mu.Lock()
	r.Block = &b
	t.mu.Unlock()
	t.store.SetBlock(*r)
	t.save(nil)
	t.alloc.begin()
	t.alloc.withdraw(b.closes, ByOperator)
	t.force(false)
	t.applyBlocks()
}

// applyBlocks makes mappings dormant of whose hosts it is uncertain whether they
// are blocked, and puts those in force of which it is no longer.
func (t *Table) applyBlocks() {
	t.recheck(noHost)
	t.force(false)
}

// Unblock lifts the blocks for which which is true, and returns them. With an error
// unsaved they come back after a restart. The function is called on the table's
// goroutine.
func (t *Table) Unblock(ctx context.Context, which func(*Block) bool) (lifted []*Block, unsaved, err error) {
	err = t.runTask(ctx, func() {
		if lifted = t.removeBlocks(which); len(lifted) > 0 {
			unsaved = t.save(nil)
			t.applyBlocks()
		}
	})
	return lifted, unsaved, err
}

// removeBlocks removes the blocks for which which is true, and returns them. The
// next save saves that.
func (t *Table) removeBlocks(which func(*Block) bool) (removed []*Block) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.alloc.blocks = slices.DeleteFunc(t.alloc.blocks, func(r BlockRecord) bool {
		if !which(r.Block) {
			return false
		}
		t.store.DropBlock(r.ID)
		removed = append(removed, r.Block)
		return true
	})
	return removed
}

// endBlocks removes the blocks that have ended.
func (t *Table) endBlocks(now time.Time) {
	if end := t.alloc.nextBlockEnd(); end.IsZero() || end.After(now) {
		return
	}
	for _, b := range t.removeBlocks(func(b *Block) bool { return !b.isInForce(now) }) {
		if t.blockEnded != nil {
			t.blockEnded(b)
		}
	}
	t.save(nil)
	t.tasks = append(t.tasks, t.applyBlocks)
}

// restoreBlocks takes over the saved blocks that have not ended.
func (t *Table) restoreBlocks() {
	list, last := t.store.Blocks()
	list = slices.DeleteFunc(list, func(r BlockRecord) bool { return !r.isInForce(t.alloc.now) })
	for _, r := range list {
		t.store.SetBlock(r)
	}
	if !slices.ContainsFunc(list, func(r BlockRecord) bool { return r.ID == last }) {
		t.store.DropBlock(last) // a store that has not had it learns its number
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.alloc.blocks, t.lastBlock = list, last
}

// Blocks returns the blocks in force in the order in which they were set.
func (t *Table) Blocks() []BlockRecord {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.Clone(t.alloc.blocks)
}

// LastBlock returns the highest number that a block has had.
func (t *Table) LastBlock() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.lastBlock
}

// countHit counts a request that b has refused; nil: none has.
func (t *Table) countHit(b *Block) {
	if b == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	hit(t.alloc.blocks, b, time.Now())
}

// saveHits saves the blocks with what they have refused.
func (t *Table) saveHits() {
	for _, r := range t.alloc.blocks {
		t.store.SetBlock(r)
	}
	if len(t.alloc.blocks) > 0 {
		t.save(nil)
	}
}

// Delete closes the mappings that s covers and returns how many they were. Those of
// a host that was named by its address are only those to that address.
func (t *Table) Delete(ctx context.Context, s Selector) (closed int, err error) {
	if s.Host.Addr.IsValid() {
		return t.withdraw(ctx, s.leadsTo, ByOperator)
	}
	return t.withdraw(ctx, s.closes, ByOperator)
}

// BlockedHosts is what must be known of hosts to tell those that are blocked.
type BlockedHosts struct {
	Any      bool         // there is a block of a host
	Hardware bool         // by hardware address or name
	Names    []string     // by these names in DHCP leases
	IPv4     []netip.Addr // by these addresses
}

// BlockedHosts returns what must be known of hosts to tell those that are blocked.
func (t *Table) BlockedHosts() (need BlockedHosts) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for i := range t.alloc.blocks {
		h := &t.alloc.blocks[i].Host
		need.Any = need.Any || !h.IsEvery()
		need.Hardware = need.Hardware || !h.IsEvery() && !h.isByAddress()
		if h.Name != "" && !slices.Contains(need.Names, h.Name) {
			need.Names = append(need.Names, h.Name)
		}
		if h.Addr.Is4() && !slices.Contains(need.IPv4, h.Addr) {
			need.IPv4 = append(need.IPv4, h.Addr)
		}
	}
	return need
}
