package journal_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"igdd/pkg/journal"
	"igdd/pkg/journal/journaltest"
)

var errIO = errors.New("input/output error (simulated)")

// user is a user of a journal that keeps the last text of some names, as the store of
// leases does.
type user struct {
	t       *testing.T
	journal *journal.Journal
	path    string
	held    map[string]string
	durable map[string]string // at the last Sync or Rewrite without error
	unsure  map[string]bool   // names whose last Append failed
}

func newUser(t *testing.T, d journal.Disk, path string) *user {
	u := &user{
		t: t, journal: journal.New(d), path: path,
		held: make(map[string]string), durable: make(map[string]string), unsure: make(map[string]bool),
	}
	u.rewrite()
	return u
}

// put appends a text "name value".
func (u *user) put(name, value string) {
	u.held[name] = value
	if u.journal.Append([]byte(name+" "+value)) != nil {
		u.unsure[name] = true
	} else {
		delete(u.unsure, name)
	}
}

// size returns the size of the lines that matter, in bytes.
func (u *user) size() (size int64) {
	for text := range u.lines() {
		size += journal.LineSize(text)
	}
	return size
}

func (u *user) lines() func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		if !yield([]byte("first line")) {
			return
		}
		for _, name := range slices.Sorted(maps.Keys(u.held)) {
			if !yield([]byte(name + " " + u.held[name])) {
				return
			}
		}
	}
}

func (u *user) rewrite() {
	u.journal.Begin()
	if u.journal.Rewrite(u.path, u.lines()) == nil {
		u.durable, u.unsure = maps.Clone(u.held), make(map[string]bool)
	}
}

// save makes all durable, and reports whether it is.
func (u *user) save() bool {
	if u.journal.NeedsRewrite(u.path, u.size()) {
		u.rewrite()
	} else if u.journal.Sync() == nil {
		u.durable = maps.Clone(u.held)
	}
	return maps.Equal(u.durable, u.held)
}

// contents reads a journal and returns the last text of each name.
func contents(t *testing.T, path string) (map[string]string, journal.Content) {
	t.Helper()
	found := make(map[string]string)
	c, _ := journal.Read(path, func(text []byte) error {
		if name, value, ok := strings.Cut(string(text), " "); ok && name != "first" {
			found[name] = value
		}
		return nil
	})
	return found, c
}

// play puts and saves for a while, calls done after each step, and ends when that
// returns false.
func (u *user) play(done func() bool) {
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 24 {
		u.put(string(rune('a'+random.IntN(5))), fmt.Sprint(i))
		if !done() {
			return
		}
		switch {
		case i%9 == 8:
			u.rewrite()
		case i%4 == 3:
			u.save()
		}
		if !done() {
			return
		}
	}
}

// TestKilledAnywhere ends the process before each operation in turn: every text whose
// Append succeeded is there.
func TestKilledAnywhere(t *testing.T) {
	for crash := 3; ; crash++ {
		d := &journaltest.Disk{CrashAfter: crash}
		path := filepath.Join(t.TempDir(), "j")
		u := newUser(t, d, path)
		crashed := func() bool { return len(d.Did()) >= crash && len(u.unsure) > 0 }
		ended := true
		u.play(func() bool {
			ended = !crashed()
			return ended
		})
		got, c := contents(t, path)
		for name, value := range u.held {
			if got[name] != value && !u.unsure[name] {
				t.Fatalf("killed before operation %d (of %v): %q is %q, want %q; %+v", crash, d.Did(), name, got[name], value, c)
			}
		}
		if ended {
			if crash < 40 {
				t.Errorf("only %d operations", crash)
			}
			return
		}
	}
}

// TestFailsAnywhere has one operation fail, or some, of each kind in turn: what a Sync
// or Rewrite has confirmed is there after a power cut at any time, and in the end all
// is saved.
func TestFailsAnywhere(t *testing.T) {
	for what, err := range map[string]error{"full": journaltest.ErrFull, "input/output error": errIO} {
		for _, length := range []int{1, 7} {
			t.Run(fmt.Sprintf("%s for %d operations", what, length), func(t *testing.T) {
				for first := 1; failsFrom(t, first, length, err); first += length {
				}
			})
		}
	}
}

// failsFrom has operations fail, and reports whether there were any left to fail.
func failsFrom(t *testing.T, first, length int, err error) bool {
	t.Helper()
	d, asked := &journaltest.Disk{}, 0
	d.Fail(func(o journaltest.Op) error {
		if asked++; asked >= first && asked < first+length {
			return err
		}
		return nil
	})
	path := filepath.Join(t.TempDir(), "j")
	u := newUser(t, d, path)
	cut := filepath.Join(t.TempDir(), "j")
	u.play(func() bool {
		if asked >= first {
			wantAtLeast(t, d, cut, false, u.durable)
			wantAtLeast(t, d, cut, true, u.durable)
		}
		return !t.Failed()
	})
	d.Fail(nil)
	for range 2 {
		if u.save() {
			break
		}
	}
	wantAtLeast(t, d, cut, false, u.held)
	if got, c := contents(t, path); !maps.Equal(got, u.held) || c.Damage != nil {
		t.Errorf("from operation %d on: the file has %v, %v, want %v", first, got, c.Damage, u.held)
	}
	return asked >= first && !t.Failed()
}

