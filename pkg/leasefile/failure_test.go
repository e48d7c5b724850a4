package leasefile

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"igdd/pkg/portmap"
)

// openOn returns a store whose disk is d, that has taken over what is there.
func openOn(t *testing.T, d *testDisk, path string) *Store {
	t.Helper()
	s := New(Options{Path: path})
	s.disk = d
	if err := s.Save(additions(load(t, s)...)); err != nil && !errors.Is(err, errCrashed) {
		t.Fatal(err)
	}
	return s
}

// many returns n mappings that end after an hour.
func many(n int) (list []*portmap.Mapping) {
	for i := range n {
		m := forward(uint64(i+1), portmap.Claim{Origin: portmap.NATPMP})
		list = append(list, renewed(m, time.Hour))
	}
	return list
}

// TestRenewalsAreWrittenTogether spares the flash: 1,000 renewals in a minute
// cost no more than the thirty writings that the default delay allows.
func TestRenewalsAreWrittenTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &testDisk{}
		s := openOn(t, d, leasePath(t))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go s.Run(ctx)
		list := many(1000)
		save(t, s, additions(list...)...)
		time.Sleep(5 * time.Second)
		before, syncs := d.count("rename"), d.count("sync")
		for i, m := range list {
			after := renewed(m, 2*time.Hour)
			save(t, s, portmap.Change{Before: m, After: after})
			list[i] = after
			time.Sleep(time.Minute / 1000)
		}
		time.Sleep(5 * time.Second)
		// The private file may be written anew in between, which renames as well.
		if n := d.count("rename") - before; n < 2 || n > 2*31 {
			t.Errorf("%d renames for a minute of renewals, want 2 to 62", n)
		}
		if n := d.count("sync") - syncs; n > 3*31 {
			t.Errorf("%d syncs for a minute of renewals, want at most 93", n)
		}
		wantSame(t, load(t, New(Options{Path: s.path})), list)
	})
}

// TestFullDisk goes on from memory and writes when it can.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := leasePath(t)
		s, log := logged(path)
		d := &testDisk{}
		s.disk = d
		load(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go s.Run(ctx)
		list := many(10)
		save(t, s, additions(list[:5]...)...)
		time.Sleep(time.Minute)
		d.fail(func(o op) error {
			if o.what == "write" || o.what == "create" {
				return errFull
			}
			return nil
		})
		for _, m := range list[5:] {
			if s.Save(additions(m)) == nil {
				t.Error("a full disk is said to have taken a mapping")
			}
			time.Sleep(10 * time.Minute)
		}
		wantSame(t, load(t, New(Options{Path: path})), list[:5])
		d.fail(nil)
		time.Sleep(2 * lastRetry)
		wantSame(t, load(t, New(Options{Path: path})), list)
		synctest.Wait()
		// Save told the table of the trouble, which logs it.
		if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "saved again") {
			t.Errorf("log is\n%swant one line, about the end of the failure", got)
		}
	})
}

