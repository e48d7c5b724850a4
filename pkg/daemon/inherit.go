package daemon

import (
	"slices"

	"igdd/pkg/leasefile"
	"igdd/pkg/portmap"
)

// inheritingStore is the store of an instance whose predecessor in the same process
// could not save its mappings.
type inheritingStore struct {
	*leasefile.TimedStore
	mappings []*portmap.Mapping // nil: they were saved
}

// Load returns the predecessor's mappings, if they were not saved, instead of those in
// the files. With an error of the files, these are all there are.
func (s inheritingStore) Load() ([]*portmap.Mapping, error) {
	if s.mappings != nil {
		return s.mappings, s.LoadUnused()
	}
	return s.TimedStore.Load()
}

// inheritable returns copies of mappings, not nil, without the contacts of this instance's
// servers.
func inheritable(list []*portmap.Mapping) []*portmap.Mapping {
	copies := make([]*portmap.Mapping, len(list))
	for i, m := range list {
		n := *m
		n.Claims = slices.Clone(m.Claims)
		for j := range n.Claims {
			n.Claims[j].Contact = nil
		}
		copies[i] = &n
	}
	return copies
}

// Unsaved returns all mappings, after Run, if it could not save them; else nil.
func (d *Daemon) Unsaved() []*portmap.Mapping { return d.unsaved }
