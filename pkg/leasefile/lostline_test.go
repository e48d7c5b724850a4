package leasefile

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"igdd/pkg/portmap"
)

// TestLostLines removes and doubles lines of a state file whose lease file is whole: no
// mapping comes back that was deleted, none is open to everyone that was restricted, and
// the others are there.
func TestLostLines(t *testing.T) {
	open := many(4)
	narrow := *open[1]
	narrow.Claims = slices.Clone(narrow.Claims)
	narrow.Claims[0].Filters = []portmap.Filter{{Prefix: netip.MustParsePrefix("203.0.113.9/32")}}
	path := leasePath(t)
	s := opened(t, path)
	save(t, s, additions(open...)...)
	checkpoint(t, s)
	save(t, s, portmap.Change{Before: open[1], After: &narrow})
	save(t, s, portmap.Change{Before: open[2]})
	checkpoint(t, s)
	state := read(t, path+stateSuffix)
	lines := strings.SplitAfter(strings.TrimSuffix(state, "\n"), "\n")
	lines[len(lines)-1] += "\n"
	for i := 1; i < len(lines); i++ {
		for what, changed := range map[string][]string{
			"without": slices.Delete(slices.Clone(lines), i, i+1),
			"doubled": append(slices.Clone(lines), lines[i]),
		} {
			write(t, path+stateSuffix, strings.Join(changed, ""))
			got := make(map[portmap.Key]*portmap.Mapping)
			for _, m := range load(t, New(Options{Path: path})) {
				got[m.Key] = m
			}
			if m := got[narrow.Key]; m != nil && isOpen(m) {
				t.Errorf("%s line %d: open to everyone:\n%s", what, i+1, textOf(m))
			}
			if got[open[2].Key] != nil {
				t.Errorf("%s line %d: %v is back", what, i+1, open[2].Key)
			}
			if what == "doubled" && (got[open[0].Key] == nil || got[open[3].Key] == nil || got[narrow.Key] == nil) {
				t.Errorf("%s line %d: there is only\n%s", what, i+1, text(load(t, New(Options{Path: path}))))
			}
		}
	}
}

// TestStateFileEmptied empties the state file while the store runs, or overwrites it: the
// next Save writes it anew.
func TestStateFileEmptied(t *testing.T) {
	for what, content := range map[string]string{"emptied": "", "overwritten": "0badcafe {}\n"} {
		t.Run(what, func(t *testing.T) {
			path, list := leasePath(t), many(6)
			s, log := logged(path)
			save(t, s, additions(load(t, s)...)...)
			save(t, s, additions(list[:5]...)...)
			checkpoint(t, s)
			write(t, path+stateSuffix, content)
			save(t, s, additions(list[5:]...)...)
			wantSame(t, load(t, New(Options{Path: path})), list)
			checkpoint(t, s)
			wantSame(t, load(t, New(Options{Path: path})), list)
			if !strings.Contains(log.String(), "another program") {
				t.Errorf("the log is %q", log)
			}
		})
	}
}

// TestTornLeaseFile cuts the lease file in its last line, where its state file is damaged
// or tells of other lines: the mark of a restricted mapping may be what is missing.
func TestTornLeaseFile(t *testing.T) {
	narrow := sampleMappings()[1]
	for what, damage := range map[string]func(state string) string{
		"damaged":       func(s string) string { return strings.Replace(s, `"ext":3002`, `"ext":3003`, 1) },
		"its beginning": func(s string) string { return s[:strings.Index(s, `"put"`)-10] },
		"emptied":       func(string) string { return "" },
	} {
		t.Run(what, func(t *testing.T) {
			path := newFiles(t, forward(1, portmap.Claim{Origin: portmap.UPnP}), narrow)
			lease, state := read(t, path), read(t, path+stateSuffix)
			write(t, path+stateSuffix, damage(state))
			for cut := range len("[restricted]\n") {
				write(t, path, lease[:len(lease)-1-cut])
				for _, m := range load(t, New(Options{Path: path})) {
					if m.Key == narrow.Key && isOpen(m) {
						t.Errorf("%d bytes cut: open to everyone", cut+1)
					}
				}
			}
		})
	}
}

// TestUnreadableModes demands that files whose owner may not read them are read.
func TestUnreadableModes(t *testing.T) {
	path := leasePath(t)
	if err := MoveToFolder(path); err != nil {
		t.Fatal(err)
	}
	s, list := opened(t, path), many(2)
	save(t, s, additions(list...)...)
	checkpoint(t, s)
	for _, name := range []string{path, path + stateSuffix} {
		real, err := resolve(name)
		if name != path {
			real, err = resolve(path)
			real += stateSuffix
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(real, 0); err != nil {
			t.Fatal(err)
		}
		if err := MoveToFolder(path); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(real); err != nil || info.Mode().Perm()&0o600 != 0o600 {
			t.Errorf("%s: mode %v, %v", real, info.Mode(), err)
		}
	}
}
