package daemon_test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
)

// runs are the programs of iptables that a daemon has started.
type runs struct {
	r     *rig
	lines []string // name and arguments of each
}

// record has every start of a program of iptables recorded from now on.
func (r *rig) record(t testing.TB) *runs {
	t.Helper()
	for _, family := range []string{"iptables", "ip6tables"} {
		for _, part := range []string{"", "-save", "-restore"} {
			real := "/usr/sbin/" + family + "-" + r.variant + part
			r.stub(t, family+part, fmt.Sprintf(`echo "%s $*" >>%s; exec %s "$@"`, family+part, r.path("runs"), real))
		}
	}
	return &runs{r: r}
}

// forget forgets the runs up to now.
func (rec *runs) forget(t testing.TB) {
	t.Helper()
	if err := os.WriteFile(rec.r.path("runs"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// await waits until each family has been listed so many times, and then for what
// must not come.
func (rec *runs) await(t testing.TB, lists int) {
	t.Helper()
	read := func() bool {
		text, err := os.ReadFile(rec.r.path("runs"))
		if err != nil {
			t.Fatal(err)
		}
		rec.lines = strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' })
		return rec.count("iptables-save", "") >= lists && rec.count("ip6tables-save", "") >= lists
	}
	await(t, "the looks at both families", read)
	time.Sleep(8 * hush) // longer than the wait for a look after own work
	read()
}

// count returns how many lines begin so and contain a text.
func (rec *runs) count(prefix, part string) (n int) {
	for _, line := range rec.lines {
		if strings.HasPrefix(line, prefix) && strings.Contains(line, part) {
			n++
		}
	}
	return n
}

// demand demands at most so many probes of each family, and exactly so many lists
// of its tables, and nothing else but edits.
func (rec *runs) demand(t testing.TB, when string, probes, lists, edits int) {
	t.Helper()
	rec.await(t, lists)
	for _, family := range []string{"iptables", "ip6tables"} {
		asked, listed := rec.count(family+" ", "--version"), rec.count(family+"-save", "")
		if asked > probes || listed != lists {
			t.Errorf("%s: %s was asked %d times and listed %d times; want %d and %d", when, family, asked, listed, probes, lists)
		}
	}
	all := len(rec.lines) - rec.count("iptables ", "--version") - rec.count("ip6tables ", "--version") -
		rec.count("iptables-save", "") - rec.count("ip6tables-save", "")
	if all != edits {
		t.Errorf("%s: %d commands and transactions, want %d", when, all, edits)
	}
	if t.Failed() {
		t.Logf("%s: %q", when, rec.lines)
	}
	rec.forget(t)
}

// TestProcesses counts the programs that the daemon starts: the tables are listed
// once at the start, once again when notices are read, and once for each change by
// another program.
func TestProcesses(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{IPv6: true})
		r.installed()
		rec := r.record(t)
		r.start(t, "ipv6=yes")
		rec.demand(t, "a start on an empty router", 2, 2, 6) // go-iptables asks for itself
		r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
		rec.demand(t, "a mapping", 0, 0, 1)
		r.kill(syscall.SIGUSR2)
		await(t, "the end of the daemon", func() bool { return r.pid() == 0 })
		rec.forget(t)
		if out, err := r.launch(); err != nil {
			t.Fatalf("the daemon does not start again: %v: %s", err, out)
		}
		rec.demand(t, "a restart with everything in place", 1, 2, 0)
		r.ipt(t, "-S")
		touched := map[string]int{"legacy": 1, "nft": 0}[variant] // looks after what has changed nothing
		rec.demand(t, "a listing by another program", 0, touched, 0)
		for range 3 {
			r.ipt(t, "-A", "INPUT", "-j", "ACCEPT")
			rec.demand(t, "a rule of another program", 0, 1, 0)
		}
	})
}

// TestProcessesOfTheChoice counts them where the settings leave IPv6 to the daemon: the
// tables that it lists for the choice are those that it starts with.
func TestProcessesOfTheChoice(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{IPv6: true})
		r.installed()
		r.ip6t(t, "-A", "FORWARD", "-j", "ACCEPT")
		rec := r.record(t)
		r.start(t)
		rec.demand(t, "a start beside a firewall", 2, 2, 6)
	})
}
