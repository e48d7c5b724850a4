package leasefile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"igdd/pkg/journal/journaltest"
	"igdd/pkg/portmap"
)

// openOn returns a store on disk d that has loaded and taken over all mappings.
func openOn(t *testing.T, d *journaltest.Disk, path string) *Store {
	t.Helper()
	s := New(Options{Path: path})
	s.useDisk(d)
	if err := s.Save(additions(load(t, s)...)); err != nil && !errors.Is(err, journaltest.ErrCrashed) {
		t.Fatal(err)
	}
	return s
}

// many returns n mappings that expire after an hour.
func many(n int) (list []*portmap.Mapping) {
	for i := range n {
		m := forward(uint64(i+1), portmap.Claim{Origin: portmap.NATPMP})
		list = append(list, renewed(m, time.Hour))
	}
	return list
}

// TestRenewalsAreWrittenTogether counts writes: 1,000 renewals in a minute cost
// at most the thirty that the default delay allows.
func TestRenewalsAreWrittenTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &journaltest.Disk{}
		s := openOn(t, d, leasePath(t))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go s.Run(ctx)
		list := many(1000)
		save(t, s, additions(list...)...)
		time.Sleep(5 * time.Second)
		before, syncs := d.Count("rename"), d.Count("sync")
		for i, m := range list {
			after := renewed(m, 2*time.Hour)
			save(t, s, portmap.Change{Before: m, After: after})
			list[i] = after
			time.Sleep(time.Minute / 1000)
		}
		time.Sleep(5 * time.Second)
		// A rewrite of the state file renames as well.
		if n := d.Count("rename") - before; n < 2 || n > 2*31 {
			t.Errorf("%d renames for a minute of renewals, want 2 to 62", n)
		}
		if n := d.Count("sync") - syncs; n > 3*31 {
			t.Errorf("%d syncs for a minute of renewals, want at most 93", n)
		}
		wantSame(t, load(t, New(Options{Path: s.path})), list)
	})
}

// TestFullDisk saves to a full disk: the mappings are written when there is
// space.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := leasePath(t)
		s, log := logged(path)
		d := &journaltest.Disk{}
		s.useDisk(d)
		load(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go s.Run(ctx)
		list := many(10)
		save(t, s, additions(list[:5]...)...)
		time.Sleep(time.Minute)
		d.Fail(func(o journaltest.Op) error {
			if o.What == "write" || o.What == "create" {
				return journaltest.ErrFull
			}
			return nil
		})
		for _, m := range list[5:] {
			if s.Save(additions(m)) == nil {
				t.Error("saved on a full disk")
			}
			time.Sleep(10 * time.Minute)
		}
		wantSame(t, load(t, New(Options{Path: path})), list[:5])
		d.Fail(nil)
		time.Sleep(2 * lastRetry)
		wantSame(t, load(t, New(Options{Path: path})), list)
		synctest.Wait()
		// Save returned the failure to the table, which logs it.
		if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "saved again") {
			t.Errorf("log is\n%swant one line, about the end of the failure", got)
		}
	})
}

// scenario adds, renews and removes mappings in a store, with checkpoints in
// between, and calls done after each step.
func scenario(s *Store, done func(savePoint)) {
	held := make(map[portmap.Key]*portmap.Mapping)
	save := func(c ...portmap.Change) { done(savePoint{held: maps.Clone(held), err: s.Save(c)}) }
	checkpoint := func() { done(savePoint{held: maps.Clone(held), err: s.Checkpoint(), durable: true}) }
	for i, m := range append(sampleMappings(), many(3)...) {
		if held[m.Key] != nil {
			continue
		}
		held[m.Key] = m
		save(portmap.Change{After: m})
		if i%3 == 1 {
			checkpoint()
		}
	}
	checkpoint()
	for _, m := range sampleMappings()[:3] {
		after := renewed(held[m.Key], 3*time.Hour)
		before := held[m.Key]
		held[m.Key] = after
		save(portmap.Change{Before: before, After: after})
	}
	for _, m := range sampleMappings()[1:3] {
		before := held[m.Key]
		delete(held, m.Key)
		save(portmap.Change{Before: before})
	}
	checkpoint()
}

