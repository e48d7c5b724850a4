package daemon

import (
	"slices"

	"igdd/pkg/leasefile"
	"igdd/pkg/portmap"
)

// Inheritance is what an instance could not save and hands to the next one in the same
// process: all mappings and blocks.
type Inheritance struct {
	mappings  []*portmap.Mapping
	blocks    []portmap.BlockRecord
	lastBlock int // the highest number of a block
}

// inheritingStore is the store of an instance whose predecessor in the same process
// could not save everything.
type inheritingStore struct {
	*leasefile.TimedStore
	from *Inheritance // nil: everything was saved
}

// Load returns the predecessor's mappings, if they were not saved, instead of those in
// the files. With an error of the files, these are all there are.
func (s inheritingStore) Load() ([]*portmap.Mapping, error) {
	if s.from != nil {
		return s.from.mappings, s.LoadUnused()
	}
	return s.TimedStore.Load()
}

// Blocks returns the predecessor's blocks, if they were not saved, instead of those in
// the files.
func (s inheritingStore) Blocks() (list []portmap.BlockRecord, last int) {
	if s.from != nil {
		return s.from.blocks, s.from.lastBlock
	}
	return s.TimedStore.Blocks()
}

// inheritance returns what the next instance needs, after the table has ended. Of the
// mappings these are copies without the contacts of this instance's servers.
func (d *Daemon) inheritance() *Inheritance {
	in := &Inheritance{blocks: d.table.Blocks(), lastBlock: d.table.LastBlock()}
	for _, m := range d.table.List() {
		n := *m
		n.Claims = slices.Clone(m.Claims)
		for j := range n.Claims {
			n.Claims[j].Contact = nil
		}
		in.mappings = append(in.mappings, &n)
	}
	return in
}

// Unsaved returns all mappings and blocks, after Run, if it could not save them; else
// nil.
func (d *Daemon) Unsaved() *Inheritance { return d.unsaved }