// wantAtLeast cuts the power, which leaves the file at path: every name is there with
// this value or a later one.
func wantAtLeast(t *testing.T, d *journaltest.Disk, path string, keepsNames bool, want map[string]string) {
	t.Helper()
	os.Remove(path)
	if content, there := journaltest.AfterPowerCut(d.Did(), keepsNames)["j"]; there {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, c := contents(t, path)
	for name, value := range want {
		var has, needs int
		fmt.Sscan(got[name], &has)
		fmt.Sscan(value, &needs)
		if got[name] == "" || has < needs {
			t.Errorf("power cut after %v: %q is %q, want %q; %v", d.Did(), name, got[name], value, c.Damage)
		}
	}
}

// TestSize appends for a long time: after each save the file is below twice what
// matters, and a little more.
func TestSize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	u := newUser(t, journal.OS{}, path)
	value := strings.Repeat("x", 3000)
	for i := range 3000 {
		u.put(fmt.Sprint(i%20), value[:i%3000])
		if i%10 == 9 && !u.save() {
			t.Fatal("not saved")
		}
		info, err := os.Stat(path)
		if limit := 2*u.size() + 100<<10; err != nil || info.Size() > limit {
			t.Fatalf("the file has %d bytes, %v, want at most %d", info.Size(), err, limit)
		}
	}
}

// TestAppendWhileRewriting appends texts while the file is rewritten: all are in it.
func TestAppendWhileRewriting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := journal.New(journal.OS{})
	one := func(yield func([]byte) bool) { yield([]byte("first line")) }
	j.Begin()
	if err := j.Rewrite(path, one); err != nil {
		t.Fatal(err)
	}
	for round := range 20 {
		var all sync.WaitGroup
		j.Begin()
		for writer := range 4 {
			all.Go(func() {
				for i := range 20 {
					if err := j.Append(fmt.Appendf(nil, "%d.%d.%d is there", round, writer, i)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		if err := j.Rewrite(path, one); err != nil {
			t.Error(err)
		}
		all.Wait()
		got, c := contents(t, path)
		if c.Damage != nil {
			t.Fatal(c.Damage)
		}
		for writer := range 4 {
			for i := range 20 {
				if name := fmt.Sprintf("%d.%d.%d", round, writer, i); got[name] == "" {
					t.Errorf("%s is missing", name)
				}
			}
		}
	}
}

// TestAppendBeforeFirstFile appends a text while the first file is written: it is in
// the file, but whoever appended it cannot know.
func TestAppendBeforeFirstFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := journal.New(journal.OS{})
	j.Begin()
	if j.Append([]byte("second line")) == nil {
		t.Error("a text is said to be in a file that is not there")
	}
	err := j.Rewrite(path, func(yield func([]byte) bool) { yield([]byte("first line")) })
	if got, _ := contents(t, path); err != nil || got["second"] == "" {
		t.Errorf("the file has %v, %v", got, err)
	}
	if !j.NeedsRewrite(path, 1000) {
		t.Error("the file counts as whole")
	}
}

// TestOutdatedWhileRewriting has a reason for another rewrite come up during one.
func TestOutdatedWhileRewriting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	u := newUser(t, journal.OS{}, path)
	u.journal.Begin()
	err := u.journal.Rewrite(path, func(yield func([]byte) bool) {
		u.journal.Outdate(errIO)
		u.lines()(yield)
	})
	if err != nil || !u.journal.NeedsRewrite(path, u.size()) {
		t.Errorf("the second rewrite is forgotten, %v", err)
	}
}

// TestLost removes and replaces the file: nothing is appended to one that nobody can
// read, and the next rewrite is right.
func TestLost(t *testing.T) {
	for what, change := range map[string]func(path string) error{
		"removed": os.Remove,
		"emptied": func(path string) error { return os.Truncate(path, 0) },
		"cut":     func(path string) error { return os.Truncate(path, 20) },
		"replaced": func(path string) error {
			if err := os.WriteFile(path+".other", []byte("another program's"), 0o600); err != nil {
				return err
			}
			return os.Rename(path+".other", path)
		},
	} {
		t.Run(what, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "j")
			u := newUser(t, journal.OS{}, path)
			u.put("a", "1")
			if u.journal.NeedsRewrite(path, u.size()) {
				t.Error("the file is lost from the beginning")
			}
			if err := change(path); err != nil {
				t.Fatal(err)
			}
			if err := u.journal.Append([]byte("b 1")); !errors.Is(err, journal.ErrLost) {
				t.Errorf("appended to a file that is gone: %v", err)
			}
			u.put("b", "2")
			u.save()
			if got, c := contents(t, path); c.Damage != nil || got["a"] != "1" || got["b"] != "2" {
				t.Errorf("the file has %v, %v", got, c.Damage)
			}
		})
	}
}

