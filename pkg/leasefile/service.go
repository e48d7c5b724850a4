package leasefile

import (
	"net/netip"
	"time"

	"igdd/pkg/portmap"
)

// serviceRecord is what a service continues from the one before: a portmap.Epoch,
// SSDP's BOOTID and the numbers of blocks, as JSON.
type serviceRecord struct {
	Boot     string     `json:"boot"`  // the kernel's ID of the boot
	Start    int64      `json:"start"` // of the epoch, milliseconds since that boot
	External netip.Addr `json:"wan,omitzero"`
	BootID   uint32     `json:"bootid,omitzero"` // of SSDP
	// LastBlock is the highest number that a block has had.
	LastBlock int `json:"block,omitzero"`
}

// Epoch returns the epoch that Load has found, if it is of this boot and if Load
// has returned all mappings that were saved.
func (s *Store) Epoch() (portmap.Epoch, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.service
	e := portmap.Epoch{Start: time.Duration(r.Start) * time.Millisecond, External: r.External}
	return e, s.complete && s.boot != "" && r.Boot == s.boot
}

// SetEpoch sets the epoch that the next Save saves.
func (s *Store) SetEpoch(e portmap.Epoch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.service.Boot, s.service.Start, s.service.External = s.boot, e.Start.Milliseconds(), e.External
}

// BootID returns the last BOOTID of SSDP that was set or that Load has found; 0:
// none.
func (s *Store) BootID() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.service.BootID
}

// SetBootID saves SSDP's BOOTID, before the first Save together with that.
func (s *Store) SetBootID(id uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.service.BootID = id
	if !s.takenOver || s.path == "" {
		return nil
	}
	return s.keep(s.noteService(), false)
}

// noteService returns the text of the service's entry if the state file lacks it,
// and has the files written.
func (s *Store) noteService() (texts [][]byte) {
	if s.service == s.saved {
		return nil
	}
	s.saved = s.service
	s.schedule.by(s.checkClock())
	return append(texts, s.saved.text())
}

// text returns the text of the entry.
func (r serviceRecord) text() []byte {
	text, _ := entry{Service: &r}.encode() // cannot fail: it is short and has plain values only
	return text
}
