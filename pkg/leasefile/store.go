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
	"igdd/pkg/portmap"
)

// Suffixes of the names of the files beside the lease file.
const (
	stateSuffix = ".state"
	tempSuffix  = ".new"
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

// The pause after a failed write: the first one, then doubling up to a maximum.
const (
	firstRetry = time.Second
	lastRetry  = time.Minute
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
	log          *slog.Logger
	disk         disk
	clock        func() clockReading
	boot         string        // the kernel's ID of this boot; empty: not known
	wake         chan struct{} // signals Run that due has changed

	writing sync.Mutex // held while files are read or written; locked before mu

	mu              sync.Mutex // guards all below
	held            map[portmap.Key]*portmap.Mapping
	epoch           epochRecord                      // as set by SetEpoch or, until then, as loaded
	savedEpoch      epochRecord                      // in the state file
	complete        bool                             // Load returned all mappings that were saved
	loaded          map[portmap.Key]*portmap.Mapping // content of the state file, until the first Save
	leaseFileBehind bool                             // the lease file lacks some of it
	settled         bool                             // the first Save is done
	journal         *journal                         // nil: there is no state file to append to
	lease           fingerprint                      // of the lease file on disk
	notBefore       clockReading                     // the time to continue from while the wall clock is not set
	stale           bool                             // the state file must be rewritten
	copying         bool                             // a snapshot is being written
	addedSince      [][]byte                         // entries saved since the snapshot was taken

	due      time.Time     // when to write the files; zero: they are up to date
	earliest time.Time     // the next write is not before that
	retry    time.Duration // the pause after a failed write; 0: the last one succeeded
	lastErr  error         // why the last write failed
	reported bool          // Save has returned lastErr
}

// New returns a store. Call Load first, then Save at any time; Run writes the
// files in the background.
func New(o Options) *Store {
	return &Store{
		path:         o.Path,
		delay:        cmp.Or(o.Delay, defaultDelay),
		renewalDelay: cmp.Or(o.RenewalDelay, defaultRenewalDelay),
		log:          cmp.Or(o.Log, slog.New(slog.DiscardHandler)),
		disk:         osDisk{},
		clock:        readClocks,
		boot:         clock.BootID(),
		wake:         make(chan struct{}, 1),
		held:         make(map[portmap.Key]*portmap.Mapping),
		notBefore:    readClocks(),
	}
}

// now returns the present time. While the wall clock has not been set, it
// continues from the latest time in the files.
func (s *Store) now() clockReading {
	c := s.clock()
	if c.unix < unsetClock {
		c.unix = max(c.unix, s.notBefore.unixAt(c.mono))
	}
	return c
}

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
	now := s.now()
	texts, tooLong := s.noteChanges(changes, now)
	texts = append(texts, s.noteEpoch()...)
	changed := len(texts) > 0 || s.stale && !s.settled
	if s.leaseFileBehind && !s.settled {
		s.writeBy(now.mono)
	}
	s.settled = true
	if !changed {
		return tooLong
	}
	if s.copying {
		s.addedSince = append(s.addedSince, texts...)
	}
	s.schedule(changes, now.mono)
	err := s.appendEntries(texts, now)
	if err != nil {
		s.stale, s.lastErr, s.reported = true, err, true
		s.writeBy(now.mono)
		err = fmt.Errorf("leasefile: save %s: %w", s.path, err)
	}
	return errors.Join(err, tooLong)
}

// noteChanges applies changes in memory and returns the texts of the entries
// that the state file lacks.
func (s *Store) noteChanges(changes []portmap.Change, now clockReading) (texts [][]byte, err error) {
	for _, c := range changes {
		if b := c.Before; b != nil && (c.After == nil || c.After.Key != b.Key) {
			texts = append(texts, s.drop(b.Key))
		}
		if c.After == nil || s.confirms(c.After) {
			continue
		}
		text, tooLong := entry{Put: recordOf(c.After, now)}.encode()
		if tooLong != nil {
			text, err = s.drop(c.After.Key), fmt.Errorf("leasefile: mapping %v is not saved: %w", c.After.Key, tooLong)
		} else {
			s.held[c.After.Key] = c.After
		}
		texts = append(texts, text)
	}
	for k := range s.loaded {
		texts = append(texts, s.drop(k))
	}
	s.loaded = nil
	return texts, err
}

