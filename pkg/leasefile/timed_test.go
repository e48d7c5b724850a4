package leasefile

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"igdd/pkg/journal/journaltest"
	"igdd/pkg/portmap"
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

// await waits until a condition holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// lockedBuffer is a log that can be read while others write to it.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// timedStore is a TimedStore on a disk that can be blocked.
type timedStore struct {
	*TimedStore
	disk  *journaltest.Disk
	log   *lockedBuffer
	stop  context.CancelFunc
	ended chan struct{} // closed when Run has ended
}

// newTimed returns a store that gives up only when block was called.
func newTimed(path string) *timedStore {
	log := new(lockedBuffer)
	s := &timedStore{
		TimedStore: NewTimed(Options{Path: path, Log: slog.New(slog.NewTextHandler(log, nil))}),
		disk:       new(journaltest.Disk), log: log, ended: make(chan struct{}),
	}
	s.store.useDisk(s.disk)
	s.neverGiveUp()
	return s
}

// runTimed runs a store.
func runTimed(t *testing.T, path string) *timedStore {
	s := newTimed(path)
	s.run(t)
	return s
}

// run runs the store until the test ends.
func (s *timedStore) run(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go func() { defer close(s.ended); s.Run(ctx) }()
	t.Cleanup(func() { s.finish(t) })
}

// finish ends the store once the disk has answered.
func (s *timedStore) finish(t *testing.T) {
	t.Helper()
	if s.disk.Unblock(); !s.left {
		s.awaitSaved(t)
	}
	s.end()
}

// openTimed runs a store that has taken over all mappings, and written them.
func openTimed(t *testing.T, path string) *timedStore {
	s := runTimed(t, path)
	save(t, s, additions(load(t, s)...)...)
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *timedStore) neverGiveUp() { s.limit, s.lastTime = time.Hour, time.Hour }

// block blocks the disk, and lets the store give up soon.
func (s *timedStore) block() {
	s.disk.Block()
	s.limit, s.lastTime = time.Millisecond, time.Millisecond
}

// awaitSaved waits until the store has saved everything after a block.
func (s *timedStore) awaitSaved(t *testing.T) {
	t.Helper()
	await(t, "saving again", func() bool { return !s.isLate() })
	s.neverGiveUp()
}

// isSaving reports whether the store has taken all that was saved: what is saved from then
// on waits for its end.
func (s *timedStore) isSaving() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.next.due
}

func (s *timedStore) end() {
	s.stop()
	<-s.ended
}

// demandNoAnswer demands the error of a disk that does not answer.
func demandNoAnswer(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, errNoAnswer) {
		t.Errorf("%s while the disk does not answer: %v", what, err)
	}
}

// merging is a timedStore whose disk does not answer from a Save on.
type merging struct{ *timedStore }

func (s merging) Save(changes []portmap.Change) error {
	s.block()
	if err := s.timedStore.Save(changes); !errors.Is(err, errNoAnswer) {
		return err // nil if there is nothing to write
	}
	return nil
}

// TestTimedStore tests the contract of portmap.Store: on a disk that answers, and on one
// that answers only before the files are opened again.
func TestTimedStore(t *testing.T) {
	for name, as := range map[string]func(*timedStore) portmap.Store{
		"answers":            func(s *timedStore) portmap.Store { return s },
		"answers in the end": func(s *timedStore) portmap.Store { return merging{s} },
	} {
		t.Run(name, func(t *testing.T) {
			testStore(t, func(t *testing.T) func() portmap.Store {
				path, opened := leasePath(t), []*timedStore(nil)
				answer := func() {
					for _, s := range opened {
						s.disk.Unblock()
						s.awaitSaved(t)
					}
				}
				t.Cleanup(answer)
				return func() portmap.Store {
					answer()
					s := newTimed(path)
					go s.saveBatches(t.Context()) // without Run, which writes the files of all at the same time
					opened = append(opened, s)
					return as(s)
				}
			})
		})
	}
}

