package leasefile

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/netlab"
	"igdd/pkg/portmap"
)

// logged returns a store whose log lines go to the returned buffer.
func logged(path string) (*Store, *bytes.Buffer) {
	var b bytes.Buffer
	return New(Options{Path: path, Log: slog.New(slog.NewTextHandler(&b, nil))}), &b
}

// newFiles writes a lease file and its state file, as a clean stop leaves them.
func newFiles(t *testing.T, mappings ...*portmap.Mapping) (path string) {
	t.Helper()
	path = leasePath(t)
	s := opened(t, path)
	save(t, s, additions(mappings...)...)
	checkpoint(t, s)
	return path
}

// in returns the Unix time after d.
func in(d time.Duration) int64 { return time.Now().Add(d).Unix() }

// TestLoadMiniupnpd loads a lease file of miniupnpd.
func TestLoadMiniupnpd(t *testing.T) {
	path := leasePath(t)
	minute, hour, later := in(time.Minute), in(time.Hour), in(2*time.Hour)
	write(t, path, fmt.Sprintf(""+
		"TCP:6666:192.168.101.20:5555:%d:test app:1\r\n"+
		"UDP:7777:192.168.101.20:7777:0:game\n"+
		"\n# by hand\n"+
		"UDP:4001:192.168.101.20:4000:%d:NAT-PMP 4001 udp\n"+
		"UDP:3003:192.168.101.20:3003:%d:old\n"+
		"UDPLITE:9:192.168.101.20:9:0:rare\n"+
		"junk\n"+
		"UDP:5001:192.168.101.20:5000:%d:PCP MAP 04030201080706050c0b0a09\n"+
		"UDP:7777:192.168.101.21:7777:0:another host's\n"+
		"tcp:6666:192.168.101.20:5555:%d:again", hour, minute, in(-time.Minute), hour, later))
	s, log := logged(path)
	claim := func(o portmap.Origin, end int64, text string) portmap.Claim {
		c := portmap.Claim{Origin: o, Description: text}
		if end > 0 {
			c.Expires = time.Unix(end, 0)
		}
		return c
	}
	mapping := func(p portmap.Protocol, external, internal uint16, c portmap.Claim) *portmap.Mapping {
		return &portmap.Mapping{
			Key:      portmap.Key{Protocol: p, External: external},
			Internal: netip.AddrPortFrom(netip.MustParseAddr("192.168.101.20"), internal),
			Claims:   []portmap.Claim{c},
			Created:  time.Now(),
		}
	}
	want := []*portmap.Mapping{
		mapping(portmap.TCP, 6666, 5555, claim(portmap.UPnP, later, "again")),
		mapping(portmap.UDP, 7777, 7777, claim(portmap.UPnP, 0, "game")),
		mapping(portmap.UDP, 4001, 4000, claim(portmap.NATPMP, minute, "NAT-PMP 4001 udp")),
		mapping(portmap.UDP, 5001, 5000, claim(portmap.PCP, hour, "PCP MAP 5001 UDP")),
	}
	got := load(t, s)
	wantSame(t, got, want)
	for i, m := range got {
		if m.Serial != uint64(i+1) {
			t.Errorf("%v has serial %d, want %d", m.Key, m.Serial, i+1)
		}
	}
	for _, line := range []string{
		"level=INFO+2 msg=\"already expired lease in lease file (3003=>192.168.101.20:3003 UDP)\"",
		"lines=3 first=7 reason=\"protocol is neither TCP nor UDP\"",
	} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("log lacks %s:\n%s", line, log)
		}
	}
	if n := strings.Count(log.String(), "\n"); n != 2 {
		t.Errorf("%d log lines, want 2:\n%s", n, log)
	}

	save(t, s, additions(got...)...)
	wantSame(t, load(t, New(Options{Path: path})), want) // as after kill -9
	checkpoint(t, s)
	wantSame(t, load(t, New(Options{Path: path})), want)
	if text := read(t, path); strings.Count(text, "\n") != 4 || strings.Contains(text, "04030201") {
		t.Errorf("lease file is now\n%s", text)
	}
}