// noteEpoch returns the text of the epoch's entry if the state file lacks it.
func (s *Store) noteEpoch() (texts [][]byte) {
	if s.epoch == s.savedEpoch {
		return nil
	}
	s.savedEpoch = s.epoch
	text, _ := s.epochEntry()[0].encode() // cannot fail: it is short and has plain values only
	return [][]byte{text}
}

// epochEntry returns the entry of the epoch; none if there is none.
func (s *Store) epochEntry() []entry {
	if s.epoch == (epochRecord{}) {
		return nil
	}
	e := s.epoch
	return []entry{{Epoch: &e}}
}

// Epoch returns the epoch that Load has found, if it is of this boot and if Load
// has returned all mappings that were saved.
func (s *Store) Epoch() (portmap.Epoch, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epoch.portmapEpoch(), s.complete && s.boot != "" && s.epoch.Boot == s.boot
}

// SetEpoch sets the epoch that the next Save saves.
func (s *Store) SetEpoch(e portmap.Epoch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch = epochRecord{Boot: s.boot, Start: e.Start.Milliseconds(), External: e.External}
}

// drop removes a mapping and returns the text of the entry for that.
func (s *Store) drop(k portmap.Key) []byte {
	delete(s.held, k)
	gone := keyRecordOf(k)
	text, _ := entry{Drop: &gone}.encode() // cannot fail: it is short and has plain values only
	return text
}

// confirms reports whether m is as Load returned it, so that no entry is
// needed.
func (s *Store) confirms(m *portmap.Mapping) bool {
	was := s.loaded[m.Key]
	delete(s.loaded, m.Key)
	if was == nil || was.Internal != m.Internal || was.Dormant != m.Dormant || !slices.EqualFunc(was.Claims, m.Claims, identical) {
		return false
	}
	s.held[m.Key] = m
	return true
}

// appendEntries appends entries to the state file, or creates it.
func (s *Store) appendEntries(texts [][]byte, now clockReading) error {
	switch {
	case s.journal != nil:
		if !s.journal.clock.agreesWith(now) {
			s.stale = true
			s.writeBy(now.mono)
		}
		return s.journal.append(s.journal.frame(nil, texts...))
	case s.lastErr != nil:
		return s.lastErr
	}
	return s.createJournal(now)
}

// schedule sets when to write the files because of changes.
func (s *Store) schedule(changes []portmap.Change, now time.Time) {
	if s.stale || len(changes) == 0 {
		s.writeBy(now)
	}
	for _, c := range changes {
		if !isRenewal(c) {
			s.writeBy(now)
			return
		}
		by := now.Add(s.renewalDelay)
		if end := c.Before.Expires(); !end.IsZero() && end.Before(by) {
			by = end // else the file would show an expired lease
		}
		s.writeBy(by)
	}
}

// writeBy sets the files to be written at t, or at the earliest time that is
// allowed.
func (s *Store) writeBy(t time.Time) {
	if s.retry > 0 {
		return // due is the time of the next attempt
	}
	if t.Before(s.earliest) {
		t = s.earliest
	}
	if s.due.IsZero() || t.Before(s.due) {
		s.setDue(t)
	}
}

// setDue sets when to write the files and wakes Run.
func (s *Store) setDue(t time.Time) {
	s.due = t
	select {
	case s.wake <- struct{}{}:
	default:
	}
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
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		s.resetTimer(timer)
		select {
		case <-ctx.Done():
			s.finish()
			return nil
		case <-s.wake:
		case <-timer.C:
			s.Checkpoint() // logs its errors
		}
	}
}

// resetTimer sets the timer to when the files are due.
func (s *Store) resetTimer(timer *time.Timer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.due.IsZero() {
		timer.Stop()
	} else {
		timer.Reset(max(0, time.Until(s.due)))
	}
}
