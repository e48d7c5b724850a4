package leasefile

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"igdd/pkg/journal"
	"igdd/pkg/journal/journaltest"
	"igdd/pkg/portmap"
	"igdd/pkg/portmap/portmaptest"
)

// sampleBlocks returns blocks of every kind.
func sampleBlocks() []portmap.BlockRecord {
	now, every := time.Now(), portmap.PortRange{}
	hosts := []portmap.HostSelector{
		{},
		{Addr: netip.MustParseAddr("192.168.101.9")},
		{Addr: netip.MustParseAddr("2001:db8::9"), Bound: []string{"02:00:00:00:00:09"}},
		{Hardware: "02:00:00:00:00:0a"},
		{Name: "laptop", Bound: []string{"02:00:00:00:00:0b", "02:00:00:00:00:0c"}},
	}
	var list []portmap.BlockRecord
	for i, h := range hosts {
		b := &portmap.Block{ID: i + 1, Selector: portmap.Selector{Host: h, External: every}, Since: now.Add(-time.Minute)}
		if i%2 == 0 {
			b.External, b.Protocol = portmap.PortRange{First: 3000, Last: 3100}, portmap.TCP
			b.Until = now.Add(time.Hour)
		}
		list = append(list, portmap.BlockRecord{Block: b})
	}
	list[1].Hits, list[1].LastHit = 7, now
	return list
}

// blocksText returns blocks as text, with their times to the second.
func blocksText(list []portmap.BlockRecord) string {
	var b strings.Builder
	second := func(t time.Time) int64 {
		if t.IsZero() {
			return 0
		}
		return int64((time.Until(t) + 500*time.Millisecond) / time.Second)
	}
	for _, r := range list {
		fmt.Fprintf(&b, "%d %+v since %d until %d %v, %d hits, %d\n", r.ID, r.Selector, second(r.Since), second(r.Until), r.Until.IsZero(), r.Hits, second(r.LastHit))
	}
	return b.String()
}

// alikeBlocks reports whether both lists are equal, their times to the second.
func alikeBlocks(a, b []portmap.BlockRecord) bool {
	isNear := func(x, y time.Time) bool { return x.IsZero() == y.IsZero() && x.Sub(y).Abs() <= time.Second }
	return slices.EqualFunc(a, b, func(x, y portmap.BlockRecord) bool {
		return fmt.Sprint(x.ID, x.Selector, x.Hits) == fmt.Sprint(y.ID, y.Selector, y.Hits) &&
			isNear(x.Since, y.Since) && isNear(x.Until, y.Until) && isNear(x.LastHit, y.LastHit)
	})
}

// wantBlocks demands that a store has loaded these blocks.
func wantBlocks(t *testing.T, s portmap.Store, want []portmap.BlockRecord, wantLast int) {
	t.Helper()
	if got, last := s.Blocks(); !alikeBlocks(got, want) || last != wantLast {
		t.Errorf("got\n%slast %d, want\n%slast %d", blocksText(got), last, blocksText(want), wantLast)
	}
}

// reloaded loads the store on a path and sets the blocks again, as a table does.
func reloaded(t *testing.T, s portmap.Store) portmap.Store {
	t.Helper()
	mappings := load(t, s)
	list, _ := s.Blocks()
	for _, b := range list {
		s.SetBlock(b)
	}
	save(t, s, additions(mappings...)...)
	return s
}

// setBlocks saves blocks.
func setBlocks(t *testing.T, s portmap.Store, list ...portmap.BlockRecord) {
	t.Helper()
	for _, b := range list {
		s.SetBlock(b)
	}
	save(t, s)
}

