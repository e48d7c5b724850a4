package netfilter_test

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"igdd/pkg/portmap"
)

// TestOwnershipRecord has a firewall remove the chains that an earlier one
// created and did not remove, unless it cannot be sure of that.
func TestOwnershipRecord(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what   string
		happen func(record string) error
		stay   bool
	}{
		{"nothing", func(string) error { return nil }, false},
		{"a boot, after which another program made them", func(record string) error {
			text, err := os.ReadFile(record)
			if err != nil {
				return err
			}
			_, chains, _ := strings.Cut(string(text), "\n")
			return os.WriteFile(record, []byte("c0ffee00-1d1d-4b1d-8000-000000000000\n"+chains), 0o644)
		}, true},
		{"the record is lost", os.Remove, true},
		{"the record is junk", func(record string) error { return os.WriteFile(record, []byte("iptables nat MINIUPNPD"), 0o644) }, true},
		{"it is of an older version", older, false},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			r := newRouter(t, "legacy")
			o := options(t)
			o.OwnershipFile = filepath.Join(t.TempDir(), "chains")
			must(t, r.firewall(t, o).Setup())
			must(t, tt.happen(o.OwnershipFile))
			next := r.firewall(t, o)
			must(t, next.Setup())
			must(t, next.Teardown())
			if stay := strings.Contains(r.rules(t), "MINIUPNPD"); stay != tt.stay {
				t.Errorf("the chains are there: %v, want %v", stay, tt.stay)
			}
			if _, err := os.Stat(o.OwnershipFile); !tt.stay && err == nil {
				t.Error("the record outlives the chains")
			}
		})
	}
}

// older makes a record as a version would that knew of chains alone.
func older(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	lines := slices.DeleteFunc(strings.SplitAfter(string(text), "\n"), func(line string) bool {
		return strings.HasPrefix(line, "format") || strings.HasPrefix(line, "crc32") || strings.Contains(line, " -")
	})
	return os.WriteFile(path, []byte(strings.Join(lines, "")), 0o644)
}

func TestTakeDownByAnOlderRecord(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		o := recorded(t)
		f := r.firewall(t, o)
		must(t, f.Setup())
		must(t, f.Sync(some()))
		must(t, older(o.OwnershipFile))
		must(t, r.takeDown(t.Context(), o))
		wantRules(t, r, nothing)
		wantNoRecord(t, o.OwnershipFile)
	})
}

func TestRecordNamesAllThatIsOurs(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		r.iptables(t, "-t nat -N MINIUPNPD", "-t nat -N MINIUPNPD-POSTROUTING")
		o := recorded(t)
		f := r.firewall(t, o)
		must(t, f.Setup())
		text, err := os.ReadFile(o.OwnershipFile)
		must(t, err)
		_, got, _ := strings.Cut(string(text), "\n")
		const want = `format 2
crc32 3d265715
iptables nat -F MINIUPNPD
iptables nat -F MINIUPNPD-POSTROUTING
iptables nat -D PREROUTING -i wan0 -j MINIUPNPD
iptables filter MINIUPNPD
iptables filter -D FORWARD -i wan0 ! -o wan0 -j MINIUPNPD
ip6tables filter MINIUPNPD
ip6tables filter -D FORWARD -i wan0 ! -o wan0 -j MINIUPNPD
`
		if got != want {
			t.Errorf("the record is\n%s\nwant\n%s", got, want)
		}
		must(t, f.Teardown())
		wantRules(t, r, "*iptables nat\n:MINIUPNPD\n:MINIUPNPD-POSTROUTING\n*iptables filter\n*ip6tables filter\n")
		wantNoRecord(t, o.OwnershipFile)
	})
}

// TestRecordIsWrittenFirst keeps a copy of the record as it is when a program
// is about to make something.
func TestRecordIsWrittenFirst(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		o := recorded(t)
		unknown := filepath.Join(t.TempDir(), "unknown")
		check := `known() { grep -qxF -e "$1" ` + o.OwnershipFile + ` || echo "$1" >>` + unknown + `; }` + "\n"
		r.stub(t, "iptables", check+`case "$*" in
"-t nat -N "*) known "iptables nat $4" ;;
"-t nat -A "*) known "iptables nat -D $4 $5 $6 $7 $8" ;;
esac
exec $real "$@"
`)
		r.stub(t, "iptables-restore", check+`[ -t 1 ] && exit 1 # one process for each transaction
text=$(cat)
case $text in *:MINIUPNPD\ *) known "iptables filter MINIUPNPD"; known "iptables filter -D FORWARD -i wan0 ! -o wan0 -j MINIUPNPD" ;; esac
echo "$text" | $real "$@"
`)
		for _, begin := range []func(nsFirewall) error{nsFirewall.Setup, func(f nsFirewall) error { return f.Sync(some()) }} {
			f := r.firewall(t, o)
			must(t, begin(f))
			if text, err := os.ReadFile(unknown); err == nil {
				t.Errorf("made, and not recorded before:\n%s", text)
			}
			must(t, f.Teardown())
			wantRules(t, r, nothing)
		}
	})
}

func logTo(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// A record that cannot be written is told once, and written when it can be.
func TestRecordThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	r := newRouter(t, "legacy")
	var log strings.Builder
	o := recorded(t)
	dir := filepath.Join(filepath.Dir(o.OwnershipFile), "missing")
	o.OwnershipFile, o.Log = filepath.Join(dir, "record"), logTo(&log)
	f := r.firewall(t, o)
	must(t, f.Setup())
	must(t, f.Apply(open(mapping(portmap.TCP, 1, "192.168.50.10:1"))))
	if n := strings.Count(log.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings:\n%s", n, log.String())
	}
	must(t, os.Mkdir(dir, 0o755))
	must(t, f.Sync([]*portmap.Mapping{mapping(portmap.TCP, 1, "192.168.50.10:1")}))
	must(t, r.takeDown(t.Context(), o))
	wantRules(t, r, nothing)
	wantNoRecord(t, o.OwnershipFile)
}
