package leasefile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"igdd/pkg/journal"
	"igdd/pkg/portmap"
)

// How long callers wait for the disk.
const (
	// answerTime is for those behind which clients wait: most give up after a few
	// seconds.
	answerTime = time.Second
	// lastTime is for the last write before the end: whoever stops the daemon waits
	// for it.
	lastTime = 2 * time.Second
)

// errNoAnswer is the error while the disk needs longer than that.
var errNoAnswer = errors.New("the disk does not answer; will save when it does")

// TimedStore is a [Store] whose callers wait for the disk for a bounded time only, as a
// disk may never answer: then they get an error, and at once until it answers again.
// What could not be saved by then is saved later, merged by mapping. All methods may
// be called concurrently.
type TimedStore struct {
	store    *Store
	disk     *leftDisk
	limit    time.Duration // answerTime
	lastTime time.Duration
	asking   chan struct{} // capacity 1: full while ask waits for the store
	wake     chan struct{} // capacity 1: a batch is due
	loaded   chan struct{} // closed when Load has ended

	mu        sync.Mutex // guards all below; never held while the disk is waited for
	next      *batch     // not yet handed to the store
	begun     bool       // the first Save was called
	late      bool       // a Save has given up, and not everything is saved since
	unwritten bool       // the last Checkpoint has given up
	left      bool       // Run has ended without the store
	epoch     portmap.Epoch
	hasEpoch  bool // epoch is valid
	blocks    []portmap.BlockRecord
	lastBlock int    // the highest number of a block
	bootID    uint32 // the last one; 0: none
}

// NewTimed returns a store. Call Load first, then Save at any time while Run runs.
func NewTimed(o Options) *TimedStore {
	s := &TimedStore{
		store: New(o), disk: &leftDisk{Disk: journal.OS{}}, limit: answerTime, lastTime: lastTime, next: newBatch(),
		asking: make(chan struct{}, 1), wake: make(chan struct{}, 1), loaded: make(chan struct{}),
	}
	s.store.useDisk(s.disk)
	return s
}

// leftDisk is a disk on which nothing is replaced any more once it was left: a write that
// ends late must not undo what a successor has written.
type leftDisk struct {
	journal.Disk
	left atomic.Bool
}

// Create is [journal.Disk]'s.
func (d *leftDisk) Create(path string, mode fs.FileMode) (journal.File, error) {
	if d.left.Load() {
		return nil, errNoAnswer
	}
	return d.Disk.Create(path, mode)
}

// Rename is [journal.Disk]'s.
func (d *leftDisk) Rename(from, to string) error {
	if d.left.Load() {
		return errNoAnswer
	}
	return d.Disk.Rename(from, to)
}

// Load is [Store.Load], and waits for the disk as long as that takes: the first Save
// drops what was not loaded.
func (s *TimedStore) Load() ([]*portmap.Mapping, error) {
	mappings, err := s.store.Load()
	epoch, hasEpoch := s.store.Epoch()
	bootID := s.store.BootID()
	blocks, lastBlock := s.store.Blocks()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocks, s.lastBlock = blocks, lastBlock
	s.epoch, s.hasEpoch, s.bootID = epoch, hasEpoch, cmp.Or(s.bootID, bootID)
	close(s.loaded)
	return mappings, err
}

// LoadUnused is Load for a caller that has other mappings for the first Save: it does
// not wait for a disk that does not answer.
func (s *TimedStore) LoadUnused() error {
	err, late := ask(s, s.limit, func() error { _, err := s.Load(); return err })
	return cmp.Or(late, err)
}

// Epoch is [Store.Epoch], as of Load.
func (s *TimedStore) Epoch() (portmap.Epoch, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epoch, s.hasEpoch
}

// SetEpoch sets the epoch that the next Save saves.
func (s *TimedStore) SetEpoch(e portmap.Epoch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next.epoch = &e
}

// Blocks is [Store.Blocks], as of Load.
func (s *TimedStore) Blocks() ([]portmap.BlockRecord, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.blocks, s.lastBlock
}

// SetBlock is [Store.SetBlock].
func (s *TimedStore) SetBlock(b portmap.BlockRecord) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next.blocks[b.ID] = &b
}

// DropBlock is [Store.DropBlock].
func (s *TimedStore) DropBlock(id int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next.blocks[id] = nil
}

// BootID is [Store.BootID].
func (s *TimedStore) BootID() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bootID
}

// SetBootID is [Store.SetBootID].
func (s *TimedStore) SetBootID(id uint32) error {
	s.mu.Lock()
	s.bootID, s.next.bootID = id, id
	begun := s.begun
	s.mu.Unlock()
	if !begun {
		return nil
	}
	return s.await(s.submit(nil))
}

// Save is [Store.Save]. With an error the changes are in memory only, until they are
// saved later.
func (s *TimedStore) Save(changes []portmap.Change) error { return s.await(s.submit(changes)) }

// submit adds changes to the next batch, and has that saved.
func (s *TimedStore) submit(changes []portmap.Change) *batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.next
	for _, c := range changes {
		b.add(c)
	}
	b.due, s.begun = true, true
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return b
}