// TestResume goes on with a file that ends as it should, and with no other.
func TestResume(t *testing.T) {
	for what, tt := range map[string]struct {
		tail  string
		whole bool
	}{
		"whole":              {"", true},
		"half a line":        {"0badcafe {", false},
		"a line of zeros":    {strings.Repeat("\x00", 4096) + "\n", false},
		"an unknown line":    {"0badcafe text\n", false},
		"a line too long":    {strings.Repeat("x", 1<<20) + "\n", false},
		"a line of nothing":  {"\n", false},
		"binary without end": {"\xff\xfe\xfd", false},
	} {
		t.Run(what, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "j")
			u := newUser(t, journal.OS{}, path)
			u.put("a", "1")
			u.journal.Close()
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, append(text, tt.tail...), 0o600); err != nil {
				t.Fatal(err)
			}
			got, c := contents(t, path)
			if !c.Found || got["a"] != "1" {
				t.Errorf("the file has %v, %+v", got, c)
			}
			next := journal.New(journal.OS{})
			if err := next.Resume(path, c); (err == nil) != tt.whole {
				t.Fatalf("resumed: %v", err)
			}
			if err := next.Append([]byte("b 2")); (err == nil) != tt.whole {
				t.Errorf("appended: %v", err)
			}
			if next.NeedsRewrite(path, 100) == tt.whole {
				t.Errorf("needs to be rewritten: %v", !tt.whole)
			}
			if got, _ := contents(t, path); (got["b"] == "2") != tt.whole {
				t.Errorf("the file has %v", got)
			}
		})
	}
}

// TestNothingToRead reads files that are no journal.
func TestNothingToRead(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink("/etc/hostname", link); err != nil {
		t.Fatal(err)
	}
	for path, found := range map[string]bool{filepath.Join(dir, "none"): false, dir: true, link: true, "/dev/null": true} {
		c, err := journal.Read(path, func([]byte) error {
			t.Errorf("%s has a line", path)
			return nil
		})
		if c.Found != found || (c.Damage != nil) != found || (err != nil) != found {
			t.Errorf("%s: %+v, %v", path, c, err)
		}
	}
}

// TestOrderOfLines removes, doubles and moves whole lines: the file is damaged, and the
// lines that follow are read.
func TestOrderOfLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	u := newUser(t, journal.OS{}, path)
	for i := range 8 {
		u.put(string(rune('a'+i)), fmt.Sprint(i+1))
	}
	u.journal.Close()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(lines []string) []string{
		"one is missing":     func(l []string) []string { return slices.Delete(l, 4, 5) },
		"two are missing":    func(l []string) []string { return slices.Delete(l, 3, 5) },
		"one is doubled":     func(l []string) []string { return slices.Insert(l, 3, l[2]) },
		"one is at the end":  func(l []string) []string { return append(l, l[2]) },
		"two have swapped":   func(l []string) []string { l[3], l[4] = l[4], l[3]; return l },
		"the second is gone": func(l []string) []string { return slices.Delete(l, 1, 2) },
	} {
		t.Run(what, func(t *testing.T) {
			lines := strings.SplitAfter(strings.TrimSuffix(string(text), "\n"), "\n")
			lines[len(lines)-1] += "\n"
			if err := os.WriteFile(path, []byte(strings.Join(change(lines), "")), 0o600); err != nil {
				t.Fatal(err)
			}
			got, c := contents(t, path)
			if c.Damage == nil {
				t.Error("it is not noticed")
			}
			if len(got) < 4 || got["h"] != "8" {
				t.Errorf("the other lines are %v", got)
			}
		})
	}
}

// TestFragmentsOfOlderFiles appends lines of another file.
func TestFragmentsOfOlderFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, first string) string {
		j := journal.New(journal.OS{})
		path := filepath.Join(dir, name)
		j.Begin()
		err := j.Rewrite(path, func(yield func([]byte) bool) { yield([]byte(first)) })
		if err := errors.Join(err, j.Append([]byte(name+" 1"), []byte(name+" 2"), []byte(name+" 3"))); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	older, path := write("older", "the first line of the older file"), filepath.Join(dir, "j")
	_, fragment, _ := strings.Cut(older, "\n")
	if err := os.WriteFile(path, []byte(write("newer", "first line")+fragment), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, c := contents(t, path); c.Damage == nil || got["older"] != "" || got["newer"] != "3" {
		t.Errorf("the file has %v, %v", got, c.Damage)
	}
}
