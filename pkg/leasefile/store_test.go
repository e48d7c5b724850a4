package leasefile

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"igdd/pkg/journal/journaltest"
	"igdd/pkg/portmap"
	"igdd/pkg/portmap/portmaptest"
)

// forward returns a mapping to 192.168.101.N with one claim.
func forward(serial uint64, c portmap.Claim) *portmap.Mapping {
	return &portmap.Mapping{
		Key:      portmap.Key{Protocol: portmap.TCP, External: uint16(3000 + serial)},
		Internal: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 168, 101, byte(serial)}), 80),
		Claims:   []portmap.Claim{c},
		Serial:   serial,
		Created:  time.Now(),
	}
}

// renewed returns m with every claim ending after d, or never for 0.
func renewed(m *portmap.Mapping, d time.Duration) *portmap.Mapping {
	if d == 0 {
		return ending(m, time.Time{})
	}
	return ending(m, time.Now().Add(d))
}

// ending returns m with every claim ending at that time.
func ending(m *portmap.Mapping, at time.Time) *portmap.Mapping {
	n := *m
	n.Claims = slices.Clone(m.Claims)
	for i := range n.Claims {
		n.Claims[i].Expires = at
	}
	return &n
}

// asleep returns m as a dormant mapping.
func asleep(m *portmap.Mapping) *portmap.Mapping {
	n := *m
	n.Dormant, n.Reason = true, portmap.NoNetwork
	return &n
}

// sampleMappings returns mappings of every kind.
func sampleMappings() []*portmap.Mapping {
	now := time.Now()
	pmp := portmap.Claim{Origin: portmap.NATPMP, Expires: now.Add(time.Hour), Description: "NAT-PMP 3001 TCP"}
	pcp := portmap.Claim{
		Origin: portmap.PCP, Expires: now.Add(2 * time.Hour), Rebind: now.Add(time.Minute),
		Nonce:       portmap.Nonce{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12},
		Description: "PCP MAP 3002 TCP",
		Filters: []portmap.Filter{
			{Prefix: netip.MustParsePrefix("203.0.113.0/24"), Port: 443},
			{Prefix: netip.MustParsePrefix("198.51.100.7/32")},
		},
	}
	upnp := portmap.Claim{
		Origin: portmap.UPnP, Description: "a:b \"c\" <d> é 🎮",
		Filters: []portmap.Filter{{Prefix: netip.MustParsePrefix("203.0.113.9/32")}},
	}
	off := portmap.Claim{Origin: portmap.UPnP, Expires: now.Add(3 * time.Hour), Description: "off", Disabled: true}
	inside := netip.MustParseAddrPort("[2001:db8::20]:8080")
	pinhole := &portmap.Mapping{
		Key: portmap.Key{Protocol: portmap.UDP, Pinhole: inside}, Internal: inside, Serial: 4, Created: now,
		Host: portmap.Host{Hardware: "52:54:00:12:34:56"},
		Claims: []portmap.Claim{
			{Origin: portmap.UPnP, ID: 7, Expires: now.Add(time.Hour), Filters: []portmap.Filter{{Prefix: netip.MustParsePrefix("2001:db8:1::/64"), Port: 53}}},
			{Origin: portmap.UPnP, ID: 8, Expires: now.Add(2 * time.Hour)},
		},
	}
	both := forward(5, pmp)
	both.Claims = append(both.Claims, upnp)
	flow := portmap.Claim{
		Origin: portmap.PCP, Expires: now.Add(time.Hour), Nonce: portmap.Nonce{9},
		Description: "PCP PEER 3007 TCP", Remote: netip.MustParseAddrPort("203.0.113.9:443"),
	}
	return []*portmap.Mapping{forward(1, pmp), forward(2, pcp), forward(3, upnp), pinhole, both, forward(6, off), forward(7, flow)}
}

// additions returns the changes that make mappings.
func additions(mappings ...*portmap.Mapping) []portmap.Change {
	var changes []portmap.Change
	for _, m := range mappings {
		changes = append(changes, portmap.Change{After: m})
	}
	return changes
}