// TestLoadChanged loads a lease file that another program wrote beside a state
// file: the lines decide which mappings exist, the records what limits them.
func TestLoadChanged(t *testing.T) {
	v := sampleMappings()
	path := newFiles(t, v...)
	pcp, upnp, pinhole, both := v[1], v[2], v[3], v[4]
	soon, later := in(30*time.Minute), in(10*time.Hour)
	write(t, path, fmt.Sprintf(""+
		"TCP:3005:192.168.101.5:80:%d:both\n"+ // with an earlier end
		"TCP:3002:192.168.101.2:80:%d:renewed\n"+
		"TCP:3003:192.168.101.33:80:0:another host\n"+
		"TCP:4000:192.168.101.40:80:0:new\n", soon, later))

	both = ending(both, time.Unix(soon, 0))
	upnp = &portmap.Mapping{
		Key: upnp.Key, Internal: netip.MustParseAddrPort("192.168.101.33:80"), Created: time.Now(),
		Claims: []portmap.Claim{{Origin: portmap.UPnP, Description: "another host"}},
	}
	added := forward(1, portmap.Claim{Origin: portmap.UPnP, Description: "new"})
	added.Key, added.Internal = portmap.Key{Protocol: portmap.TCP, External: 4000}, netip.MustParseAddrPort("192.168.101.40:80")
	want := []*portmap.Mapping{both, ending(pcp, time.Unix(later, 0)), upnp, added, pinhole, v[6]}

	s, log := logged(path)
	got := load(t, s)
	wantSame(t, got, want)
	if !strings.Contains(log.String(), "another program changed the lease file") {
		t.Errorf("log lacks the change of the lease file:\n%s", log)
	}
	save(t, s, additions(got...)...)
	wantSame(t, load(t, New(Options{Path: path})), want)
	checkpoint(t, s)
	wantSame(t, load(t, New(Options{Path: path})), want)
}

// TestLoadKeepsEarlierEnd moves the end of a mapping in the lease file: the
// claim that opens it to every remote host does not get the end of the one with
// filters.
func TestLoadKeepsEarlierEnd(t *testing.T) {
	open := portmap.Claim{Origin: portmap.NATPMP, Expires: time.Now().Add(time.Minute)}
	narrow := portmap.Claim{
		Origin: portmap.PCP, Expires: time.Now().Add(time.Hour),
		Filters: []portmap.Filter{{Prefix: netip.MustParsePrefix("203.0.113.9/32")}},
	}
	m := forward(1, open)
	m.Claims = append(m.Claims, narrow)
	path := newFiles(t, m)
	later := in(5 * time.Hour)
	write(t, path, fmt.Sprintf("TCP:3001:192.168.101.1:80:%d:\n", later))
	want := *m
	want.Claims = slices.Clone(m.Claims)
	want.Claims[1].Expires = time.Unix(later, 0)
	wantSame(t, load(t, New(Options{Path: path})), []*portmap.Mapping{&want})
}

// TestLoadMissing loads after files were removed or emptied.
func TestLoadMissing(t *testing.T) {
	v := sampleMappings()
	unlisted := []*portmap.Mapping{v[3], v[6]} // pinhole and PEER
	for _, c := range []struct {
		name   string
		change func(t *testing.T, path string)
		want   []*portmap.Mapping
	}{
		{"nothing", func(*testing.T, string) {}, v},
		{"touched", func(t *testing.T, path string) {
			if err := os.Chtimes(path, time.Time{}, time.Unix(86400, 0)); err != nil {
				t.Fatal(err)
			}
		}, v},
		{"lease file emptied", func(t *testing.T, path string) { write(t, path, "") }, unlisted},
		{"lease file removed", func(t *testing.T, path string) { os.Remove(path) }, unlisted},
		{"both removed", func(t *testing.T, path string) { os.Remove(path); os.Remove(path + stateSuffix) }, nil},
		{"left-overs of a crash", func(t *testing.T, path string) {
			write(t, path+tempSuffix, "TCP:1:10.0.0.1:1:0:half")
			write(t, path+stateSuffix+tempSuffix, "half")
		}, v},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := newFiles(t, v...)
			c.change(t, path)
			wantSame(t, load(t, New(Options{Path: path})), c.want)
			for _, name := range []string{path, path + stateSuffix} {
				if _, err := os.Stat(name + tempSuffix); err == nil {
					t.Errorf("%s is still there", name+tempSuffix)
				}
			}
		})
	}
}

