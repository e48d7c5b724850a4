package leasefile

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"igdd/pkg/journal/journaltest"
	"igdd/pkg/portmap"
)

// TestTwoStores has two daemons use the same files, by mistake, and ends both after
// each step: the files are always those of one of them, complete, and what a Save has
// confirmed is there until the other one writes.
func TestTwoStores(t *testing.T) {
	d, path := new(journaltest.Disk), leasePath(t)
	stores := make([]*Store, 2)
	held := make([][]*portmap.Mapping, 2)
	var logs []interface{ String() string }
	for i := range stores {
		s, log := logged(path)
		s.useDisk(d)
		save(t, s, additions(load(t, s)...)...)
		stores[i], logs = s, append(logs, log)
	}
	for i, m := range many(12) {
		writer := i * 5 / 3 % 2
		save(t, stores[writer], additions(m)...)
		held[writer] = append(held[writer], m)
		wantSame(t, load(t, New(Options{Path: path})), held[writer])
		if i%3 == 1 {
			checkpoint(t, stores[writer])
			wantSame(t, load(t, New(Options{Path: path})), held[writer])
		}
		if i%4 == 3 { // whoever writes later, the files are one store's
			checkpoint(t, stores[0])
			checkpoint(t, stores[1])
			if got := load(t, New(Options{Path: path})); !alike(got, held[0]) && !alike(got, held[1]) {
				t.Errorf("the files have\n%swhich is neither\n%snor\n%s", text(got), text(held[0]), text(held[1]))
			}
		}
	}
	for i, log := range logs {
		if !strings.Contains(log.String(), "A second daemon needs a lease file of its own") {
			t.Errorf("daemon %d does not say what is wrong:\n%s", i, log)
		}
	}
}

// TestRenewalsStayBelowTwice renews one large mapping among small ones for a long time:
// the state file stays below twice what it has to hold, and a little more.
func TestRenewalsStayBelowTwice(t *testing.T) {
	d, path := new(journaltest.Disk), leasePath(t)
	s := openOn(t, d, path)
	list := many(100)
	wide := *sampleMappings()[1]
	wide.External = 999
	wide.Claims = slices.Clone(wide.Claims)
	wide.Claims[0].Filters = slices.Repeat(wide.Claims[0].Filters, 20)
	save(t, s, additions(append(list, &wide)...)...)
	drop := maps.Collect(slices.All(list))
	for i := range 2000 {
		after := wide
		after.Internal = retargeted(&wide).Internal
		if i%2 == 0 {
			after.Internal = wide.Internal
		}
		save(t, s, portmap.Change{Before: &wide, After: &after})
		if m := drop[i]; m != nil { // until only the large one is left
			save(t, s, portmap.Change{Before: m})
		}
		if i%20 == 19 {
			checkpoint(t, s)
			content := len(text([]*portmap.Mapping{&wide})) * 2
			if size := len(read(t, path+stateSuffix)); size > 2*(content+350*max(0, 100-i))+150<<10 {
				t.Fatalf("after %d renewals the state file has %d bytes", i+1, size)
			}
		}
	}
}
