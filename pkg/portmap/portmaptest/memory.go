// Package portmaptest provides an in-memory firewall and store for tests.
package portmaptest

import (
	"context"
	"errors"
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
	// Hold, if set, makes every Apply wait to receive from it, or until its
	// context ends.
	Hold chan struct{}

	mu      sync.Mutex
	open    map[portmap.Key]*portmap.Mapping
	flushed bool
	batches int
	syncs   int
}

// Apply carries out all changes or none.
func (f *Firewall) Apply(ctx context.Context, changes []portmap.Change) error {
	if f.Hold != nil {
		select {
		case <-f.Hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.batches++
	switch {
	case f.Locked.Load():
		return portmap.ErrLocked
	case f.flushed:
		return ErrRefused
	}
	for _, c := range changes {
		if f.Refuse != nil && f.Refuse(c) {
			return ErrRefused
		}
	}
	if f.open == nil {
		f.open = make(map[portmap.Key]*portmap.Mapping)
	}
	carryOut(f.open, changes, hasRules)
	return nil
}

// hasRules reports whether a mapping has rules.
func hasRules(m *portmap.Mapping) bool { return portmap.Change{After: m}.Alters() }

// carryOut applies changes to a set of the mappings for which keep is true.
func carryOut(held map[portmap.Key]*portmap.Mapping, changes []portmap.Change, keep func(*portmap.Mapping) bool) {
	for _, c := range changes {
		if c.Before != nil {
			delete(held, c.Before.Key)
		}
		if c.After != nil && keep(c.After) {
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
	open := make(map[portmap.Key]*portmap.Mapping, len(mappings))
	for _, m := range mappings {
		if f.Refuse != nil && f.Refuse(portmap.Change{After: m}) {
			return ErrRefused
		}
		if hasRules(m) {
			open[m.Key] = m
		}
	}
	for k, m := range f.open {
		if k.Family() != v {
			open[k] = m
		}
	}
	f.open, f.flushed = open, false
	return nil
}

// Healthy reports whether the firewall has not been flushed.
func (f *Firewall) Healthy() (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.flushed, nil
}

// Flush empties the firewall as another program would: the next Apply fails.
func (f *Firewall) Flush() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open, f.flushed = nil, true
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
	s.loaded = true
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
	carryOut(s.held, changes, func(*portmap.Mapping) bool { return true })
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