// TestLoadDamaged loads a damaged state file. A mapping never loses its filters
// and stays.
func TestLoadDamaged(t *testing.T) {
	v := sampleMappings()
	damage := func(text string) string { // in the record of the second mapping
		i := strings.Index(text, `"ext":3002`)
		return text[:i] + "#" + text[i+1:]
	}
	for _, c := range []struct {
		name    string
		change  func(text string) string
		foreign bool // the lease file is changed as well
		want    []*portmap.Mapping
	}{
		{"half a line at the end", func(s string) string { return s + "0badcafe {\"put\":" }, false, v},
		{"last line cut", func(s string) string { return s[:len(s)-2] }, false, v},
		{"blocks of zeros at the end", func(s string) string { return s + strings.Repeat("\x00", 8192) }, false, v},
		{"a damaged record", damage, false, slices.Concat(v[:1], v[2:])},
		{"a damaged record, lease file changed", damage, true, slices.Concat(v[:1], v[2:3], v[4:6], v[3:4], v[6:])},
		{"first line damaged", func(s string) string { return "x" + s }, false, nil},
		{"lines of an older file at the end", func(s string) string {
			return s + "1c291ca3 {\"put\":{\"proto\":\"TCP\",\"ext\":1,\"int\":\"10.0.0.1:1\",\"made\":1,\"claims\":[{\"by\":\"UPnP\"}]}}\n"
		}, false, v},
		{"junk", func(string) string { return strings.Repeat("\xff\x00\n", 1000) }, false, nil},
		{"emptied", func(string) string { return "" }, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := newFiles(t, v...)
			write(t, path+stateSuffix, c.change(read(t, path+stateSuffix)))
			if c.foreign {
				write(t, path, read(t, path)+"\n")
			}
			s := New(Options{Path: path})
			got := load(t, s)
			wantSame(t, got, c.want)
			save(t, s, additions(got...)...)
			wantSame(t, load(t, New(Options{Path: path})), c.want)
			checkpoint(t, s)
			wantSame(t, load(t, New(Options{Path: path})), c.want)
		})
	}
}

// TestLoadInvalidLines bounds the cost of a lease file with arbitrary content.
func TestLoadInvalidLines(t *testing.T) {
	last := "\nTCP:80:10.0.0.1:80:0:good\n"
	for _, c := range []struct {
		name  string
		write func(t *testing.T, path string)
		want  int
	}{
		{"100,000 lines", func(t *testing.T, path string) {
			write(t, path, strings.Repeat("TCP:80000:10.0.0.1:80:0:x\n", 100_000)+last)
		}, 1},
		{"long lines", func(t *testing.T, path string) {
			write(t, path, strings.Repeat(strings.Repeat("TCP:80:10.0.0.1:80:0:", 1000)+"\n", 100)+last)
		}, 1},
		{"one long line", func(t *testing.T, path string) {
			write(t, path, strings.Repeat("x", 4<<20)+last)
		}, 1},
		{"a gigabyte of zeros", func(t *testing.T, path string) {
			write(t, path, "TCP:80:10.0.0.1:80:0:good\n")
			if err := os.Truncate(path, 1<<30); err != nil {
				t.Fatal(err)
			}
		}, 1},
		{"a gigabyte of zeros in both files", func(t *testing.T, path string) {
			for _, name := range []string{path, path + stateSuffix} {
				write(t, name, "")
				if err := os.Truncate(name, 1<<30); err != nil {
					t.Fatal(err)
				}
			}
		}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := leasePath(t)
			c.write(t, path)
			s, log := logged(path)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got := load(t, s)
			runtime.ReadMemStats(&after)
			if len(got) != c.want {
				t.Errorf("%d mappings, want %d", len(got), c.want)
			}
			if n := strings.Count(log.String(), "\n"); n < 1 || n > 2 {
				t.Errorf("%d log lines:\n%s", n, log)
			}
			if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 32<<20 {
				t.Errorf("heap grew by %d bytes", grown)
			}
			save(t, s, additions(got...)...)
			checkpoint(t, s)
			wantSame(t, load(t, New(Options{Path: path})), got)
		})
	}
}