// text returns mappings as text, with all that a store must keep except the
// times.
func text(mappings []*portmap.Mapping) string {
	var b strings.Builder
	for _, m := range mappings {
		fmt.Fprintf(&b, "%v => %v of %q dormant %v exact %v\n", m.Key, m.Internal, m.Host.Hardware, m.Dormant, m.Forwarding.Exact)
		for _, c := range m.Claims {
			fmt.Fprintf(&b, "\t%v %q from %v", c.Origin, c.Description, c.Filters)
			if c.Origin == portmap.PCP {
				fmt.Fprintf(&b, " nonce %x", c.Nonce)
			}
			if c.Disabled {
				b.WriteString(" disabled")
			}
			if c.Outbound() {
				fmt.Fprintf(&b, " to %v", c.Remote)
			}
			if c.ID != 0 {
				fmt.Fprintf(&b, " id %d", c.ID)
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

// times returns the times of mappings: when they were made, when their claims
// expire, and until when other nonces are accepted.
func times(mappings []*portmap.Mapping) []time.Time {
	var list []time.Time
	for _, m := range mappings {
		list = append(list, m.Created)
		for _, c := range m.Claims {
			list = append(list, c.Expires, c.Rebind)
		}
	}
	return list
}

// alike reports whether both lists are equal, their times to the second.
func alike(a, b []*portmap.Mapping) bool {
	return text(a) == text(b) && slices.EqualFunc(times(a), times(b), func(x, y time.Time) bool {
		return x.IsZero() == y.IsZero() && x.Sub(y).Abs() <= time.Second
	})
}

// wantSame fails the test unless both lists are alike.
func wantSame(t *testing.T, got, want []*portmap.Mapping) {
	t.Helper()
	if !alike(got, want) {
		t.Errorf("got\n%s%v\nwant\n%s%v", text(got), times(got), text(want), times(want))
	}
}

func load(t testing.TB, s portmap.Store) []*portmap.Mapping {
	t.Helper()
	mappings, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	return mappings
}

func save(t testing.TB, s portmap.Store, changes ...portmap.Change) {
	t.Helper()
	if err := s.Save(changes); err != nil {
		t.Fatal(err)
	}
}

func checkpoint(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
}

// opened returns a store on path that has loaded and taken over all mappings.
func opened(t *testing.T, path string) *Store {
	t.Helper()
	s := New(Options{Path: path})
	save(t, s, additions(load(t, s)...)...)
	return s
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// leasePath returns a path for a lease file.
func leasePath(t testing.TB) string { return filepath.Join(t.TempDir(), "upnp.leases") }

// TestStore tests the contract of portmap.Store on the in-memory store and on
// files. Each open returns a store on the same medium, as after a crash of the
// process.
func TestStore(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		testStore(t, func(*testing.T) func() portmap.Store {
			s := new(portmaptest.Store)
			return func() portmap.Store { return s }
		})
	})
	t.Run("files", func(t *testing.T) {
		testStore(t, func(t *testing.T) func() portmap.Store {
			path := leasePath(t)
			return func() portmap.Store { return New(Options{Path: path}) }
		})
	})
	t.Run("files, written after each step", func(t *testing.T) {
		testStore(t, func(t *testing.T) func() portmap.Store {
			path := leasePath(t)
			return func() portmap.Store { return &eager{New(Options{Path: path})} }
		})
	})
}

// eager is a store that writes both files in each Save.
type eager struct{ *Store }

func (e *eager) Save(changes []portmap.Change) error {
	if err := e.Store.Save(changes); err != nil {
		return err
	}
	return e.Checkpoint()
}

func testStore(t *testing.T, medium func(*testing.T) func() portmap.Store) {
	v := sampleMappings()
	for _, c := range []struct {
		name  string
		steps [][]portmap.Change
		want  []*portmap.Mapping
	}{
		{"nothing", nil, nil},
		{"nothing, saved twice", [][]portmap.Change{nil, {}}, nil},
		{"every kind, one by one", [][]portmap.Change{
			additions(v[0]), additions(v[1]), additions(v[2]), additions(v[3]), additions(v[4]), additions(v[5]), additions(v[6]),
		}, v},
		{"every kind at once", [][]portmap.Change{additions(v...)}, v},
		{"renewed", [][]portmap.Change{
			additions(v[:3]...),
			{{Before: v[1], After: renewed(v[1], 5*time.Hour)}},
		}, []*portmap.Mapping{v[0], renewed(v[1], 5*time.Hour), v[2]}},
		{"made dormant", [][]portmap.Change{
			additions(v[:3]...),
			{{Before: v[1], After: asleep(v[1])}},
		}, []*portmap.Mapping{v[0], asleep(v[1]), v[2]}},
		{"in force again", [][]portmap.Change{
			additions(v[0], asleep(v[1])),
			{{Before: asleep(v[1]), After: v[1]}},
		}, v[:2]},
		{"ended", [][]portmap.Change{
			additions(v...),
			{{Before: v[0]}, {Before: v[3]}},
		}, []*portmap.Mapping{v[1], v[2], v[4], v[5], v[6]}},
		{"ended and made again", [][]portmap.Change{
			additions(v[:2]...),
			{{Before: v[0]}},
			additions(recreated(v[0])),
		}, []*portmap.Mapping{v[1], recreated(v[0])}},
		{"made and ended in one step", [][]portmap.Change{
			{{After: v[0]}, {After: v[1]}, {Before: v[0]}},
		}, v[1:2]},
		{"all ended", [][]portmap.Change{
			additions(v[0], v[3]),
			{{Before: v[0]}, {Before: v[3]}},
		}, nil},
		{"another target", [][]portmap.Change{
			additions(v[0]),
			{{Before: v[0], After: retargeted(v[0])}},
		}, []*portmap.Mapping{retargeted(v[0])}},
		{"another key", [][]portmap.Change{
			additions(v[0]),
			{{Before: v[0], After: v[1]}},
		}, v[1:2]},
	} {
		t.Run(c.name, func(t *testing.T) {
			open := medium(t)
			s := open()
			wantSame(t, load(t, s), nil)
			save(t, s)
			for _, step := range c.steps {
				save(t, s, step...)
			}
			for range 2 { // and after taking over what was loaded
				s = open()
				got := load(t, s)
				wantSame(t, got, c.want)
				save(t, s, additions(got...)...)
			}
		})
	}
	testFirstSave(t, medium)
	testEpoch(t, medium)
}

// testEpoch saves epochs with changes and without.
func testEpoch(t *testing.T, medium func(*testing.T) func() portmap.Store) {
	t.Run("epoch", func(t *testing.T) {
		open, v := medium(t), sampleMappings()
		s := open()
		load(t, s)
		if e, found := s.Epoch(); found {
			t.Errorf("a new store has the epoch %+v", e)
		}
		for i, changes := range [][]portmap.Change{additions(v[0]), nil, additions(v[1]), nil} {
			want := portmap.Epoch{Start: time.Duration(i+1) * time.Minute, External: netip.AddrFrom4([4]byte{203, 0, 113, byte(i)})}
			s.SetEpoch(want)
			save(t, s, changes...)
			s = open()
			mappings := load(t, s)
			if got, found := s.Epoch(); !found || got != want {
				t.Errorf("step %d: the epoch is %+v, %v, want %+v", i, got, found, want)
			}
			save(t, s, additions(mappings...)...)
		}
	})
}

// testFirstSave takes over a part of what was loaded, or some of it changed:
// the first Save replaces all of it, the next one adds to that.
func testFirstSave(t *testing.T, medium func(*testing.T) func() portmap.Store) {
	v := sampleMappings()
	for _, c := range []struct {
		name  string
		first []*portmap.Mapping
	}{
		{"nothing taken over", nil},
		{"some taken over", v[1:4]},
		{"one taken over with another end", []*portmap.Mapping{v[1], renewed(v[2], 5*time.Hour)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			open := medium(t)
			s := open()
			load(t, s)
			save(t, s, additions(v[:5]...)...)
			s = open()
			wantSame(t, load(t, s), v[:5])
			s = open() // nothing is lost before the first Save
			wantSame(t, load(t, s), v[:5])
			save(t, s, additions(c.first...)...)
			wantSame(t, load(t, open()), c.first)
			save(t, s, additions(c.first...)...) // in memory, open is the same store and was loaded again
			save(t, s, additions(v[5])...)
			wantSame(t, load(t, open()), append(slices.Clone(c.first), v[5]))
		})
	}
}

func recreated(m *portmap.Mapping) *portmap.Mapping {
	n := *m
	n.Serial += 100
	return &n
}

func retargeted(m *portmap.Mapping) *portmap.Mapping {
	n := *m
	n.Internal = netip.MustParseAddrPort("192.168.101.77:7777")
	return &n
}

// TestLeaseFile compares the lease file's text.
func TestLeaseFile(t *testing.T) {
	path := leasePath(t)
	s := opened(t, path)
	v := sampleMappings()
	save(t, s, additions(v...)...)
	checkpoint(t, s)
	at := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	want := fmt.Sprintf(""+
		"TCP:3001:192.168.101.1:80:%d:NAT-PMP 3001 TCP\n"+
		"TCP:3002:192.168.101.2:80:%d:PCP MAP 3002 TCP [restricted]\n"+
		"TCP:3003:192.168.101.3:80:0:a∶b \"c\" <d> é 🎮 [restricted]\n"+
		"TCP:3005:192.168.101.5:80:0:NAT-PMP 3001 TCP [restricted]\n"+
		"TCP:3006:192.168.101.6:80:%d:off [restricted]\n", at(time.Hour), at(2*time.Hour), at(3*time.Hour))
	if got := read(t, path); !sameLeases(got, want) {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	for name, mode := range map[string]os.FileMode{path: 0o644, path + stateSuffix: 0o600} {
		if info, err := os.Stat(name); err != nil || info.Mode() != mode {
			t.Errorf("%s has mode %v, %v, want %v", name, info.Mode(), err, mode)
		}
	}
	if names, _ := os.ReadDir(filepath.Dir(path)); len(names) != 2 {
		t.Errorf("directory holds %v", names)
	}
}

// sameLeases compares lease files, their times to two seconds.
func sameLeases(a, b string) bool {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	return slices.EqualFunc(x, y, func(a, b string) bool {
		l, errA := parseLease([]byte(a))
		m, errB := parseLease([]byte(b))
		if errA != nil || errB != nil {
			return a == b
		}
		off := l.expires - m.expires
		l.expires, m.expires = 0, 0
		return l == m && -2 <= off && off <= 2
	})
}

func TestNoPath(t *testing.T) {
	s := opened(t, "")
	save(t, s, additions(sampleMappings()...)...)
	checkpoint(t, s)
	wantSame(t, load(t, s), nil)
}

// TestRefusedMappingsAreForgotten checks that the mappings that the table did
// not take over are dropped from both files.
func TestRefusedMappingsAreForgotten(t *testing.T) {
	path := leasePath(t)
	v := sampleMappings()
	s := opened(t, path)
	save(t, s, additions(v...)...)
	checkpoint(t, s)

	s = New(Options{Path: path})
	load(t, s)
	checkpoint(t, s) // nothing is written before the first Save
	wantSame(t, load(t, New(Options{Path: path})), v)
	save(t, s, additions(v[1:3]...)...)
	wantSame(t, load(t, New(Options{Path: path})), v[1:3])
	checkpoint(t, s)
	wantSame(t, load(t, New(Options{Path: path})), v[1:3])
	if n := strings.Count(read(t, path), "\n"); n != 2 {
		t.Errorf("lease file has %d lines, want 2", n)
	}
}

// TestRestartWritesNothing takes over all mappings without changing the disk.
func TestRestartWritesNothing(t *testing.T) {
	path := leasePath(t)
	s := opened(t, path)
	save(t, s, additions(sampleMappings()...)...)
	checkpoint(t, s)
	s.journal.Close()

	s = New(Options{Path: path})
	d := &journaltest.Disk{}
	s.useDisk(d)
	save(t, s, additions(load(t, s)...)...)
	checkpoint(t, s)
	if ops := fmt.Sprint(d.Did()); ops != "[append upnp.leases.state sync upnp.leases.state]" {
		t.Errorf("disk operations %v, want the state file opened and synced only", ops)
	}
}

// TestWokenAtTheStart restores a dormant mapping in force: it has its line
// before and after that, and only the mark goes.
func TestWokenAtTheStart(t *testing.T) {
	path, m := leasePath(t), sampleMappings()[0]
	s := opened(t, path)
	save(t, s, additions(asleep(m))...)
	checkpoint(t, s)
	lines := read(t, path)
	if n := strings.Count(lines, "\n"); n != 1 {
		t.Fatalf("a dormant mapping has %d lines", n)
	}
	s = New(Options{Path: path})
	wantSame(t, load(t, s), []*portmap.Mapping{asleep(m)})
	save(t, s, additions(m)...)
	checkpoint(t, s)
	wantSame(t, load(t, New(Options{Path: path})), []*portmap.Mapping{m})
	if got := read(t, path); got != lines {
		t.Errorf("the lease file says %q, said %q", got, lines)
	}
}

// TestLeaseFileCatchesUp checks that after a crash the lease file gets what
// only the state file had, without further changes.
func TestLeaseFileCatchesUp(t *testing.T) {
	claim := portmap.Claim{Origin: portmap.UPnP}
	first, second := additions(forward(1, claim)), additions(forward(2, claim))
	for what, do := range map[string]func(*testing.T, *Store){
		"saved before anything is written": func(t *testing.T, s *Store) { save(t, s, first...); save(t, s, second...) },
		"saved after it": func(t *testing.T, s *Store) {
			save(t, s, first...)
			checkpoint(t, s)
			save(t, s, second...)
		},
		"saved while it is written": func(t *testing.T, s *Store) {
			save(t, s, first...)
			checkpoint(t, s)
			save(t, s, closing(first...)...)
			snap := s.takeSnapshot(s.path + stateSuffix)
			save(t, s, first...)
			save(t, s, second...)
			if err := s.writeFiles(s.path+stateSuffix, snap); err != nil {
				t.Fatal(err)
			}
			s.finishWrite(snap, nil)
		},
	} {
		t.Run(what, func(t *testing.T) {
			path := leasePath(t)
			do(t, opened(t, path))
			checkpoint(t, opened(t, path))
			if n := strings.Count(read(t, path), "\n"); n != 2 {
				t.Errorf("lease file has %d lines, want 2", n)
			}
		})
	}
}

// closing returns the changes that remove the mappings of others.
func closing(changes ...portmap.Change) (list []portmap.Change) {
	for _, c := range changes {
		list = append(list, portmap.Change{Before: c.After})
	}
	return list
}

// TestTooManyFilters checks that a mapping that is too large for a record is in
// neither file, rather than there without its filters.
func TestTooManyFilters(t *testing.T) {
	path := leasePath(t)
	s := opened(t, path)
	v := sampleMappings()
	save(t, s, additions(v[0], v[1])...)
	wide := *v[1]
	wide.Claims = slices.Clone(wide.Claims)
	wide.Claims[0].Filters = make([]portmap.Filter, 20_000)
	for i := range wide.Claims[0].Filters {
		wide.Claims[0].Filters[i].Prefix = netip.MustParsePrefix("203.0.113.0/24")
	}
	if err := s.Save([]portmap.Change{{Before: v[1], After: &wide}}); err == nil {
		t.Error("saved a record that is too long to be read")
	}
	wantSame(t, load(t, New(Options{Path: path})), v[:1])
	checkpoint(t, s)
	wantSame(t, load(t, New(Options{Path: path})), v[:1])
}

// TestExactPortIsSaved saves that a client insists on a port.
func TestExactPortIsSaved(t *testing.T) {
	path := leasePath(t)
	m := sampleMappings()[0]
	m.Forwarding.Exact = true
	s := New(Options{Path: path})
	load(t, s)
	save(t, s, additions(m)...)
	checkpoint(t, s)
	wantSame(t, load(t, New(Options{Path: path})), []*portmap.Mapping{m})
}