// TestNoAnswer has a disk not answer: nothing waits for it, and when it answers
// everything is saved.
func TestNoAnswer(t *testing.T) {
	path := leasePath(t)
	s := openTimed(t, path)
	list := many(4)
	save(t, s, additions(list[:2]...)...)
	s.block()
	demandNoAnswer(t, "Save", s.Save(additions(list[2])))
	s.neverGiveUp() // from now on what waits for the disk does so for an hour
	demandNoAnswer(t, "second Save", s.Save([]portmap.Change{{Before: list[0]}}))
	demandNoAnswer(t, "SetBootID", s.SetBootID(7))
	demandNoAnswer(t, "Trouble", s.Trouble())
	epoch := portmap.Epoch{Start: time.Minute, External: netip.MustParseAddr("198.51.100.1")}
	s.SetEpoch(epoch)
	if _, found := s.Epoch(); found || s.BootID() != 7 || !s.Failed() {
		t.Errorf("epoch found: %v, BOOTID %d, failed: %v", found, s.BootID(), s.Failed())
	}
	after := renewed(list[1], 5*time.Hour)
	demandNoAnswer(t, "third Save", s.Save([]portmap.Change{{Before: list[1], After: after}, {After: list[3]}}))
	s.disk.Unblock()
	s.awaitSaved(t)
	want := []*portmap.Mapping{after, list[2], list[3]}
	next := New(Options{Path: path})
	wantSame(t, load(t, next), want)
	if got, found := next.Epoch(); !found || got != epoch || next.BootID() != 7 {
		t.Errorf("saved %v, %v and BOOTID %d", got, found, next.BootID())
	}
	save(t, s, portmap.Change{Before: after})
	if err := s.Trouble(); err != nil || s.Failed() {
		t.Errorf("trouble of a disk that answers: %v, failed: %v", err, s.Failed())
	}
	if got := s.log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "leases are saved again") {
		t.Errorf("log is\n%s", got)
	}
}

// TestMerging renews a mapping many times while the disk does not answer: it is written
// a few times.
func TestMerging(t *testing.T) {
	s := openTimed(t, leasePath(t))
	last := many(1)[0]
	save(t, s, additions(last)...)
	s.block()
	writes := s.disk.Count("write")
	for i := range 1000 {
		next := renewed(last, time.Duration(i)*time.Minute+time.Hour)
		demandNoAnswer(t, "Save", s.Save([]portmap.Change{{Before: last, After: next}}))
		last = next
	}
	if n := len(s.next.changes); n != 1 {
		t.Errorf("%d changes of one mapping are kept", n)
	}
	s.disk.Unblock()
	s.awaitSaved(t)
	if n := s.disk.Count("write") - writes; n > 20 {
		t.Errorf("%d writes of one mapping", n)
	}
	wantSame(t, load(t, New(Options{Path: s.store.path})), []*portmap.Mapping{last})
}

// TestAnswersNowAndThen changes mappings at random on a disk that answers now and then:
// what Save has confirmed is there at once, and in the end all.
func TestAnswersNowAndThen(t *testing.T) {
	s := openTimed(t, leasePath(t))
	random, held := rand.New(rand.NewPCG(1, 2)), make(map[portmap.Key]*portmap.Mapping)
	list := many(8)
	for serial := range uint64(400) {
		if serial%40 == 20 {
			s.block()
		} else if serial%40 == 0 {
			s.disk.Unblock()
			s.awaitSaved(t)
		}
		err := s.Save([]portmap.Change{changeOne(held, list[random.IntN(len(list))], serial+100)})
		if serial%40 < 20 {
			if err != nil {
				t.Fatal(err)
			}
			wantSame(t, load(t, New(Options{Path: s.store.path})), inOrder(held))
		}
	}
	s.disk.Unblock()
	s.awaitSaved(t)
	wantSame(t, load(t, New(Options{Path: s.store.path})), inOrder(held))
}

// changeOne adds, renews or drops a mapping: renews it by odd serials.
func changeOne(held map[portmap.Key]*portmap.Mapping, m *portmap.Mapping, serial uint64) portmap.Change {
	before := held[m.Key]
	switch {
	case before == nil:
		n := *m
		n.Serial = serial
		held[m.Key] = &n
	case serial%2 == 1:
		held[m.Key] = renewed(before, time.Duration(serial)*time.Minute)
	default:
		delete(held, m.Key)
	}
	return portmap.Change{Before: before, After: held[m.Key]}
}

// inOrder returns mappings in order of creation.
func inOrder(held map[portmap.Key]*portmap.Mapping) []*portmap.Mapping {
	return slices.SortedFunc(maps.Values(held), func(a, b *portmap.Mapping) int { return int(a.Serial) - int(b.Serial) })
}