// TestLoadExpired logs a few of many expired leases and counts the rest.
func TestLoadExpired(t *testing.T) {
	path := leasePath(t)
	var b strings.Builder
	for port := range 1000 {
		fmt.Fprintf(&b, "UDP:%d:192.168.101.20:80:%d:\n", port+1, in(-time.Hour))
	}
	write(t, path, b.String())
	s, log := logged(path)
	wantSame(t, load(t, s), nil)
	if n := strings.Count(log.String(), "\n"); n != namedExpired+1 || !strings.Contains(log.String(), "990 more") {
		t.Errorf("%d log lines:\n%s", n, log)
	}
	save(t, s)
	checkpoint(t, s)
	if text := read(t, path); text != "" {
		t.Errorf("lease file still has %q", text)
	}
}

// TestLoadClaims drops the expired claims and keeps a mapping that has another
// one.
func TestLoadClaims(t *testing.T) {
	m := forward(1, portmap.Claim{Origin: portmap.NATPMP, Expires: time.Now().Add(-time.Second)})
	m.Claims = append(m.Claims, portmap.Claim{Origin: portmap.UPnP, Description: "lives"})
	gone := forward(2, portmap.Claim{Origin: portmap.NATPMP, Expires: time.Now().Add(-time.Second)})
	path := newFiles(t, m, gone)
	want := *m
	want.Claims = m.Claims[1:]
	s := New(Options{Path: path})
	got := load(t, s)
	wantSame(t, got, []*portmap.Mapping{&want})
	save(t, s, additions(got...)...)
	checkpoint(t, s)
	if text := read(t, path); text != "TCP:3001:192.168.101.1:80:0:lives\n" {
		t.Errorf("lease file has %q", text)
	}
}

// TestLinks follows symbolic links and does not replace them.
func TestLinks(t *testing.T) {
	v := sampleMappings()
	for _, c := range []struct {
		name, link, to string // relative to the directory
	}{
		{"to a file", "upnp.leases", "kd/there"},
		{"dangling", "upnp.leases", "kd/not-yet"},
		{"relative, in another directory", "var/upnp.leases", "../kd/there"},
		{"to a link", "upnp.leases", "kd/link"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, sub := range []string{"kd", "var"} {
				if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			write(t, filepath.Join(dir, "kd/there"), "TCP:80:10.0.0.1:80:0:\n")
			if err := os.Symlink("last", filepath.Join(dir, "kd/link")); err != nil {
				t.Fatal(err)
			}
			link := filepath.Join(dir, c.link)
			if err := os.Symlink(c.to, link); err != nil {
				t.Fatal(err)
			}
			s := opened(t, link)
			save(t, s, additions(v...)...)
			checkpoint(t, s)
			if to, err := os.Readlink(link); err != nil || to != c.to {
				t.Errorf("link leads to %q, %v, want %q", to, err, c.to)
			}
			target, err := filepath.EvalSymlinks(link)
			if err != nil {
				t.Fatal(err)
			}
			if filepath.Base(filepath.Dir(target)) != "kd" || !strings.Contains(read(t, target), "TCP:3001:") {
				t.Errorf("%s has %q", target, read(t, target))
			}
			if _, err := os.Stat(target + stateSuffix); err != nil {
				t.Errorf("the state file is not beside it: %v", err)
			}
			if got := load(t, New(Options{Path: link})); len(got) < len(v) {
				t.Errorf("%d mappings, want %d and more", len(got), len(v))
			}
		})
	}
}

// TestMoved changes the link while the store runs: the new target gets all
// mappings.
func TestMoved(t *testing.T) {
	v := sampleMappings()
	dir := t.TempDir()
	link := filepath.Join(dir, "upnp.leases")
	if err := os.Symlink("first", link); err != nil {
		t.Fatal(err)
	}
	s := opened(t, link)
	save(t, s, additions(v[:3]...)...)
	checkpoint(t, s)
	os.Remove(link)
	if err := os.Symlink("second", link); err != nil {
		t.Fatal(err)
	}
	save(t, s, additions(v[3:]...)...)
	checkpoint(t, s)
	wantSame(t, load(t, New(Options{Path: filepath.Join(dir, "second")})), v)
}

