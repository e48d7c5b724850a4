package leasefile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"igdd/pkg/portmap"
)

// TestFilesOfEarlierVersions loads what earlier versions wrote, of which the state file
// has entries that the lease file lacks where the process was killed, and goes on with
// it.
func TestFilesOfEarlierVersions(t *testing.T) {
	want := sampleMappings()
	moved := *want[0]
	moved.External = 3010
	want = append(want[1:], &moved)
	for what, hasHardware := range map[string]bool{
		"records-stopped": false, "records-killed": false, // without hardware addresses, and without an epoch
		"epoch-stopped": true, "epoch-killed": true,
	} {
		t.Run(what, func(t *testing.T) {
			path := leasePath(t)
			if err := os.CopyFS(filepath.Dir(path), os.DirFS(filepath.Join("testdata/earlier", what))); err != nil {
				t.Fatal(err)
			}
			s := New(Options{Path: path})
			s.boot = "0f1e2d3c-0000-4000-8000-000000000001"
			first := load(t, s)
			wantEarlier(t, first, want, hasHardware)
			if e, found := s.Epoch(); found != hasHardware || found && e.Start != time.Minute {
				t.Errorf("the epoch is %+v, %v", e, found)
			}
			save(t, s, additions(first...)...)
			checkpoint(t, s)
			if n := strings.Count(read(t, path), "\n"); n != 5 {
				t.Errorf("the lease file has %d lines, want 5", n)
			}
			wantSame(t, load(t, New(Options{Path: path})), first)
		})
	}
}

// wantEarlier compares mappings with what the earlier versions saved, all of which ends
// about 2099 or never.
func wantEarlier(t *testing.T, got, want []*portmap.Mapping, hasHardware bool) {
	t.Helper()
	expected := text(want)
	if !hasHardware {
		expected = strings.ReplaceAll(expected, "52:54:00:12:34:56", "")
	}
	if text(got) != expected {
		t.Errorf("got\n%swant\n%s", text(got), expected)
	}
	for i, m := range got {
		for j, c := range m.Claims {
			if end := want[i].Claims[j].Expires; end.IsZero() != c.Expires.IsZero() || !end.IsZero() && c.Expires.Year() != 2099 {
				t.Errorf("%v ends %v", m.Key, c.Expires)
			}
		}
	}
}
