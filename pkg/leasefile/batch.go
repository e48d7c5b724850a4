package leasefile

import (
	"cmp"
	"errors"
	"sort"

	"igdd/pkg/portmap"
)

// batch is what is saved together.
type batch struct {
	changes map[portmap.Key]portmap.Change // from the mapping in the store to the latest one
	blocks  map[int]*portmap.BlockRecord   // nil: dropped
	epoch   *portmap.Epoch                 // nil: as before
	bootID  uint32                         // of SSDP; 0: as before
	due     bool                           // it is to be saved

	done chan struct{} // closed when it was saved, or saving failed
	err  error         // valid once done is closed
}

func newBatch() *batch {
	return &batch{changes: make(map[portmap.Key]portmap.Change), blocks: make(map[int]*portmap.BlockRecord), done: make(chan struct{})}
}

// add adds a change after the others. The order of different mappings is not kept.
func (b *batch) add(c portmap.Change) {
	if c.Before != nil && c.After != nil && c.Before.Key != c.After.Key {
		b.add(portmap.Change{Before: c.Before})
		b.add(portmap.Change{After: c.After})
		return
	}
	key := cmp.Or(c.Before, c.After).Key
	if earlier, found := b.changes[key]; found {
		c.Before = earlier.Before
	}
	if c.Before == nil && c.After == nil {
		delete(b.changes, key) // the mapping has come and gone
		return
	}
	b.changes[key] = c
}

// list returns the changes: mappings that are dropped come first, new ones in order of
// creation.
func (b *batch) list() []portmap.Change {
	list := make([]portmap.Change, 0, len(b.changes))
	for _, c := range b.changes {
		if c.Before != nil && c.After != nil && c.Before.Serial != c.After.Serial {
			list = append(list, portmap.Change{Before: c.Before})
			c.Before = nil
		}
		list = append(list, c)
	}
	sort.Slice(list, func(i, j int) bool { return serialOf(list[i].After) < serialOf(list[j].After) })
	return list
}

// serialOf returns the number of a mapping in order of creation; 0 for nil.
func serialOf(m *portmap.Mapping) uint64 {
	if m == nil {
		return 0
	}
	return m.Serial
}

// saveTo saves the batch to a store.
func (b *batch) saveTo(s *Store) error {
	var err error
	if b.epoch != nil {
		s.SetEpoch(*b.epoch)
	}
	if b.bootID != 0 {
		err = s.SetBootID(b.bootID)
	}
	for id, block := range b.blocks {
		if block != nil {
			s.SetBlock(*block)
		} else {
			s.DropBlock(id)
		}
	}
	return errors.Join(err, s.Save(b.list()))
}

// finish sets the result.
func (b *batch) finish(err error) {
	b.err = err
	close(b.done)
}