// TestRemovedWhileRunning removes both files: the store writes them again in
// full.
func TestRemovedWhileRunning(t *testing.T) {
	v := sampleMappings()
	path := leasePath(t)
	s := opened(t, path)
	save(t, s, additions(v[:3]...)...)
	checkpoint(t, s)
	os.Remove(path)
	os.Remove(path + stateSuffix)
	save(t, s, additions(v[3:]...)...)
	checkpoint(t, s)
	wantSame(t, load(t, New(Options{Path: path})), v)
}

// TestNotAFile has something else than a regular file, which the store neither
// waits for nor replaces.
func TestNotAFile(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(path string) error
	}{
		{"directory", func(path string) error { return os.Mkdir(path, 0o755) }},
		{"pipe", func(path string) error { return syscall.Mkfifo(path, 0o644) }},
		{"device", func(path string) error { return syscall.Mknod(path, syscall.S_IFCHR|0o644, 1<<8|3) }},
		{"link to itself", func(path string) error { return os.Symlink(filepath.Base(path), path) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "device" {
				netlab.NeedRoot(t, "mknod")
			}
			path := leasePath(t)
			if err := c.make(path); err != nil {
				t.Fatal(err)
			}
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			s := New(Options{Path: path})
			if _, err := s.Load(); err == nil {
				t.Error("it was read")
			}
			s.Save(additions(sampleMappings()...))
			if err := s.Checkpoint(); err == nil {
				t.Error("it was written")
			}
			if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
				t.Errorf("it was replaced: %v, %v", after, err)
			}
		})
	}
}

func FuzzJournalEntry(f *testing.F) {
	var head []byte
	for _, m := range sampleMappings() {
		text, err := entry{Put: recordOf(m, clockReading{mono: m.Created, unix: 1_795_338_444_000})}.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	head = append(head, `{"mark":{"format":1,"at":1795338444000,"lease":[{"size":0,"sum":0},{"size":70,"sum":1234}]}}`...)
	f.Add(head)
	f.Add([]byte(`{"drop":{"proto":"TCP","ext":80}}`))
	f.Add([]byte(`{"drop":{"proto":"UDP","pinhole":"[2001:db8::1]:80"}}`))
	f.Add([]byte(`{"put":{"proto":"TCP","ext":80,"int":"[::ffff:10.0.0.1]:80","made":-9223372036854775808,"claims":[{"by":"PCP","until":9223372036854775807}]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := decodeEntry(text)
		if err != nil || e.Put == nil {
			return
		}
		now := clockReading{mono: time.Now(), unix: 1_795_338_444_000}
		m, err := e.Put.mapping(now)
		if err != nil {
			return
		}
		first, err := entry{Put: recordOf(m, now)}.encode()
		if err != nil {
			return
		}
		again, err := decodeEntry(first)
		if err != nil {
			t.Fatalf("%s cannot be decoded: %v", first, err)
		}
		n, err := again.Put.mapping(now)
		if err != nil {
			t.Fatalf("%s is not a mapping: %v", first, err)
		}
		if second, _ := (entry{Put: recordOf(n, now)}).encode(); string(first) != string(second) {
			t.Fatalf("%s becomes %s", first, second)
		}
	})
}

// TestHardwareAddressMayBeMissing reads records without a hardware address, as
// older versions wrote them, or with an invalid one.
func TestHardwareAddressMayBeMissing(t *testing.T) {
	const record = `{"put":{"proto":"TCP","pinhole":"[2001:db8::20]:8080","made":1%s,"claims":[{"by":"PCP"}]}}`
	for member, want := range map[string]string{
		``: "", `,"mac":"52:54:00:12:34:56"`: "52:54:00:12:34:56", `,"mac":"nonsense"`: "", `,"later":[1]`: "",
	} {
		e, err := decodeEntry(fmt.Appendf(nil, record, member))
		if err != nil {
			t.Fatalf("%q: %v", member, err)
		}
		m, err := e.Put.mapping(clockReading{mono: time.Now()})
		if err != nil || m.Host.Hardware != want {
			t.Errorf("%q: %+v, %v", member, m, err)
		}
	}
}
