package leasefile

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"igdd/pkg/portmap"
)

// version is both files at one time, and the mappings that clients had then.
type version struct {
	lease, state string
	listed       int // the version whose mappings the lease file lists
	held         map[portmap.Key]*portmap.Mapping
}

// versions are the files of a router over time, as another program may copy them while
// the daemon writes.
type versions struct {
	t     *testing.T
	path  string
	store *Store
	held  map[portmap.Key]*portmap.Mapping
	list  []version

	listed int // the version that the lease file lists
}

// set makes a mapping, or replaces the one with the same key.
func (v *versions) set(m *portmap.Mapping) {
	c := portmap.Change{Before: v.held[m.Key], After: m}
	v.held[m.Key] = m
	v.save(c)
}

// delete deletes a mapping.
func (v *versions) delete(m *portmap.Mapping) {
	c := portmap.Change{Before: v.held[m.Key]}
	delete(v.held, m.Key)
	v.save(c)
}

// save saves a change, and notes the files before and after the lease file follows.
func (v *versions) save(c portmap.Change) {
	save(v.t, v.store, c)
	v.note(v.listed)
	checkpoint(v.t, v.store)
	v.note(len(v.list))
}

// note notes the files.
func (v *versions) note(listed int) {
	lease, _ := os.ReadFile(v.path) // at first there is none
	v.listed = listed
	v.list = append(v.list, version{string(lease), read(v.t, v.path+stateSuffix), listed, maps.Clone(v.held)})
}

// withClaims returns m with other claims.
func withClaims(m *portmap.Mapping, claims ...portmap.Claim) *portmap.Mapping {
	n := *m
	n.Claims = claims
	return &n
}

// routerVersions returns the files of a router whose clients open mappings, restrict
// them, let more remote hosts in, renew, move and delete them, until the state file has
// been written anew.
func routerVersions(t *testing.T) []version {
	path := leasePath(t)
	v := &versions{t: t, path: path, store: opened(t, path), held: make(map[portmap.Key]*portmap.Mapping)}
	hour := time.Now().Add(time.Hour)
	open := portmap.Claim{Origin: portmap.NATPMP, Expires: hour, Description: "NAT-PMP"}
	narrow := portmap.Claim{Origin: portmap.UPnP, Expires: hour.Add(time.Hour), Description: "narrow",
		Filters: []portmap.Filter{{Prefix: netip.MustParsePrefix("203.0.113.9/32")}}}
	for i, m := range sampleMappings() {
		if v.set(m); i == 0 {
			v.list = v.list[1:] // it has no lease file
			v.list[0].listed, v.listed = 0, 0
		}
	}
	for i := range 2 { // twice, with the state file written anew in between
		steady, changing, moving := forward(uint64(20+i), open), forward(uint64(30+i), open), forward(uint64(40+i), narrow)
		v.set(steady)
		v.set(changing)
		v.set(withClaims(changing, open, narrow))
		v.set(withClaims(changing, narrow))
		v.set(renewed(withClaims(changing, open, narrow), 90*time.Minute))
		v.set(renewed(withClaims(changing, narrow), 3*time.Hour))
		v.set(withClaims(changing, open))
		v.set(moving)
		v.set(retargeted(moving))
		v.set(renewed(steady, 3*time.Hour))
		v.delete(changing)
		v.set(withClaims(changing, narrow))
		v.rewrite()
	}
	return v.list
}

// rewrite has the state file written anew, as it is when most of its lines are outdated.
func (v *versions) rewrite() {
	filler := forward(99, portmap.Claim{Origin: portmap.UPnP, Description: strings.Repeat("x", 1000)})
	for i := range 100 {
		m := renewed(filler, time.Hour+time.Duration(i)*time.Minute)
		save(v.t, v.store, portmap.Change{Before: v.held[m.Key], After: m})
		v.held[m.Key] = m
	}
	before := len(read(v.t, v.path+stateSuffix))
	checkpoint(v.t, v.store)
	v.note(len(v.list))
	if after := len(v.list[len(v.list)-1].state); after > before/2 {
		v.t.Fatalf("the state file has %d bytes, %d before it was to be written anew", after, before)
	}
}

// isOpen reports whether every remote host may use the mapping.
func isOpen(m *portmap.Mapping) bool {
	return slices.ContainsFunc(m.Claims, func(c portmap.Claim) bool { return !c.Outbound() && !isRestricted(c) })
}

// never is later than any end.
var never = time.Unix(1<<40, 0)

// openUntil returns until when every remote host may use a mapping that is open.
func openUntil(m *portmap.Mapping) (last time.Time) {
	for _, c := range m.Claims {
		switch {
		case c.Outbound() || isRestricted(c):
		case c.Expires.IsZero():
			return never
		case c.Expires.After(last):
			last = c.Expires
		}
	}
	return last
}

