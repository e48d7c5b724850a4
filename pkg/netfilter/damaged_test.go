package netfilter_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"igdd/pkg/portmap"
)

// replaceRecord replaces a record by something else.
func replaceRecord(make func(path string) error) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		t.Helper()
		must(t, errors.Join(os.Remove(path), make(path)))
	}
}

// rewriteRecord changes the text of a record.
func rewriteRecord(change func([]byte) []byte) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		t.Helper()
		text, err := os.ReadFile(path)
		must(t, err)
		must(t, os.WriteFile(path, change(text), 0o644))
	}
}

// TestClosingWithoutRecord closes the ports of an earlier process whose record cannot be
// read: it says so, and keeps the chains and jumps, which may be the firewall's.
func TestClosingWithoutRecord(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage func(t *testing.T, path string)
		want   string // in the error
		stays  bool   // what is in the record's place
	}{
		"empty":      {rewriteRecord(func([]byte) []byte { return nil }), "damaged", false},
		"half":       {rewriteRecord(func(b []byte) []byte { return b[:len(b)/2] }), "damaged", false},
		"whole line": {rewriteRecord(func(b []byte) []byte { return b[:bytes.LastIndexByte(b[:len(b)-1], '\n')+1] }), "damaged", false},
		"zeros":      {rewriteRecord(func(b []byte) []byte { return make([]byte, len(b)) }), "damaged", false},
		"garbage":    {rewriteRecord(func([]byte) []byte { return []byte("\xff\xfe garbage\n") }), "damaged", false},
		"folder":     {replaceRecord(func(path string) error { return os.Mkdir(path, 0o755) }), "not a regular file: remove it", true},
		"pipe":       {replaceRecord(func(path string) error { return syscall.Mkfifo(path, 0o644) }), "not a regular file: remove it", true},
		"link":       {replaceRecord(func(path string) error { return os.Symlink("nothing", path) }), "not a regular file: remove it", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachVariant(t, func(t *testing.T, r *router) {
				o := recorded(t)
				f := r.firewall(t, o)
				must(t, f.Setup())
				must(t, f.Sync(some()))
				c.damage(t, o.OwnershipFile)
				err := r.takeDown(t.Context(), o)
				if err == nil || !strings.Contains(err.Error(), c.want) ||
					!strings.Contains(err.Error(), "run: iptables -t nat -D PREROUTING -i wan0 -j MINIUPNPD; iptables -t nat -X MINIUPNPD; ") {
					t.Errorf("error is %v, want %q and the commands", err, c.want)
				}
				wantRules(t, r, "*iptables nat\n:MINIUPNPD\n:MINIUPNPD-PEER\n-A PREROUTING -i wan0 -j MINIUPNPD\n-A POSTROUTING -o wan0 -j MINIUPNPD-PEER\n"+
					"*iptables filter\n:MINIUPNPD\n-A FORWARD -i wan0 ! -o wan0 -j MINIUPNPD\n*ip6tables filter\n:MINIUPNPD\n-A FORWARD -i wan0 ! -o wan0 -j MINIUPNPD\n")
				if _, err := os.Lstat(o.OwnershipFile); (err == nil) != c.stays {
					t.Errorf("the record is %v, stays: %v", err, c.stays)
				}
			})
		})
	}
}

// TestClosingKeepsForeignRules has a rule in the daemon's chain that it does not make:
// the chain stays as it is, and the others are closed.
func TestClosingKeepsForeignRules(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		o := recorded(t)
		f := r.firewall(t, o)
		must(t, f.Setup())
		must(t, f.Sync(some()))
		r.iptables(t, "-A MINIUPNPD -s 192.0.2.0/24 -j DROP")
		must(t, os.WriteFile(o.OwnershipFile, nil, 0o644))
		err := r.takeDown(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), "run iptables -t filter -F MINIUPNPD to close its ports") {
			t.Errorf("error is %v", err)
		}
		wantClosed(t, r, "iptables", "nat", true)
		wantClosed(t, r, "ip6tables", "filter", true)
		wantClosed(t, r, "iptables", "filter", false)
		if _, err := os.Lstat(o.OwnershipFile); err != nil {
			t.Errorf("the record is gone though ports are open: %v", err)
		}
	})
}

// TestStartAfterDamagedRecord starts with a damaged record: the log says so, and the
// service works and writes a whole one.
func TestStartAfterDamagedRecord(t *testing.T) {
	t.Parallel()
	r := newRouter(t, "legacy")
	o := recorded(t)
	var log strings.Builder
	o.Log = logTo(&log)
	must(t, os.WriteFile(o.OwnershipFile, nil, 0o644))
	f := r.firewall(t, o)
	if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), "damaged") {
		t.Errorf("log is %s", &log)
	}
	must(t, f.Setup())
	must(t, f.Apply(open(mapping(portmap.TCP, 1, "192.168.50.10:1"))))
	must(t, r.takeDown(t.Context(), o))
	wantRules(t, r, nothing)
	wantNoRecord(t, o.OwnershipFile)
}