// TestStopWithoutAnswer stops while the disk does not answer: Run ends, and nothing is
// saved later, since a successor may use the files by then.
func TestStopWithoutAnswer(t *testing.T) {
	s := openTimed(t, leasePath(t))
	list := many(3)
	save(t, s, additions(list[0])...)
	s.block()
	demandNoAnswer(t, "Save", s.Save(additions(list[1])))
	await(t, "beginning to save", s.isSaving)
	demandNoAnswer(t, "second Save", s.Save(additions(list[2])))
	demandNoAnswer(t, "Checkpoint", s.Checkpoint())
	last := s.next
	s.end()
	if got := s.log.String(); !strings.Contains(got, "ending without saving") {
		t.Errorf("log is\n%s", got)
	}
	s.disk.Unblock()
	<-last.done
	wantSame(t, load(t, New(Options{Path: s.store.path})), list[:2])
}

// TestStopOnceAnswered stops after the disk has answered: everything is saved.
func TestStopOnceAnswered(t *testing.T) {
	for range 50 {
		s := openTimed(t, leasePath(t))
		list := many(3)
		s.block()
		demandNoAnswer(t, "Save", s.Save(additions(list[0])))
		demandNoAnswer(t, "second Save", s.Save(additions(list[1:]...)))
		s.disk.Unblock()
		s.neverGiveUp()
		if err := s.Checkpoint(); err != nil {
			t.Fatal(err)
		}
		s.end()
		wantSame(t, load(t, New(Options{Path: s.store.path})), list)
		if got := s.log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "saved again") {
			t.Fatalf("log is\n%s", got)
		}
	}
}

// TestLoadUnusedWithoutAnswer starts with the mappings of a predecessor while the disk
// does not answer: they replace what the files have.
func TestLoadUnusedWithoutAnswer(t *testing.T) {
	path, list := leasePath(t), many(3)
	before := opened(t, path)
	save(t, before, additions(list[0])...)
	checkpoint(t, before)
	before.journal.Close()
	if err := os.WriteFile(path+tempSuffix, nil, 0o600); err != nil { // Load removes it
		t.Fatal(err)
	}
	s := runTimed(t, path)
	s.block()
	demandNoAnswer(t, "LoadUnused", s.LoadUnused())
	if err := s.SetBootID(9); err != nil {
		t.Error(err)
	}
	demandNoAnswer(t, "Save", s.Save(additions(list[1:]...)))
	s.disk.Unblock()
	s.awaitSaved(t)
	next := New(Options{Path: path})
	wantSame(t, load(t, next), list[1:])
	if id := next.BootID(); id != 9 || s.BootID() != 9 {
		t.Errorf("BOOTIDs %d and %d", id, s.BootID())
	}
}

// TestTroubleWhileWriting has a write of the files take long.
func TestTroubleWhileWriting(t *testing.T) {
	s := openTimed(t, leasePath(t))
	s.store.writing.Lock()
	s.limit, s.lastTime = time.Millisecond, time.Millisecond
	demandNoAnswer(t, "Trouble", s.Trouble())
	demandNoAnswer(t, "Checkpoint", s.Checkpoint())
	s.store.writing.Unlock()
	s.neverGiveUp()
	if err := errors.Join(s.Trouble(), s.Checkpoint()); err != nil {
		t.Error(err)
	}
}

// TestFailsOnceAnswered has the disk be full when it answers: that is logged, as nobody
// waits for the result any more, and the leases are saved when there is space.
func TestFailsOnceAnswered(t *testing.T) {
	s := openTimed(t, leasePath(t))
	list := many(2)
	s.block()
	demandNoAnswer(t, "Save", s.Save(additions(list[0])))
	s.disk.Fail(func(o journaltest.Op) error {
		if o.What == "write" || o.What == "create" {
			return journaltest.ErrFull
		}
		return nil
	})
	s.disk.Unblock()
	await(t, "the error", func() bool { return strings.Contains(s.log.String(), journaltest.ErrFull.Error()) })
	s.neverGiveUp()
	if err := s.Save(additions(list[1])); !errors.Is(err, journaltest.ErrFull) {
		t.Errorf("saved on a full disk: %v", err)
	}
	s.disk.Fail(nil)
	await(t, "saving again", func() bool {
		return strings.Contains(s.log.String(), "leases are saved again") && alike(load(t, New(Options{Path: s.store.path})), list)
	})
}
