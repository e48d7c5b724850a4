// Package leasefile saves mappings in the lease file that miniupnpd, status
// pages and scripts know, and in a state file beside it, which has what does
// not fit six fields.
package leasefile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"igdd/pkg/clock"
	"igdd/pkg/journal"
	"igdd/pkg/portmap"
)

// Suffixes of the names of the files beside the lease file.
const (
	stateSuffix = ".state"
	tempSuffix  = journal.TempSuffix
)

// The default delays, chosen for flash memory.
const (
	// defaultDelay makes a burst, such as a game console opening its ports,
	// cost two writes: at most 15 syncs a second, whatever the number of
	// requests.
	defaultDelay = 200 * time.Millisecond
	// defaultRenewalDelay makes 1,000 renewals a minute cost at most 30 writes.
	defaultRenewalDelay = 2 * time.Second
)

// Options configure a Store.
type Options struct {
	// Path is the lease file, which may be a symbolic link to it. Empty:
	// nothing is saved.
	Path string
	// Delay is the shortest pause between two writes; 0 means 200 ms. A change
	// after a longer pause is written at once.
	Delay time.Duration
	// RenewalDelay is how long changes that only move the end of a lease may
	// wait; 0 means 2 s. They are written earlier if the old end is earlier.
	RenewalDelay time.Duration
	// Written is called after each attempt to write the files, with its result, and
	// after each attempt to save changes that fails. It must not block or call the
	// store, and may be called concurrently; it may be nil.
	Written func(error)
	// Log receives errors and warnings about the files; nil: they are
	// discarded.
	Log *slog.Logger
}

// Store is a portmap.Store that saves to two files.
//
// When Save returns, the changes survive the end of the process, however it
// ends. After a power cut the changes of the last [Options.Delay] plus the time
// of the write may be lost, and renewals of the last [Options.RenewalDelay]:
// then the mapping is restored with its earlier end. Both files are always
// complete, the old ones or the new ones.
type Store struct {
	path         string        // of the lease file; empty: nothing is saved
	delay        time.Duration // between two writes
	renewalDelay time.Duration // of changes that only move the end of a lease
	written      func(error)   // Options.Written, or one that does nothing
	log          *slog.Logger
	disk         journal.Disk
	clock        func() clockReading
	boot         string // the kernel's ID of this boot; empty: not known
	journal      *journal.Journal

	writing sync.Mutex // held while files are read or written; locked before mu

	mu         sync.Mutex                  // guards all below
	held       map[uint64]heldMapping      // by Serial
	loaded     map[portmap.Key]heldMapping // what the first Save replaces; nil then
	blocks     map[int]heldBlock
	size       int64         // of the lines of held, loaded and blocks, in bytes
	service    serviceRecord // as set or, until then, as loaded
	saved      serviceRecord // in the state file
	complete   bool          // Load returned all mappings that were saved
	takenOver  bool          // the first Save is done
	base       clockReading  // by which the times in the files were computed
	leaseFiles []fingerprint // the lease file on disk is one of these
	schedule   schedule

	changedBlocks map[int]bool // those that the state file has otherwise
	staleBlocks   map[int]bool // those that were not set since Load

	lastErr error // of the last Save or write that failed; nil: all is written since
}

// heldMapping is a mapping in the state file.
type heldMapping struct {
	mapping *portmap.Mapping // nil: it has expired or is invalid
	size    int64            // of its line, in bytes
}

// New returns a store. Call Load first, then Save at any time; Run writes the
// files in the background.
func New(o Options) *Store {
	s := &Store{
		path:         o.Path,
		delay:        cmp.Or(o.Delay, defaultDelay),
		renewalDelay: cmp.Or(o.RenewalDelay, defaultRenewalDelay),
		written:      func(error) {},
		log:          cmp.Or(o.Log, slog.New(slog.DiscardHandler)),
		clock:        readClocks,
		boot:         clock.BootID(),
		held:         make(map[uint64]heldMapping),
		blocks:       make(map[int]heldBlock), changedBlocks: make(map[int]bool), staleBlocks: make(map[int]bool),
		base:       readClocks(),
		leaseFiles: []fingerprint{{}},
		schedule:   schedule{wake: make(chan struct{}, 1)},
	}
	if o.Written != nil {
		s.written = o.Written
	}
	s.useDisk(journal.OS{})
	return s
}

// useDisk sets the disk before anything is read.
func (s *Store) useDisk(d journal.Disk) { s.disk, s.journal = d, journal.New(d) }

