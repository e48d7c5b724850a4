// Package leasefile writes down which mappings there are, in the lease file
// that miniupnpd, status pages and scripts know, and in a private file beside
// it for what six fields cannot hold.
//
// What was saved survives the end of the process, however it ends, from the
// moment that Save returns. What survives a power cut is all but the last
// [Options.Delay] plus the time the disk takes, except that a renewal may take
// [Options.RenewalDelay]: then the mapping itself is still there, with its
// earlier end. Both files are always whole, the old ones or the new ones.
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

	"igdd/pkg/portmap"
)

// Suffixes of the names of the files beside the lease file.
const (
	stateSuffix = ".state"
	tempSuffix  = ".new"
)

// The default delays, chosen for flash memory.
const (
	// defaultDelay lets a burst, such as a console opening its ports, cost two
	// writings: at most 15 syncs a second, however many ask.
	defaultDelay = 200 * time.Millisecond
	// defaultRenewalDelay is as long as the file may lag behind the table:
	// 1,000 renewals a minute cost at most 30 writings.
	defaultRenewalDelay = 2 * time.Second
)

// How long the store waits after a writing that failed: the first time, and at
// most.
const (
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// Options are what a Store is made of.
type Options struct {
	// Path is the lease file; its name may be a symbolic link, which is
	// followed. Empty: nothing is written down.
	Path string
	// Delay is how long the disk is left alone between two writings; 0 means
	// 200 ms. A change after a quiet spell is written at once.
	Delay time.Duration
	// RenewalDelay is how long changes that only move the end of a lease may
	// wait; 0 means 2 s. They are written earlier if the old end comes first.
	RenewalDelay time.Duration
	// Log hears of trouble with the files; nil: nobody does.
	Log *slog.Logger
}

// Store is a portmap.Store made of two files.
type Store struct {
	path         string        // of the lease file; empty: nothing is saved
	delay        time.Duration // between two writes
	renewalDelay time.Duration // of changes that only move the end of a lease
	log          *slog.Logger
	disk         disk
	clock        func() clockReading
	wake         chan struct{} // tells Run that due has changed

	writing sync.Mutex // held while files are read or written anew; taken before mu

	mu              sync.Mutex // guards all below
	held            map[portmap.Key]*portmap.Mapping
	loaded          map[portmap.Key]*portmap.Mapping // what the private file holds, until the first Save
	leaseFileBehind bool                             // the lease file lacks some of that
	settled         bool                             // the first Save has been
	journal         *journal                         // nil: there is no private file that can go on
	lease           fingerprint                      // of the lease file on disk
	notBefore       clockReading                     // the present is not before it
	stale           bool                             // the private file must be written anew
	copying         bool                             // a snapshot is being written,
	addedSince      [][]byte                         // and these entries came after it

	due      time.Time     // when the files are to be written; zero: they are
	earliest time.Time     // and not before that
	retry    time.Duration // the wait after trouble; 0: the last writing went well
	lastErr  error         // what keeps the files from being written
	reported bool          // Save has returned it
}

// New returns a store. Load comes first, then Save at any time; Run brings
// the files up to date behind it.
func New(o Options) *Store {
	return &Store{
		path:         o.Path,
		delay:        cmp.Or(o.Delay, defaultDelay),
		renewalDelay: cmp.Or(o.RenewalDelay, defaultRenewalDelay),
		log:          cmp.Or(o.Log, slog.New(slog.DiscardHandler)),
		disk:         osDisk{},
		clock:        readClocks,
		wake:         make(chan struct{}, 1),
		held:         make(map[portmap.Key]*portmap.Mapping),
		notBefore:    readClocks(),
	}
}

// now returns the present as files show it. A board whose clock has not been
// set goes on from the newest time in its files.
func (s *Store) now() clockReading {
	c := s.clock()
	if c.unix < unsetClock {
		c.unix = max(c.unix, s.notBefore.unixAt(c.mono))
	}
	return c
}

// Save notes changes in the private file: when it returns they outlive the
// process. An error means that they are in memory only, until the disk takes
// them.
//
// The first Save after Load brings what the table has taken over; what else
// Load returned is forgotten.
func (s *Store) Save(changes []portmap.Change) error {
	if s.path == "" {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	texts, tooLong := s.noteChanges(changes, now)
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

// noteChanges puts changes into memory and returns the texts of the entries that the
// private file lacks.
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
			text, err = s.drop(c.After.Key), fmt.Errorf("leasefile: mapping %v is not written down: %w", c.After.Key, tooLong)
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

// drop forgets a mapping and returns the text that says so.
func (s *Store) drop(k portmap.Key) []byte {
	delete(s.held, k)
	gone := keyRecordOf(k)
	text, _ := entry{Drop: &gone}.encode() // short, and made of plain values
	return text
}

// confirms reports whether m is taken over as Load returned it.
func (s *Store) confirms(m *portmap.Mapping) bool {
	was := s.loaded[m.Key]
	delete(s.loaded, m.Key)
	if was == nil || was.Internal != m.Internal || !slices.EqualFunc(was.Claims, m.Claims, identical) {
		return false
	}
	s.held[m.Key] = m
	return true
}

// appendEntries writes entries where they outlive the process.
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

// schedule sets when the files are to be written for the sake of changes.
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
			by = end // nobody shall read of a living lease that it has ended
		}
		s.writeBy(by)
	}
}

// writeBy has the files written at t, or when the disk has had its rest.
func (s *Store) writeBy(t time.Time) {
	if s.retry > 0 {
		return // due is when the next attempt is
	}
	if t.Before(s.earliest) {
		t = s.earliest
	}
	if s.due.IsZero() || t.Before(s.due) {
		s.setDue(t)
	}
}

// setDue sets when the files are to be written and tells Run.
func (s *Store) setDue(t time.Time) {
	s.due = t
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// isRenewal reports whether c moves the ends of claims and changes nothing else.
func isRenewal(c portmap.Change) bool {
	return c.Before != nil && c.After != nil && c.Before.Key == c.After.Key &&
		c.Before.Internal == c.After.Internal && slices.EqualFunc(c.Before.Claims, c.After.Claims, sameTerms)
}

// sameTerms reports whether a and b differ in their end at most.
func sameTerms(a, b portmap.Claim) bool {
	return a.Origin == b.Origin && a.Nonce == b.Nonce && a.Bound == b.Bound && slices.Equal(a.Filters, b.Filters) &&
		a.Description == b.Description && a.Disabled == b.Disabled && a.ID == b.ID && a.Remote == b.Remote
}

// identical reports whether a and b differ in nothing.
func identical(a, b portmap.Claim) bool { return sameTerms(a, b) && a.Expires.Equal(b.Expires) }

// Run writes the files whenever that is due, until ctx ends, and then a last
// time. Both files stay.
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
			s.Checkpoint() // which logs what goes wrong
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