// demandCopied loads copies of both files that were made at any time in between, and
// demands every mapping that stayed the same, and none that is more open than what a
// client has asked for in the last version.
func demandCopied(t *testing.T, what, path, lease, state string, between []version) {
	t.Helper()
	got := loadCopies(t, path, lease, state)
	for k, m := range between[0].held {
		if stays(m, between) && (got[k] == nil || textOf(got[k]) != textOf(m)) {
			t.Errorf("%s: want\n%sgot\n%s", what, textOf(m), text(slices.DeleteFunc([]*portmap.Mapping{got[k]}, func(m *portmap.Mapping) bool { return m == nil })))
		}
	}
	demandNotWidened(t, what, got, between)
}

// loadCopies returns what a store loads from copies at path, by key.
func loadCopies(t *testing.T, path, lease, state string) map[portmap.Key]*portmap.Mapping {
	t.Helper()
	write(t, path, lease)
	write(t, path+stateSuffix, state)
	got := make(map[portmap.Key]*portmap.Mapping)
	for _, m := range load(t, New(Options{Path: path})) {
		got[m.Key] = m
	}
	return got
}

// stays reports whether all versions have the mapping, apart from its times.
func stays(m *portmap.Mapping, between []version) bool {
	return !slices.ContainsFunc(between, func(v version) bool {
		return v.held[m.Key] == nil || textOf(v.held[m.Key]) != textOf(m)
	})
}

// demandNotWidened demands that a mapping is open only if a version had it open, and the
// last one does not have it restricted. It may if a version had it open for a while, and
// restricted beside that: then the lease file's line says both times the same.
func demandNotWidened(t *testing.T, what string, got map[portmap.Key]*portmap.Mapping, between []version) {
	t.Helper()
	for k, m := range got {
		if !isOpen(m) {
			continue
		}
		same := func(v version) bool { return v.held[k] != nil && v.held[k].Internal == m.Internal }
		was := slices.ContainsFunc(between, func(v version) bool { return same(v) && isOpen(v.held[k]) })
		both := slices.ContainsFunc(between, func(v version) bool { return same(v) && isOpen(v.held[k]) && len(v.held[k].Claims) > 1 })
		last := between[len(between)-1]
		if !was || same(last) && !isOpen(last.held[k]) && !both {
			t.Errorf("%s: open to everyone:\n%s", what, textOf(m))
		}
		longer := func(v version) bool {
			return same(v) && isOpen(v.held[k]) && !openUntil(m).After(openUntil(v.held[k]).Add(time.Second))
		}
		if !slices.ContainsFunc(between, longer) {
			t.Errorf("%s: open to everyone until %v:\n%s", what, openUntil(m), textOf(m))
		}
	}
}

// TestCopies loads copies of both files that were made while the daemon went on.
func TestCopies(t *testing.T) {
	list, path := routerVersions(t), leasePath(t)
	t.Run("one file after the other", func(t *testing.T) { testOneAfterTheOther(t, list, path) })
	t.Run("while a line is written", func(t *testing.T) { testHalfALine(t, list, path) })
	t.Run("the beginning alone", func(t *testing.T) { testBeginning(t, list, path) })
}

// testOneAfterTheOther loads a lease file and a state file of different times.
func testOneAfterTheOther(t *testing.T, list []version, path string) {
	for i, lease := range list {
		for j := max(i-8, 0); j < min(i+9, len(list)); j++ {
			between := list[min(lease.listed, j) : max(i, j)+1]
			demandCopied(t, fmt.Sprintf("lease file %d, state file %d", i, j), path, lease.lease, list[j].state, between)
		}
	}
}

// testHalfALine loads a state file that was copied while the daemon appended to it: it
// ends anywhere behind what was there before. The client has no answer yet.
func testHalfALine(t *testing.T, list []version, path string) {
	for j := range list[:len(list)-1] {
		if !strings.HasPrefix(list[j+1].state, list[j].state) {
			continue // written anew, under another name
		}
		for cut := len(list[j].state); cut < len(list[j+1].state) && cut < len(list[j].state)+1000; cut += 29 {
			for i := max(j-1, 0); i < min(j+2, len(list)); i++ {
				between := list[min(list[i].listed, j) : max(i, j)+1]
				demandCopied(t, fmt.Sprintf("lease file %d, state file %d with %d bytes", i, j+1, cut), path, list[i].lease, list[j+1].state[:cut], between)
			}
		}
	}
}

// testBeginning loads a state file of which only the beginning was copied: what is
// missing there opens nothing, and what is open to everyone is in the lease file. Without
// a whole line nothing is known of the file.
func testBeginning(t *testing.T, list []version, path string) {
	last := list[len(list)-1]
	first := strings.Index(last.state, "\n") + 1
	for cut := 0; cut <= len(last.state); cut += 13 {
		what := fmt.Sprintf("%d of %d bytes", cut, len(last.state))
		got := loadCopies(t, path, last.lease, last.state[:cut])
		demandNotWidened(t, what, got, list[len(list)-1:])
		for k, m := range last.held {
			if cut >= first && isOpen(m) && !slices.ContainsFunc(m.Claims, isRestricted) && !k.Pinhole.IsValid() && got[k] == nil {
				t.Errorf("%s: lacks\n%s", what, textOf(m))
			}
		}
	}
}
