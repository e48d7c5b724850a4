package leasefile

import (
	"errors"
	"fmt"
	"slices"

	"igdd/pkg/journal"
	"igdd/pkg/portmap"
)

// state is the content of a state file.
type state struct {
	journal.Content
	mark    mark // the last one
	service serviceRecord
	records []*record // nil where one was dropped

	blocks map[int]storedBlock

	byKey map[portmap.Key]int   // where in records
	sizes map[portmap.Key]int64 // of their lines, in bytes
}

// readState reads the state file, if there is one. The records are in order of
// creation. Its Damage says that some are missing; the error, why it cannot be opened.
func readState(path string) (st *state, err error) {
	st = &state{byKey: make(map[portmap.Key]int), sizes: make(map[portmap.Key]int64), blocks: make(map[int]storedBlock)}
	st.Content, err = journal.Read(path, st.read)
	if st.Found && st.Damage == nil && st.mark.Format == 0 {
		st.Damage = errors.New("no valid mark")
	}
	return st, err
}

// read reads one entry.
func (st *state) read(text []byte) error {
	e, err := decodeEntry(text)
	switch {
	case err != nil:
		return err
	case e.Mark != nil && e.Mark.Format != format:
		return fmt.Errorf("unknown format %d", e.Mark.Format)
	case e.Mark != nil:
		st.mark = *e.Mark
	case e.Service != nil:
		st.service = *e.Service
	case e.Put != nil:
		return st.put(e.Put, journal.LineSize(text))
	case e.Drop != nil:
		return st.drop(e.Drop)
	case e.Block != nil:
		st.blocks[e.Block.ID] = storedBlock{e.Block, journal.LineSize(text)}
	default:
		delete(st.blocks, e.Unblock)
	}
	return nil
}

// put adds a mapping at the end, or updates it in its place.
func (st *state) put(r *record, size int64) error {
	k, err := r.portmapKey()
	if err != nil {
		return err
	}
	if i, held := st.byKey[k]; held {
		st.records[i] = r
	} else {
		st.byKey[k] = len(st.records)
		st.records = append(st.records, r)
	}
	st.sizes[k] = size
	return nil
}

// drop removes a mapping.
func (st *state) drop(d *keyRecord) error {
	k, err := d.portmapKey()
	if err != nil {
		return err
	}
	if i, held := st.byKey[k]; held {
		st.records[i] = nil
		delete(st.byKey, k)
		delete(st.sizes, k)
	}
	return nil
}

// live returns the records that were not dropped, in order of creation.
func (st *state) live() []*record {
	return slices.DeleteFunc(slices.Clone(st.records), func(r *record) bool { return r == nil })
}

// describes reports whether f is the lease file that the last mark describes:
// as it was left, or as it was about to be left.
func (st *state) describes(f fingerprint) bool {
	return st.mark.Format != 0 && slices.Contains(st.mark.Lease, f)
}
