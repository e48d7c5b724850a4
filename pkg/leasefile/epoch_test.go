package leasefile

import (
	"os"
	"strings"
	"testing"
	"time"

	"igdd/pkg/portmap"
)

// TestEpochOfAnotherState saves an epoch and changes what the next store finds.
func TestEpochOfAnotherState(t *testing.T) {
	edit := func(t *testing.T, path, old, new string) {
		t.Helper()
		text := read(t, path)
		if !strings.Contains(text, old) {
			t.Fatalf("there is no %q in %q", old, text)
		}
		write(t, path, strings.Replace(text, old, new, 1))
	}
	for _, tt := range []struct {
		what   string
		change func(t *testing.T, path string, s *Store) // s: the next store
		want   bool
	}{
		{"nothing", func(*testing.T, string, *Store) {}, true},
		{"another boot", func(_ *testing.T, _ string, s *Store) { s.boot = "another" }, false},
		{"a boot without an ID", func(_ *testing.T, _ string, s *Store) { s.boot = "" }, false},
		{"no state file", func(_ *testing.T, path string, _ *Store) { os.Remove(path + stateSuffix) }, false},
		{"no lease file", func(_ *testing.T, path string, _ *Store) { os.Remove(path) }, false},
		{"a lease file that another program wrote", func(t *testing.T, path string, _ *Store) { edit(t, path, ":3001:", ":4001:") }, false},
		{"a damaged state file", func(t *testing.T, path string, _ *Store) { edit(t, path+stateSuffix, `"ext":3001`, `"ext":4001`) }, false},
		{"an incomplete last line", func(t *testing.T, path string, _ *Store) {
			write(t, path+stateSuffix, read(t, path+stateSuffix)+"0123")
		}, true},
		{"a lease that has expired", func(_ *testing.T, _ string, s *Store) {
			s.clock = func() clockReading { c := readClocks(); c.unix += time.Hour.Milliseconds(); return c }
		}, true},
	} {
		t.Run(tt.what, func(t *testing.T) {
			path := leasePath(t)
			s := opened(t, path)
			s.SetEpoch(portmap.Epoch{Start: time.Minute})
			save(t, s, additions(renewed(sampleMappings()[0], time.Minute), sampleMappings()[1])...)
			checkpoint(t, s)
			s = New(Options{Path: path})
			tt.change(t, path, s)
			load(t, s)
			if e, found := s.Epoch(); found != tt.want || found && e.Start != time.Minute {
				t.Errorf("the epoch is %+v, %v", e, found)
			}
		})
	}
}

// TestEpochIsInEveryStateFile rewrites the state file.
func TestEpochIsInEveryStateFile(t *testing.T) {
	path := leasePath(t)
	s := opened(t, path)
	s.SetEpoch(portmap.Epoch{Start: time.Minute})
	save(t, s, additions(sampleMappings()...)...)
	s.journal.Outdate(errClockSet)
	checkpoint(t, s)
	if st, err := readState(path + stateSuffix); err != nil || st.Damage != nil || st.service.Start != 60_000 {
		t.Errorf("epoch %+v, %v, %v", st.service, st.Damage, err)
	}
}