// await waits until a batch is saved, for a while; not at all if the disk is known not
// to answer.
func (s *TimedStore) await(b *batch) error {
	if !s.isLate() {
		select {
		case <-b.done:
		case <-time.After(s.limit):
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-b.done:
		return b.err
	default:
	}
	s.late = true
	s.store.written(errNoAnswer)
	return fmt.Errorf("leasefile: save %s: %w", s.store.path, errNoAnswer)
}

// isLate reports whether the disk is known not to answer.
func (s *TimedStore) isLate() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.late
}

// Run saves, and writes the files whenever they are due, until ctx ends, and then once
// more, unless the disk does not answer.
func (s *TimedStore) Run(ctx context.Context) error {
	ended := make(chan struct{})
	go func() { defer close(ended); s.serve(ctx) }()
	<-ctx.Done()
	select {
	case <-ended:
	case <-time.After(s.timeToEnd()):
		s.leave()
	}
	return nil
}

// timeToEnd returns how long Run may wait for its end: not at all if Checkpoint has
// waited before.
func (s *TimedStore) timeToEnd() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unwritten {
		return 0
	}
	return s.lastTime
}

// leave goes on without the store: nothing more is saved than what it is just writing.
func (s *TimedStore) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = true
	s.disk.left.Store(true)
	s.store.log.Error("the disk does not answer; ending without saving the latest leases", "path", s.store.path)
}

// serve is Run without a limit of time.
func (s *TimedStore) serve(ctx context.Context) {
	var writer sync.WaitGroup
	writer.Go(func() { s.store.writeWhenDue(ctx) })
	select {
	case <-s.loaded:
		s.saveBatches(ctx)
	case <-ctx.Done():
	}
	writer.Wait()
	left := s.finishLast()
	s.asking <- struct{}{} // the store is asked nothing more
	if left {
		s.store.journal.Close()
	} else {
		s.store.finish()
	}
}

// finishLast finishes the batch that is not saved any more, and reports whether Run goes
// on without the store.
func (s *TimedStore) finishLast() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next.finish(errNoAnswer)
	return s.left
}

// saveBatches saves what is due until ctx ends, and then what is due still.
func (s *TimedStore) saveBatches(ctx context.Context) {
	for ended := false; !ended; {
		select {
		case <-s.wake:
		case <-ctx.Done():
			ended = true
		}
		if b := s.take(); b != nil {
			s.finish(b, b.saveTo(s.store))
		}
	}
}

// take returns the next batch if it is due, and begins another one; else nil.
func (s *TimedStore) take() *batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.next
	if !b.due || s.left {
		return nil
	}
	s.next = newBatch()
	return b
}

// finish finishes a batch, and logs the result if nobody has waited for it.
func (s *TimedStore) finish(b *batch, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b.finish(err)
	switch {
	case !s.late || s.left:
		return
	case err != nil:
		s.store.log.Error("the disk answers again, but the leases cannot be saved. Will retry", "path", s.store.path, "err", err)
	case s.next.due:
		return // it is saved next
	default:
		s.store.notice("leases are saved again")
	}
	s.late = false
}

// Checkpoint saves what is due and is [Store.Checkpoint] then. It waits for the disk a
// little longer than Save.
func (s *TimedStore) Checkpoint() error {
	err, late := ask(s, s.lastTime, func() error {
		if err := s.saveDue(); errors.Is(err, errNoAnswer) {
			return err
		}
		return s.store.Checkpoint()
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unwritten = late != nil
	if late != nil {
		s.store.written(late)
	}
	return cmp.Or(late, err)
}

// saveDue saves what is due, however long that takes. Before the first Save, which lists
// the mappings, nothing is.
func (s *TimedStore) saveDue() error {
	s.mu.Lock()
	begun := s.begun
	s.mu.Unlock()
	if !begun {
		return nil
	}
	b := s.submit(nil)
	<-b.done
	return b.err
}

// Trouble is [Store.Trouble]. A write that is under way is waited for, so that a disk
// that does not answer is found.
func (s *TimedStore) Trouble() error {
	if s.isLate() {
		return errNoAnswer
	}
	err, late := ask(s, s.limit, func() error {
		s.store.writing.Lock()
		defer s.store.writing.Unlock()
		return s.store.Trouble()
	})
	return cmp.Or(late, err)
}

// Failed is [Store.Failed]. It is also true while the disk does not answer.
func (s *TimedStore) Failed() bool {
	if s.isLate() {
		return true
	}
	failed, late := ask(s, s.limit, s.store.Failed)
	return failed || late != nil
}

// ask calls f and returns its result, or errNoAnswer if that takes too long. One call at
// a time is under way: a disk that does not answer costs one goroutine.
func ask[T any](s *TimedStore, limit time.Duration, f func() T) (result T, err error) {
	results, expired := make(chan T, 1), time.After(limit)
	select {
	case s.asking <- struct{}{}:
	case <-expired:
		return result, errNoAnswer
	}
	go func() {
		got := f()
		<-s.asking
		results <- got
	}()
	select {
	case result = <-results:
		return result, nil
	case <-expired:
		return result, errNoAnswer
	}
}