// TestBlocksAreKept saves, changes and drops blocks on the in-memory store and on
// files, and loads them as after a crash after each step.
func TestBlocksAreKept(t *testing.T) {
	path, memory := leasePath(t), new(portmaptest.Store)
	for what, open := range map[string]func() portmap.Store{
		"memory":             func() portmap.Store { return memory },
		"files":              func() portmap.Store { return New(Options{Path: path}) },
		"files, written out": func() portmap.Store { return &eager{New(Options{Path: path + ".2"})} },
	} {
		t.Run(what, func(t *testing.T) {
			all := sampleBlocks()
			s := reloaded(t, open())
			wantBlocks(t, s, nil, 0)
			setBlocks(t, s, all...)
			save(t, s, additions(sampleMappings()...)...)
			s = reloaded(t, open())
			wantBlocks(t, s, all, 5)
			hit := all[2]
			hit.Hits, hit.LastHit = 3, time.Now()
			s.DropBlock(5)
			s.DropBlock(1)
			setBlocks(t, s, hit)
			want := []portmap.BlockRecord{all[1], hit, all[3]}
			s = reloaded(t, open())
			wantBlocks(t, s, want, 5)
			s = open()
			mappings := load(t, s)
			s.SetBlock(want[1])
			save(t, s, additions(mappings...)...) // the others were not set again
			wantBlocks(t, reloaded(t, open()), want[1:2], 5)
		})
	}
}

// TestBlocksAreInEveryStateFile rewrites the state file again and again.
func TestBlocksAreInEveryStateFile(t *testing.T) {
	path := leasePath(t)
	s := reloaded(t, New(Options{Path: path})).(*Store)
	all := sampleBlocks()
	setBlocks(t, s, all...)
	for range 3 {
		s.journal.Outdate(errClockSet)
		setBlocks(t, s)
		s.schedule.by(time.Now())
		checkpoint(t, s)
		s = reloaded(t, New(Options{Path: path})).(*Store)
		wantBlocks(t, s, all, 5)
	}
}

// TestStateFileStaysSmall sets and lifts blocks without end.
func TestStateFileStaysSmall(t *testing.T) {
	path := leasePath(t)
	s := reloaded(t, New(Options{Path: path})).(*Store)
	b := sampleBlocks()[4]
	for i := range 5000 {
		next := *b.Block
		next.ID = i + 1
		s.DropBlock(i)
		setBlocks(t, s, portmap.BlockRecord{Block: &next})
		if i%50 == 0 {
			checkpoint(t, s)
		}
	}
	checkpoint(t, s)
	if n := len(read(t, path+stateSuffix)); n > 1<<17 {
		t.Errorf("the state file has %d bytes for one block", n)
	}
	if s.size != s.blocks[5000].size {
		t.Errorf("the size of all is %d, of the block %d", s.size, s.blocks[5000].size)
	}
}

// TestBlockEndsByTheClock saves a block of an hour by one clock, and loads it by
// another as after a boot: it ends as a lease does.
func TestBlockEndsByTheClock(t *testing.T) {
	const tenYears = 10 * 365 * 24 * time.Hour
	unset := -time.Duration(time.Now().Unix()-300) * time.Second
	for _, tt := range []struct {
		what          string
		written, read time.Duration // by clocks so far ahead
		want          time.Duration // what is left of the hour
	}{
		{"right", 0, 0, time.Hour},
		{"off for ten minutes", 0, 10 * time.Minute, 50 * time.Minute},
		{"off for two hours", 0, 2 * time.Hour, -time.Hour},
		{"then 1970", 0, unset, time.Hour},
		{"then ten years ahead", 0, tenYears, time.Hour},
		{"1970 before", unset, 0, time.Hour},
		{"1970 twice", unset, unset, time.Hour},
	} {
		t.Run(tt.what, func(t *testing.T) {
			path := leasePath(t)
			s := reloaded(t, storeAt(path, tt.written)).(*Store)
			b := sampleBlocks()[0]
			setBlocks(t, s, b)
			checkpoint(t, s)
			s = storeAt(path, tt.read)
			load(t, s)
			list, _ := s.Blocks()
			if len(list) != 1 || (time.Until(list[0].Until)-tt.want).Abs() > 10*time.Second {
				t.Fatalf("blocks %s, want %v left", blocksText(list), tt.want)
			}
			setBlocks(t, s, list[0])
			s.clock = readClocks // the clock is set right
			checkpoint(t, s)
			s = New(Options{Path: path})
			load(t, s)
			if list, _ := s.Blocks(); len(list) != 1 || (time.Until(list[0].Until)-tt.want).Abs() > 10*time.Second {
				t.Errorf("after the clock was set: %s, want %v left", blocksText(list), tt.want)
			}
		})
	}
}

