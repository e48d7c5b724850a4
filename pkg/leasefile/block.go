package leasefile

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"

	"igdd/pkg/journal"
	"igdd/pkg/portmap"
)

// blockRecord is a portmap.BlockRecord as JSON. Times are Unix milliseconds.
type blockRecord struct {
	ID       int        `json:"id"`
	Addr     netip.Addr `json:"addr,omitzero"`
	Hardware string     `json:"mac,omitzero"`
	Name     string     `json:"name,omitzero"`
	Bound    []string   `json:"bound,omitempty"`
	Protocol string     `json:"proto,omitzero"` // absent: both
	First    uint16     `json:"first,omitzero"` // absent: every port
	Last     uint16     `json:"last,omitzero"`
	Since    int64      `json:"since"`
	Until    int64      `json:"until,omitzero"` // 0: for ever
	Hits     uint64     `json:"hits,omitzero"`
	LastHit  int64      `json:"hit,omitzero"` // 0: never
}

// heldBlock is a block in the state file.
type heldBlock struct {
	portmap.BlockRecord
	size int64 // of its line, in bytes
}

// blockRecordOf returns the record of b.
func blockRecordOf(b portmap.BlockRecord, now clockReading) *blockRecord {
	r := &blockRecord{
		ID: b.ID, Addr: b.Host.Addr, Hardware: b.Host.Hardware, Name: b.Host.Name, Bound: b.Host.Bound,
		First: b.External.First, Last: b.External.Last, Since: now.unixAt(b.Since), Hits: b.Hits,
	}
	if b.Protocol != 0 {
		r.Protocol = b.Protocol.String()
	}
	if !b.Until.IsZero() {
		r.Until = max(now.unixAt(b.Until), 1)
	}
	if !b.LastHit.IsZero() {
		r.LastHit = max(now.unixAt(b.LastHit), 1)
	}
	return r
}

// block returns the block, with times computed from now, or an error if the record
// is invalid: one without host and ports would refuse everything.
func (r *blockRecord) block(now clockReading) (portmap.BlockRecord, error) {
	b := &portmap.Block{ID: r.ID, Since: now.timeAt(r.Since)}
	b.Host = portmap.HostSelector{Addr: r.Addr, Hardware: r.Hardware, Name: r.Name, Bound: r.Bound}
	b.External = portmap.PortRange{First: r.First, Last: r.Last}
	var err error
	if r.Protocol != "" {
		b.Protocol, err = parseProtocol(r.Protocol)
	}
	isHardware := func(s string) bool { a, err := net.ParseMAC(s); return err == nil && a.String() == s }
	isInvalid := func(s string) bool { return !isHardware(s) }
	switch {
	case err != nil:
	case r.ID <= 0:
		err = errors.New("block has no number")
	case b.Host.IsEvery() && r.First == 0 || r.First > r.Last:
		err = errors.New("block has neither host nor ports")
	case r.Hardware != "" && !isHardware(r.Hardware), slices.ContainsFunc(r.Bound, isInvalid):
		err = errors.New("block has an invalid hardware address")
	}
	if r.Until != 0 {
		b.Until = now.timeAt(r.Until)
	}
	record := portmap.BlockRecord{Block: b, Hits: r.Hits}
	if r.LastHit != 0 {
		record.LastHit = now.timeAt(r.LastHit)
	}
	return record, err
}

// Blocks returns the blocks that Load has found, in order of their numbers, and the
// highest number that one has had.
func (s *Store) Blocks() (list []portmap.BlockRecord, last int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(s.blocks)) {
		list = append(list, s.blocks[id].BlockRecord)
	}
	return list, s.service.LastBlock
}

// SetBlock adds or updates a block that the next Save saves.
func (s *Store) SetBlock(b portmap.BlockRecord) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.staleBlocks, b.ID)
	was := s.blocks[b.ID]
	if was.Block == b.Block && was.Hits == b.Hits {
		return
	}
	was.BlockRecord = b
	s.blocks[b.ID] = was
	s.changedBlocks[b.ID] = true
	s.service.LastBlock = max(s.service.LastBlock, b.ID)
}

// DropBlock drops a block with the next Save.
func (s *Store) DropBlock(id int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropBlock(id)
}

func (s *Store) dropBlock(id int) {
	if _, held := s.blocks[id]; !held && id <= s.service.LastBlock {
		return
	}
	s.size -= s.blocks[id].size
	delete(s.blocks, id)
	s.changedBlocks[id] = true
	s.service.LastBlock = max(s.service.LastBlock, id) // it may have been set since the last Save
}

// noteBlocks returns the texts of the entries of blocks that the state file lacks,
// and has the files written. The first Save drops the blocks that were not set since
// Load.
func (s *Store) noteBlocks() (texts [][]byte) {
	for id := range s.staleBlocks {
		s.dropBlock(id)
	}
	for _, id := range slices.Sorted(maps.Keys(s.changedBlocks)) {
		texts = append(texts, s.noteBlock(id))
	}
	if len(texts) > 0 {
		s.schedule.by(s.checkClock())
	}
	clear(s.staleBlocks)
	clear(s.changedBlocks)
	return texts
}

// noteBlock returns the text of the entry for a block as it is now.
func (s *Store) noteBlock(id int) (text []byte) {
	b, held := s.blocks[id]
	if !held {
		text, _ = entry{Unblock: id}.encode() // cannot fail: it is short
		return text
	}
	text = blockText(b.BlockRecord, s.base)
	s.size += journal.LineSize(text) - b.size
	b.size = journal.LineSize(text)
	s.blocks[id] = b
	return text
}

// blockText returns the text of the entry of a block.
func blockText(b portmap.BlockRecord, base clockReading) []byte {
	text, _ := entry{Block: blockRecordOf(b, base)}.encode() // cannot fail: portmap bounds it
	return text
}

// storedBlock is a block in a state file that is read.
type storedBlock struct {
	*blockRecord
	size int64 // of its line, in bytes
}

// takeBlocks takes the blocks of a state file over. Invalid ones are dropped with the
// first Save.
func (s *Store) takeBlocks(st *state) {
	s.blocks = make(map[int]heldBlock, len(st.blocks))
	for id, r := range st.blocks {
		b, err := r.block(s.base)
		if err != nil {
			s.log.Warn("skipped an invalid stored block", "block", id, "err", fmt.Errorf("leasefile: %w", err))
			s.changedBlocks[id] = true
			continue
		}
		s.blocks[id] = heldBlock{b, r.size}
		s.size += r.size
		s.staleBlocks[id] = true
		s.service.LastBlock = max(s.service.LastBlock, id)
	}
}