// scenario is what a store goes through while its disk is watched: mappings come,
// are renewed and go, and the files are brought up to date in between.
func scenario(s *Store, told func(savePoint)) {
	held := make(map[portmap.Key]*portmap.Mapping)
	save := func(c ...portmap.Change) { told(savePoint{held: maps.Clone(held), err: s.Save(c)}) }
	checkpoint := func() { told(savePoint{held: maps.Clone(held), err: s.Checkpoint(), durable: true}) }
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

// savePoint is what is held after a step of the story.
type savePoint struct {
	held    map[portmap.Key]*portmap.Mapping
	err     error // of the step
	durable bool  // the step was a Checkpoint
	ops     int   // done on the disk when it ended
}

// holding returns mappings as a store loads them.
func holding(held map[portmap.Key]*portmap.Mapping) []*portmap.Mapping {
	list := slices.Collect(maps.Values(held))
	slices.SortFunc(list, func(a, b *portmap.Mapping) int { return strings.Compare(a.Key.String(), b.Key.String()) })
	return list
}

// TestProcessKilledAnywhere ends the process before each operation of the story in
// turn: what Save said yes to is there, and nothing else.
func TestProcessKilledAnywhere(t *testing.T) {
	for dies := 1; ; dies++ {
		path := leasePath(t)
		d := &testDisk{crashAfter: dies}
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
		got := load(t, New(Options{Path: path}))
		slices.SortFunc(got, func(a, b *portmap.Mapping) int { return strings.Compare(a.Key.String(), b.Key.String()) })
		if !alike(got, sure) && !(broken && alike(got, perhaps)) {
			t.Fatalf("killed before operation %d (of %v): got\n%swant\n%sor\n%s", dies, d.did()[max(0, dies-3):], text(got), text(sure), text(perhaps))
		}
		if !broken {
			if dies < 40 {
				t.Errorf("the story has only %d operations", dies)
			}
			return
		}
	}
}

// inode is a file on a disk that loses power: what was written to it, and what
// of that was synced.
type inode struct{ written, durable []byte }

// simulatedDisk is what a disk holds after some operations.
type simulatedDisk struct {
	inodes         map[int]*inode // by the number of the open file
	names, durable map[string]*inode
}

// replay carries out operations on a platter.
func replay(ops []op) *simulatedDisk {
	p := &simulatedDisk{inodes: make(map[int]*inode), names: make(map[string]*inode), durable: make(map[string]*inode)}
	for _, o := range ops {
		switch o.what {
		case "create":
			p.inodes[o.file] = new(inode)
			p.names[o.name] = p.inodes[o.file]
		case "append":
			p.inodes[o.file] = p.names[o.name]
		case "write":
			p.inodes[o.file].written = append(p.inodes[o.file].written, o.data...)
		case "truncate":
			p.inodes[o.file].written = p.inodes[o.file].written[:o.size]
		case "sync":
			p.inodes[o.file].durable = slices.Clone(p.inodes[o.file].written)
		case "rename":
			p.names[o.to] = p.names[o.name]
			delete(p.names, o.name)
		case "remove":
			delete(p.names, o.name)
		case "syncdir":
			p.durable = maps.Clone(p.names)
		}
	}
	return p
}

// TestPowerLostAnywhere cuts the power after each operation of the story, with
// nothing on the disk but what was synced: what the last Checkpoint found is
// there, unless it was given up since, and nothing is as it never was.
func TestPowerLostAnywhere(t *testing.T) {
	d := &testDisk{}
	s := openOn(t, d, leasePath(t))
	var chapters []savePoint
	scenario(s, func(c savePoint) {
		if c.err != nil {
			t.Fatal(c.err)
		}
		c.ops = len(d.did())
		chapters = append(chapters, c)
	})
	for cut := range len(d.did()) + 1 {
		path := leasePath(t)
		for name, file := range replay(d.did()[:cut]).durable {
			write(t, filepath.Join(filepath.Dir(path), name), string(file.durable))
		}
		got := make(map[portmap.Key]*portmap.Mapping)
		for _, m := range load(t, New(Options{Path: path})) {
			got[m.Key] = m
			if !slices.ContainsFunc(chapters, func(c savePoint) bool { return c.held[m.Key] != nil && textOf(m) == textOf(c.held[m.Key]) }) {
				t.Errorf("power lost after %d operations: never held: %s", cut, textOf(m))
			}
		}
		for k := range survivors(chapters, cut) {
			if got[k] == nil {
				t.Errorf("power lost after %d operations: %v is gone, which a Checkpoint had found", cut, k)
			}
		}
	}
}

// textOf shows one mapping without its times.
func textOf(m *portmap.Mapping) string { return text([]*portmap.Mapping{m}) }

// survivors returns what the last Checkpoint before the cut found and nobody
// gave up in the rest of the story.
func survivors(chapters []savePoint, cut int) map[portmap.Key]*portmap.Mapping {
	var found map[portmap.Key]*portmap.Mapping
	for _, c := range chapters {
		if c.durable && c.ops <= cut {
			found = maps.Clone(c.held)
		}
	}
	last := chapters[len(chapters)-1].held
	maps.DeleteFunc(found, func(k portmap.Key, _ *portmap.Mapping) bool { return last[k] == nil })
	return found
}