// TestDamagedBlocks damages the lines of blocks: the others stay in force, and what
// is left of an invalid one blocks nothing.
func TestDamagedBlocks(t *testing.T) {
	all := sampleBlocks()
	for _, tt := range []struct {
		what     string
		old, new string
		fix      bool // the checksums
		want     []portmap.BlockRecord
	}{
		{"bit error", `"mac":"02:00:00:00:00:0a"`, `"mac":"02:00:00:00:00:0b"`, false, slices.Concat(all[:3], all[4:])},
		{"bad hardware address", `"mac":"02:00:00:00:00:0a"`, `"mac":"nobody's"`, true, slices.Concat(all[:3], all[4:])},
		{"bad bound address", `"bound":["02:00:00:00:00:09"]`, `"bound":["*"]`, true, slices.Concat(all[:2], all[3:])},
		{"neither host nor ports", `"mac":"02:00:00:00:00:0a"`, `"mac":""`, true, slices.Concat(all[:3], all[4:])},
		{"bad protocol", `"proto":"TCP","first":3000`, `"proto":"ICMP","first":3000`, true, all[1:]},
		{"ports upside down", `"first":3000,"last":3100`, `"first":3100,"last":3000`, true, all[1:]},
	} {
		t.Run(tt.what, func(t *testing.T) {
			path := leasePath(t)
			s := reloaded(t, New(Options{Path: path})).(*Store)
			setBlocks(t, s, all...)
			checkpoint(t, s)
			write(t, path+stateSuffix, strings.Replace(read(t, path+stateSuffix), tt.old, tt.new, 1))
			if tt.fix {
				seal(t, path+stateSuffix)
			}
			next := reloaded(t, New(Options{Path: path}))
			wantBlocks(t, next, tt.want, 5)
			wantBlocks(t, reloaded(t, New(Options{Path: path})), tt.want, 5)
		})
	}
}

// seal gives the lines of a state file the checksums of their texts.
func seal(t *testing.T, path string) {
	t.Helper()
	var texts [][]byte
	for line := range strings.Lines(read(t, path)) {
		_, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		texts = append(texts, []byte(text))
	}
	j := journal.New(journal.OS{})
	defer j.Close()
	j.Begin()
	if err := j.Rewrite(path, slices.Values(texts)); err != nil {
		t.Fatal(err)
	}
}

// TestBlocksOfEarlierVersions loads files that have none, and saves some in them.
func TestBlocksOfEarlierVersions(t *testing.T) {
	for _, what := range []string{"records-stopped", "records-killed", "epoch-stopped", "epoch-killed"} {
		path := leasePath(t)
		if err := os.CopyFS(filepath.Dir(path), os.DirFS(filepath.Join("testdata/earlier", what))); err != nil {
			t.Fatal(err)
		}
		s := reloaded(t, New(Options{Path: path}))
		wantBlocks(t, s, nil, 0)
		setBlocks(t, s, sampleBlocks()...)
		wantBlocks(t, reloaded(t, New(Options{Path: path})), sampleBlocks(), 5)
	}
}

// blockScenario sets and lifts blocks, with mappings and checkpoints in between,
// and calls done after each step with the blocks that there are then.
func blockScenario(s *Store, done func(blockPoint)) {
	held := make(map[int]portmap.BlockRecord)
	step := func(isDurable bool, f func() error) {
		err := f()
		done(blockPoint{maps.Clone(held), err, isDurable, 0})
	}
	for i, b := range sampleBlocks() {
		held[b.ID] = b
		step(false, func() error { s.SetBlock(b); return s.Save(nil) })
		step(false, func() error { return s.Save(additions(many(i + 1)[i])) })
		if i%2 == 1 {
			step(true, s.Checkpoint)
		}
	}
	for _, id := range []int{2, 5} {
		delete(held, id)
		step(false, func() error { s.DropBlock(id); return s.Save(nil) })
	}
	step(true, s.Checkpoint)
}

// blockPoint is the state after a step of blockScenario.
type blockPoint struct {
	held    map[int]portmap.BlockRecord
	err     error // of the step
	durable bool  // the step was a Checkpoint
	ops     int   // operations of the disk until then
}

// list returns the blocks in order of their numbers.
func (p blockPoint) list() (list []portmap.BlockRecord) {
	for _, id := range slices.Sorted(maps.Keys(p.held)) {
		list = append(list, p.held[id])
	}
	return list
}