// Save appends changes to the state file: when it returns they outlive the
// process. With an error they are in memory only, until a later write succeeds.
//
// The first Save after Load lists the mappings that the table took over; the
// others that Load returned are dropped.
func (s *Store) Save(changes []portmap.Change) error {
	if s.path == "" {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.checkClock()
	isFirst := !s.takenOver
	texts, tooLong := s.noteChanges(changes)
	texts = slices.Concat(s.noteBlocks(), texts, s.noteService())
	for _, c := range changes {
		s.writeBecause(c, now)
	}
	if isFirst {
		s.schedule.by(now)
	}
	return errors.Join(s.keep(texts, isFirst), tooLong)
}

// noteChanges applies changes in memory and returns the texts of the entries
// that the state file lacks.
func (s *Store) noteChanges(changes []portmap.Change) (texts [][]byte, err error) {
	loaded := s.loaded
	s.loaded, s.takenOver = nil, true
	for _, h := range loaded {
		s.size -= h.size
	}
	for _, c := range changes {
		if b := c.Before; b != nil && (c.After == nil || c.After.Key != b.Key || c.After.Serial != b.Serial) {
			texts = append(texts, s.drop(b))
		}
		if c.After == nil {
			continue
		}
		was := loaded[c.After.Key]
		delete(loaded, c.After.Key)
		if was.is(c.After) {
			s.hold(c.After, was.size)
			continue
		}
		text, tooLong := s.put(c.After)
		texts, err = append(texts, text), cmp.Or(tooLong, err)
	}
	for k := range loaded {
		texts = append(texts, dropText(k))
	}
	return texts, err
}

// put adds or updates a mapping and returns the text of the entry for that. With an
// error it drops the mapping.
func (s *Store) put(m *portmap.Mapping) ([]byte, error) {
	text, err := entry{Put: recordOf(m, s.base)}.encode()
	if err != nil {
		return s.drop(m), fmt.Errorf("leasefile: mapping %v is not saved: %w", m.Key, err)
	}
	s.hold(m, journal.LineSize(text))
	return text, nil
}

// hold adds or updates a mapping with a line of that size.
func (s *Store) hold(m *portmap.Mapping, size int64) {
	s.size += size - s.held[m.Serial].size
	s.held[m.Serial] = heldMapping{m, size}
}

// drop removes a mapping and returns the text of the entry for that.
func (s *Store) drop(m *portmap.Mapping) []byte {
	s.size -= s.held[m.Serial].size
	delete(s.held, m.Serial)
	return dropText(m.Key)
}

// dropText returns the text of the entry that drops a mapping.
func dropText(k portmap.Key) []byte {
	gone := keyRecordOf(k)
	text, _ := entry{Drop: &gone}.encode() // cannot fail: it is short and has plain values only
	return text
}

// is reports whether m is the mapping as it is in the state file.
func (h heldMapping) is(m *portmap.Mapping) bool {
	was := h.mapping
	return was != nil && was.Internal == m.Internal && was.Host.Hardware == m.Host.Hardware && was.Dormant == m.Dormant &&
		slices.EqualFunc(was.Claims, m.Claims, identical)
}

// errClockSet is why the state file is rewritten after the wall clock was set.
var errClockSet = errors.New("the clock was set")

// checkClock returns the present time. If the wall clock was set, the files get their
// times anew.
func (s *Store) checkClock() time.Time {
	c := s.clock()
	if c.unix < unsetClock {
		c.unix = max(c.unix, s.base.unixAt(c.mono)) // goes on from the latest time in the files
	}
	if !s.base.agreesWith(c) {
		s.base = c
		s.journal.Outdate(errClockSet)
		s.schedule.by(c.mono)
	}
	return c.mono
}

// writeBecause sets when to write the files because of a change.
func (s *Store) writeBecause(c portmap.Change, now time.Time) {
	by := now
	if isRenewal(c) {
		by = now.Add(s.renewalDelay)
		if end := c.Before.Expires(); !end.IsZero() && end.Before(by) {
			by = end // else the file would show an expired lease
		}
	}
	s.schedule.by(by)
}

// isRenewal reports whether c changes nothing but the ends of claims.
func isRenewal(c portmap.Change) bool {
	return c.Before != nil && c.After != nil && c.Before.Key == c.After.Key &&
		c.Before.Internal == c.After.Internal && slices.EqualFunc(c.Before.Claims, c.After.Claims, sameTerms)
}

// sameTerms reports whether a and b differ at most in their ends.
func sameTerms(a, b portmap.Claim) bool {
	return a.Origin == b.Origin && a.Nonce == b.Nonce && a.Rebind.Equal(b.Rebind) && slices.Equal(a.Filters, b.Filters) &&
		a.Description == b.Description && a.Disabled == b.Disabled && a.ID == b.ID && a.Remote == b.Remote
}

// identical reports whether a and b are equal, apart from their contacts.
func identical(a, b portmap.Claim) bool { return sameTerms(a, b) && a.Expires.Equal(b.Expires) }

// Run writes the files whenever they are due, until ctx ends, and then once
// more. Both files are kept.
func (s *Store) Run(ctx context.Context) error {
	s.writeWhenDue(ctx)
	s.finish()
	return nil
}

// writeWhenDue writes the files whenever they are due, until ctx ends.
func (s *Store) writeWhenDue(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		s.resetTimer(timer)
		select {
		case <-ctx.Done():
			return
		case <-s.schedule.wake:
		case <-timer.C:
			s.Checkpoint() // logs its errors
		}
	}
}

// resetTimer sets the timer to when the files are due.
func (s *Store) resetTimer(timer *time.Timer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if due := s.schedule.due; due.IsZero() {
		timer.Stop()
	} else {
		timer.Reset(max(0, time.Until(due)))
	}
}

// finish writes the files for the last time and closes the state file.
func (s *Store) finish() {
	s.Checkpoint() // logs its errors
	s.journal.Close()
}