// savePoint is the state after a step of the scenario.
type savePoint struct {
	held    map[portmap.Key]*portmap.Mapping
	err     error // of the step
	durable bool  // the step was a Checkpoint
	ops     int   // operations of the disk until then
}

// holding returns mappings sorted by key.
func holding(held map[portmap.Key]*portmap.Mapping) []*portmap.Mapping {
	return byKey(slices.Collect(maps.Values(held)))
}

// TestProcessKilledAnywhere ends the process before each operation of the
// scenario in turn: what was saved without error is there, and nothing else.
func TestProcessKilledAnywhere(t *testing.T) {
	for crash := 1; ; crash++ {
		path := leasePath(t)
		d := &journaltest.Disk{CrashAfter: crash}
		s := openOn(t, d, path)
		var sure, perhaps []*portmap.Mapping
		var broken bool
		scenario(s, func(c savePoint) {
			switch {
			case broken:
			case c.err != nil:
				perhaps, broken = holding(c.held), true
			default:
				sure = holding(c.held)
			}
		})
		got := byKey(load(t, New(Options{Path: path})))
		if !alike(got, sure) && !(broken && alike(got, perhaps)) {
			t.Fatalf("killed before operation %d (of %v): got\n%swant\n%sor\n%s", crash, d.Did()[max(0, crash-3):], text(got), text(sure), text(perhaps))
		}
		if !broken {
			if crash < 40 {
				t.Errorf("the scenario has only %d operations", crash)
			}
			return
		}
	}
}

// TestPowerLostAnywhere cuts the power after each operation of the scenario, so
// that only synced data is on the disk: the mappings of the last Checkpoint are
// there, unless they were removed since, and no mapping is in a state that it
// never had.
func TestPowerLostAnywhere(t *testing.T) {
	d := &journaltest.Disk{}
	s := openOn(t, d, leasePath(t))
	var points []savePoint
	scenario(s, func(c savePoint) {
		if c.err != nil {
			t.Fatal(c.err)
		}
		c.ops = len(d.Did())
		points = append(points, c)
	})
	for cut := range len(d.Did()) + 1 {
		for _, keepsNames := range []bool{false, true} {
			wantDurable(t, points, cut, afterPowerCut(t, d.Did()[:cut], keepsNames))
		}
	}
}

// faults are the ways in which a disk fails.
var faults = map[string]func(journaltest.Op) error{
	"full": func(o journaltest.Op) error {
		return when(o.What == "write" || o.What == "create", journaltest.ErrFull)
	},
	"input/output error": func(o journaltest.Op) error { return when(o.What != "remove", syscall.EIO) },
	"read-only":          func(journaltest.Op) error { return syscall.EROFS },
	"no sync": func(o journaltest.Op) error {
		return when(strings.HasPrefix(o.What, "sync"), syscall.EIO)
	},
	"no rename": func(o journaltest.Op) error { return when(o.What == "rename", syscall.EBUSY) },
}

// when returns err if it applies.
func when(applies bool, err error) error {
	if applies {
		return err
	}
	return nil
}

// TestDiskFailsAnywhere has the disk fail for some operations of the scenario after
// others: what a Checkpoint confirmed survives a power cut at any time, what a
// Save confirmed survives the process, and when the disk works again all is saved.
func TestDiskFailsAnywhere(t *testing.T) {
	for what, fault := range faults {
		for _, length := range []int{1, 6} {
			t.Run(fmt.Sprintf("%s for %d operations", what, length), func(t *testing.T) {
				t.Parallel()
				for first := 1; failsFrom(t, first, length, fault); first += length {
				}
			})
		}
	}
}

