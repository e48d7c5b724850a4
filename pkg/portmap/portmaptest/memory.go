// Package portmaptest provides an in-memory firewall and store for tests.
package portmaptest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"igdd/pkg/portmap"
)

// ErrRefused is returned by a Firewall that was set up to fail.
var ErrRefused = errors.New("portmaptest: refused")

// Firewall is an in-memory portmap.Firewall. The zero value is an empty
// firewall with its chains in place.
type Firewall struct {
	// Refuse, if set, is called for each change; true makes the batch fail.
	Refuse func(portmap.Change) bool
	// Locked makes every Apply fail with portmap.ErrLocked while it is set.
	Locked atomic.Bool
	// Hold, if set, makes every Apply and Force wait to receive from it, or until
	// its context ends.
	Hold chan struct{}

	mu      sync.Mutex
	held    map[portmap.Key]*portmap.Mapping // what it should have rules of
	open    map[portmap.Key]*portmap.Mapping // what it has rules of
	batches int
	syncs   int
}

// Apply carries out all changes or none. What another program has removed is
// restored with them.
func (f *Firewall) Apply(ctx context.Context, changes []portmap.Change) error {
	if err := f.wait(ctx); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.batches++
	if f.Locked.Load() {
		return portmap.ErrLocked
	}
	for _, c := range changes {
		if f.Refuse != nil && f.Refuse(c) {
			return ErrRefused
		}
	}
	f.take(changes)
	f.restore()
	return nil
}

// Force takes over the changes. What is refused is carried out by the next
// Apply or Force that is not.
func (f *Firewall) Force(ctx context.Context, changes []portmap.Change) {
	err := f.wait(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.batches++
	f.take(changes)
	for _, c := range changes {
		if err != nil || f.Refuse != nil && f.Refuse(c) {
			return
		}
	}
	if !f.Locked.Load() {
		f.restore()
	}
}

// wait waits while Hold is set.
func (f *Firewall) wait(ctx context.Context) error {
	if f.Hold == nil {
		return nil
	}
	select {
	case <-f.Hold:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// take takes over changes.
func (f *Firewall) take(changes []portmap.Change) {
	if f.held == nil {
		f.held = make(map[portmap.Key]*portmap.Mapping)
	}
	carryOut(f.held, changes)
}

// restore makes the rules of what is held.
func (f *Firewall) restore() {
	f.open = make(map[portmap.Key]*portmap.Mapping, len(f.held))
	for k, m := range f.held {
		if (portmap.Change{After: m}).Alters() { // it has rules
			f.open[k] = m
		}
	}
}

// carryOut applies changes to a set of mappings.
func carryOut(held map[portmap.Key]*portmap.Mapping, changes []portmap.Change) {
	for _, c := range changes {
		if c.Before != nil {
			delete(held, c.Before.Key)
		}
		if c.After != nil {
			held[c.After.Key] = c.After
		}
	}
}

// Sync replaces the mappings of a family by these.
func (f *Firewall) Sync(_ context.Context, v portmap.Family, mappings []*portmap.Mapping) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if v == portmap.IPv4 {
		f.syncs++
	}
	held := make(map[portmap.Key]*portmap.Mapping, len(mappings))
	for _, m := range mappings {
		held[m.Key] = m
	}
	for k, m := range f.held {
		if k.Family() != v {
			held[k] = m
		}
	}
	f.held = held
	for _, m := range mappings {
		if f.Refuse != nil && f.Refuse(portmap.Change{After: m}) {
			return ErrRefused
		}
	}
	f.restore()
	return nil
}

// Restore makes the rules of what is held, as a reconciler does after another
// program has changed them.
func (f *Firewall) Restore() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.restore()
}

// Flush empties the firewall as another program would.
func (f *Firewall) Flush() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open = nil
}

// Open returns the mappings that have rules, in order of creation.
func (f *Firewall) Open() []*portmap.Mapping {
	f.mu.Lock()
	defer f.mu.Unlock()
	return bySerial(f.open)
}

// Batches returns the number of calls of Apply.
func (f *Firewall) Batches() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.batches
}

// Syncs returns the number of calls of Sync for IPv4.
func (f *Firewall) Syncs() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.syncs
}

// Store is an in-memory portmap.Store.
type Store struct {
	// Full, if set, makes every Save fail.
	Full bool

	mu     sync.Mutex
	held   map[portmap.Key]*portmap.Mapping
	loaded bool // the next Save replaces held
	epoch  portmap.Epoch
	set    bool // there is an epoch
	blocks map[int]portmap.BlockRecord
	last   int          // number of the last block
	stale  map[int]bool // blocks that the next Save drops: they were not set since Load
}

// Reboot makes the store forget the epoch, as a reboot of the router does.
func (s *Store) Reboot() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set = false
}

// Epoch returns the epoch of the last SetEpoch.
func (s *Store) Epoch() (portmap.Epoch, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epoch, s.set
}

// SetEpoch saves an epoch.
func (s *Store) SetEpoch(e portmap.Epoch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch, s.set = e, true
}

// Blocks returns the blocks that were saved.
func (s *Store) Blocks() ([]portmap.BlockRecord, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []portmap.BlockRecord
	for _, id := range slices.Sorted(maps.Keys(s.blocks)) {
		list = append(list, s.blocks[id])
	}
	return list, s.last
}

// SetBlock saves a block.
func (s *Store) SetBlock(b portmap.BlockRecord) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blocks == nil {
		s.blocks = make(map[int]portmap.BlockRecord)
	}
	s.blocks[b.ID], s.last = b, max(s.last, b.ID)
	delete(s.stale, b.ID)
}

// DropBlock drops a block.
func (s *Store) DropBlock(id int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.blocks, id)
	s.last = max(s.last, id)
}

// Saved returns what was saved, in order of creation.
func (s *Store) Saved() []*portmap.Mapping {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bySerial(s.held)
}

// Load returns what was saved.
func (s *Store) Load() ([]*portmap.Mapping, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loaded, s.stale = true, make(map[int]bool)
	for id := range s.blocks {
		s.stale[id] = true
	}
	return bySerial(s.held), nil
}

// Save saves the changes. The first one after Load replaces all mappings.
func (s *Store) Save(changes []portmap.Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Full {
		return errors.New("portmaptest: no space left")
	}
	if s.held == nil || s.loaded {
		s.held, s.loaded = make(map[portmap.Key]*portmap.Mapping), false
	}
	carryOut(s.held, changes)
	for id := range s.stale {
		delete(s.blocks, id)
	}
	s.stale = nil
	return nil
}

func bySerial(held map[portmap.Key]*portmap.Mapping) []*portmap.Mapping {
	var list []*portmap.Mapping
	for _, m := range held {
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b *portmap.Mapping) int { return int(a.Serial) - int(b.Serial) })
	return list
}