// TestBlocksWhenKilledAnywhere ends the process before each operation of the scenario
// in turn: what was saved without error is there, and nothing else.
func TestBlocksWhenKilledAnywhere(t *testing.T) {
	for crash, broken := 1, true; broken; crash++ {
		path := leasePath(t)
		d := &journaltest.Disk{CrashAfter: crash}
		s := openOn(t, d, path)
		var sure, perhaps []portmap.BlockRecord
		broken = false
		blockScenario(s, func(p blockPoint) {
			switch {
			case broken:
			case p.err != nil:
				perhaps, broken = p.list(), true
			default:
				sure = p.list()
			}
		})
		s = New(Options{Path: path})
		load(t, s)
		if got, _ := s.Blocks(); !alikeBlocks(got, sure) && !(broken && alikeBlocks(got, perhaps)) {
			t.Fatalf("killed before operation %d: got\n%swant\n%sor\n%s", crash, blocksText(got), blocksText(sure), blocksText(perhaps))
		}
		if !broken && crash < 20 {
			t.Errorf("the scenario has only %d operations", crash)
		}
	}
}

// TestBlocksAfterAPowerCutAnywhere cuts the power after each operation of the
// scenario: the blocks of the last Checkpoint are there, unless they were lifted
// since.
func TestBlocksAfterAPowerCutAnywhere(t *testing.T) {
	d := &journaltest.Disk{}
	s := openOn(t, d, leasePath(t))
	var points []blockPoint
	blockScenario(s, func(p blockPoint) {
		if p.err != nil {
			t.Fatal(p.err)
		}
		p.ops = len(d.Did())
		points = append(points, p)
	})
	for cut := range len(d.Did()) + 1 {
		wantBlocksAfterCut(t, points, cut, journaltest.AfterPowerCut(d.Did()[:cut], cut%2 == 0))
	}
}

// wantBlocksAfterCut loads the files that a power cut leaves.
func wantBlocksAfterCut(t *testing.T, points []blockPoint, cut int, files map[string]string) {
	t.Helper()
	path := leasePath(t)
	for name, content := range files {
		write(t, filepath.Join(filepath.Dir(path), name), content)
	}
	s := New(Options{Path: path})
	load(t, s)
	got, _ := s.Blocks()
	found := make(map[int]bool)
	for _, b := range got {
		found[b.ID] = true
	}
	var durable blockPoint
	for _, p := range points {
		if p.durable && p.ops <= cut {
			durable = p
		}
	}
	for id := range durable.held {
		if _, stays := points[len(points)-1].held[id]; stays && !found[id] {
			t.Errorf("power cut after %d operations: block %d is lost", cut, id)
		}
	}
}

// TestBlocksOnAFailingDisk has the disk fail while blocks are set: they are saved
// when it works again.
func TestBlocksOnAFailingDisk(t *testing.T) {
	for _, fault := range faults {
		path := leasePath(t)
		d := &journaltest.Disk{}
		s := openOn(t, d, path)
		all := sampleBlocks()
		setBlocks(t, s, all[:2]...)
		checkpoint(t, s)
		d.Fail(fault)
		s.DropBlock(1)
		s.SetBlock(all[4])
		s.Save(nil)    // may fail
		s.Checkpoint() // may fail
		d.Fail(nil)
		checkpoint(t, s)
		wantBlocks(t, reloaded(t, New(Options{Path: path})), []portmap.BlockRecord{all[1], all[4]}, 5)
	}
}

// TestBlocksOnAStuckDisk sets and lifts blocks while the disk does not answer.
func TestBlocksOnAStuckDisk(t *testing.T) {
	path := leasePath(t)
	s := openTimed(t, path)
	all := sampleBlocks()
	setBlocks(t, s, all[:3]...)
	s.block()
	for _, b := range all[3:] {
		s.SetBlock(b)
		demandNoAnswer(t, "a block", s.Save(nil))
	}
	s.DropBlock(2)
	s.DropBlock(5)
	demandNoAnswer(t, "the end of a block", s.Save(nil))
	s.disk.Unblock()
	s.awaitSaved(t)
	wantBlocks(t, reloaded(t, New(Options{Path: path})), []portmap.BlockRecord{all[0], all[2], all[3]}, 5)
}