// failsFrom is the test for failures from one operation on. It reports whether there
// were any operations left to fail.
func failsFrom(t *testing.T, first, length int, fault func(journaltest.Op) error) bool {
	t.Helper()
	d, asked := &journaltest.Disk{}, 0
	d.Fail(func(o journaltest.Op) error {
		if asked++; asked >= first && asked < first+length {
			return fault(o)
		}
		return nil
	})
	s := New(Options{Path: leasePath(t)})
	s.useDisk(d)
	s.Save(additions(load(t, s)...)) // may fail
	var points []savePoint
	scenario(s, func(c savePoint) {
		c.ops = len(d.Did())
		points = append(points, c)
		wantConfirmed(t, s, points)
	})
	d.Fail(nil)
	checkpoint(t, s)
	last := points[len(points)-1].held
	wantSame(t, byKey(load(t, New(Options{Path: s.path}))), holding(last))
	for _, keepsNames := range []bool{false, true} {
		wantSame(t, byKey(afterPowerCut(t, d.Did(), keepsNames)), holding(last))
	}
	for cut := first; cut < len(d.Did()); cut += 9 { // other ones than with the next first operation
		wantDurable(t, points, cut, afterPowerCut(t, d.Did()[:cut], cut%4 < 2))
	}
	return asked >= first && !t.Failed()
}

// wantConfirmed loads what the process would leave: all that was confirmed since the
// last failure, and nothing that was never so.
func wantConfirmed(t *testing.T, s *Store, points []savePoint) {
	t.Helper()
	now := points[len(points)-1]
	if slices.ContainsFunc(points, func(c savePoint) bool { return c.err != nil }) {
		wantKnown(t, points, load(t, New(Options{Path: s.path})))
		return
	}
	wantSame(t, byKey(load(t, New(Options{Path: s.path}))), holding(now.held))
}

// wantKnown demands that every mapping was held in this way at some time.
func wantKnown(t *testing.T, points []savePoint, got []*portmap.Mapping) {
	t.Helper()
	for _, m := range got {
		if !slices.ContainsFunc(points, func(c savePoint) bool { return c.held[m.Key] != nil && textOf(m) == textOf(c.held[m.Key]) }) {
			t.Errorf("never saved: %s", textOf(m))
		}
	}
}

// wantDurable demands of a disk after a power cut that it has the mappings of the last
// Checkpoint, and none that was never so.
func wantDurable(t *testing.T, points []savePoint, cut int, got []*portmap.Mapping) {
	t.Helper()
	wantKnown(t, points, got)
	for k := range survivors(points, cut) {
		if !slices.ContainsFunc(got, func(m *portmap.Mapping) bool { return m.Key == k }) {
			t.Errorf("power cut after %d operations: %v is lost, though it was in a Checkpoint", cut, k)
		}
	}
}

// afterPowerCut loads what a power cut leaves of these operations.
func afterPowerCut(t *testing.T, ops []journaltest.Op, keepsNames bool) []*portmap.Mapping {
	t.Helper()
	path := leasePath(t)
	for name, content := range journaltest.AfterPowerCut(ops, keepsNames) {
		write(t, filepath.Join(filepath.Dir(path), name), content)
	}
	return load(t, New(Options{Path: path}))
}

// byKey returns mappings sorted by key.
func byKey(list []*portmap.Mapping) []*portmap.Mapping {
	slices.SortFunc(list, func(a, b *portmap.Mapping) int { return strings.Compare(a.Key.String(), b.Key.String()) })
	return list
}

// textOf returns one mapping as text, without its times.
func textOf(m *portmap.Mapping) string { return text([]*portmap.Mapping{m}) }

// survivors returns the mappings of the last Checkpoint before the cut that are
// not removed in the rest of the scenario.
func survivors(points []savePoint, cut int) map[portmap.Key]*portmap.Mapping {
	var found map[portmap.Key]*portmap.Mapping
	for _, c := range points {
		if c.durable && c.err == nil && c.ops <= cut {
			found = maps.Clone(c.held)
		}
	}
	last := points[len(points)-1].held
	maps.DeleteFunc(found, func(k portmap.Key, _ *portmap.Mapping) bool { return last[k] == nil })
	return found
}
