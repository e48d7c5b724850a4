package netfilter_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"igdd/pkg/netfilter"
	"igdd/pkg/portmap"
)

// takeDown does what a process does that cannot serve.
func (g nsFirewall) takeDown(ctx context.Context, o netfilter.Options) error {
	return g.router.takeDown(ctx, o)
}

func (r *router) takeDown(ctx context.Context, o netfilter.Options) error {
	return r.Do(func() error { return netfilter.RemoveRecorded(ctx, o) })
}

func wantNoRecord(t *testing.T, path string) {
	t.Helper()
	if text, err := os.ReadFile(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the record outlives what it names: %q, %v", text, err)
	}
}

// recorded are options with a record.
func recorded(t *testing.T) netfilter.Options {
	o := options(t)
	o.OwnershipFile = filepath.Join(t.TempDir(), "record")
	return o
}

// wantClosed demands that a table lets nothing in, or does if it is not closed.
func wantClosed(t *testing.T, r *router, tool, table string, closed bool) {
	t.Helper()
	all := strings.Join(r.saved(t, tool, table), "\n")
	if got := !strings.Contains(all, "-j DNAT") && !strings.Contains(all, "-j ACCEPT"); got != closed {
		t.Errorf("%s, table %s: closed %v, want %v:\n%s", tool, table, got, closed, all)
	}
}

// A chain that another program's rule jumps to cannot be removed: it stays,
// empty, and nothing else does.
func TestTeardownWithForeignJump(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		o := recorded(t)
		f := r.firewall(t, o)
		must(t, f.Setup())
		must(t, f.Sync(some()))
		foreign := []string{"-t nat -N zone_wan_prerouting", "-t nat -A zone_wan_prerouting -j MINIUPNPD"}
		r.iptables(t, foreign...)
		must(t, f.Teardown())
		want := "*iptables nat\n:MINIUPNPD\n:zone_wan_prerouting\n-A zone_wan_prerouting -j MINIUPNPD\n*iptables filter\n*ip6tables filter\n"
		wantRules(t, r, want)
		wantNoRecord(t, o.OwnershipFile)
		next := r.firewall(t, o)
		must(t, next.Setup())
		must(t, next.Sync(some()))
		must(t, r.takeDown(t.Context(), o)) // after a crash
		wantRules(t, r, want)
		wantNoRecord(t, o.OwnershipFile)
	})
}

// One program that fails, or hangs, keeps nothing open but what it alone could
// close; and that is closed as soon as it works.
func TestEachTableIsClosedByItself(t *testing.T) {
	t.Parallel()
	const nat, filter, filter6 = "iptables nat", "iptables filter", "ip6tables filter"
	for _, tt := range []struct {
		name, program, script string
		open                  []string // what stays open
	}{
		{"nat cannot be listed", "iptables-save", `case "$*" in *nat*) echo broken >&2; exit 1;; esac; exec $real "$@"`, []string{nat}},
		{"filter cannot be listed in time", "iptables-save", `case "$*" in *filter*) sleep 1000;; esac; exec $real "$@"`, []string{filter}},
		{"nat is refused", "iptables-restore", `text=$(cat); case $text in *"*nat"*) exit 2;; esac; echo "$text" | $real "$@"`, []string{nat}},
		{"nat cannot be written in time", "iptables-restore", `text=$(cat); case $text in *"*nat"*) sleep 1000;; esac; echo "$text" | $real "$@"`, []string{nat}},
		{"IPv4 hangs", "iptables-restore", `sleep 1000`, []string{nat, filter}},
		{"IPv6 fails", "ip6tables-restore", `exit 1`, []string{filter6}},
		{"IPv6 hangs", "ip6tables-save", `sleep 1000`, []string{filter6}},
		{"chains cannot be removed", "iptables-restore", `text=$(cat); case $text in *-X*) exit 2;; esac; echo "$text" | $real "$@"`, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			eachVariant(t, func(t *testing.T, r *router) {
				o := recorded(t)
				f := r.firewall(t, o)
				must(t, f.Setup())
				must(t, f.Sync(some()))
				r.stub(t, tt.program, tt.script+"\n")
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				if err := f.teardown(ctx); err == nil {
					t.Error("no error")
				}
				must(t, os.Rename(filepath.Join(r.tools, "real", tt.program), filepath.Join(r.tools, tt.program)))
				for _, table := range []string{nat, filter, filter6} {
					tool, name, _ := strings.Cut(table, " ")
					wantClosed(t, r, tool, name, !strings.Contains(strings.Join(tt.open, ","), table))
				}
				must(t, r.takeDown(t.Context(), o))
				wantRules(t, r, nothing)
				wantNoRecord(t, o.OwnershipFile)
			})
		})
	}
}

// TestTeardownTriesAgain has the firewall's script take our jump away between
// the look and the commit, which is refused then.
func TestTeardownTriesAgain(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		f := r.firewall(t, options(t))
		must(t, f.Setup())
		must(t, f.Sync(some()))
		once := filepath.Join(t.TempDir(), "once")
		r.stub(t, "iptables-restore", `text=$(cat)
case $text in *"*nat"*) mkdir `+once+` 2>/dev/null && `+r.tools+`/iptables -t nat -F PREROUTING;; esac
echo "$text" | $real "$@"
`)
		must(t, f.Teardown())
		wantRules(t, r, nothing)
		if _, err := os.Stat(once); err != nil {
			t.Errorf("nothing came between: %v", err)
		}
	})
}

// TestTeardownEndsWithItsContext has a process hold the xtables lock, which is
// legacy's alone, for longer than there is time.
func TestTeardownEndsWithItsContext(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		o := recorded(t)
		f := r.firewall(t, o)
		must(t, f.Setup())
		must(t, f.Sync(some()))
		before := r.rules(t)
		release := r.hold(t)
		nft := strings.HasSuffix(t.Name(), "nft")
		limit := 800 * time.Millisecond
		if nft { // the lock does not matter
			limit = time.Minute
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		err := f.teardown(ctx)
		if !locked(t, r.lock) {
			t.Error("the teardown waited for the lock, not for its context")
		}
		if nft {
			must(t, err)
			wantRules(t, r, nothing)
			release()
			return
		}
		if err == nil || ctx.Err() == nil {
			t.Errorf("%v, with time left: %v", err, ctx.Err() == nil)
		}
		wantRules(t, r, before)
		release()
		must(t, r.takeDown(t.Context(), o))
		wantRules(t, r, nothing)
		wantNoRecord(t, o.OwnershipFile)
	})
}

// hold takes the xtables lock until the function that it returns is called.
func (r *router) hold(t *testing.T) (release func()) {
	t.Helper()
	cmd := exec.Command("flock", r.lock, "cat")
	in, err := cmd.StdinPipe()
	must(t, err)
	must(t, cmd.Start())
	eventually(t, "the lock is held", func() bool { return locked(t, r.lock) })
	release = func() { in.Close(); cmd.Wait() }
	t.Cleanup(release)
	return release
}

// Whatever other work is under way, a stop does not wait for it longer than
// its context.
func TestTeardownDoesNotWaitForOthers(t *testing.T) {
	t.Parallel()
	r := newRouter(t, "legacy")
	f := r.firewall(t, options(t))
	must(t, f.Setup())
	done := f.Busy()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := f.teardown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("beside other work: %v", err)
	}
	done()
	must(t, f.Teardown())
	wantRules(t, r, nothing)
}

func TestTakeDownWithoutRecord(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // there is nothing to run
	o := recorded(t)
	must(t, netfilter.RemoveRecorded(t.Context(), o))
	must(t, netfilter.RemoveRecorded(t.Context(), options(t)))
	must(t, os.WriteFile(o.OwnershipFile, []byte("c0ffee00-1d1d-4b1d-8000-000000000000\nformat 2\niptables nat MINIUPNPD\n"), 0o644))
	must(t, netfilter.RemoveRecorded(t.Context(), o))
}

// A stopped firewall has taken everything with it.
func TestTeardownWhileAIFIsStopped(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		r.iptables(t, aifStart...)
		o := recorded(t)
		f := r.firewall(t, o)
		must(t, f.Setup())
		must(t, f.Sync(some()))
		r.iptables(t, aifStop...)
		if ok, err := f.Healthy(); ok || !errors.Is(err, netfilter.ErrStopped) {
			t.Errorf("healthy: %v, %v", ok, err)
		}
		must(t, f.Teardown())
		wantRules(t, r, nothing)
		wantNoRecord(t, o.OwnershipFile)
	})
}

// What the settings have no place for any more goes at the start.
func TestSetupClearsWhatIsLeft(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		before []string
		change func(*netfilter.Options)
		want   string
	}{
		{"chains renamed", nil, func(o *netfilter.Options) { o.NATChain, o.ForwardChain = "UPnP", "forwardUPnP" },
			"*iptables nat\n:UPnP\n-A PREROUTING -i wan0 -j UPnP\n*iptables filter\n:forwardUPnP\n-A FORWARD -i wan0 ! -o wan0 -j forwardUPnP\n" +
				"*ip6tables filter\n:forwardUPnP\n-A FORWARD -i wan0 ! -o wan0 -j forwardUPnP\n"},
		{"one chain renamed, others' chain", []string{"-N MINIUPNPD", "-N zone", "-A zone -j MINIUPNPD", "-A FORWARD -j zone"},
			func(o *netfilter.Options) { o.ForwardChain, o.IPv6 = "F", false },
			natHead + "*iptables filter\n:F\n:MINIUPNPD\n:zone\n-A zone -j MINIUPNPD\n-A FORWARD -j zone\n-A FORWARD -i wan0 ! -o wan0 -j F\n*ip6tables filter\n"},
		{"another uplink", nil, func(o *netfilter.Options) { o.WAN, o.WAN6 = []string{"ppp0"}, []string{"ppp0"} },
			strings.ReplaceAll(natHead+filterHead+filter6Head, "wan0", "ppp0")},
		{"IPv6 off", nil, func(o *netfilter.Options) { o.IPv6 = false }, natHead + filterHead + "*ip6tables filter\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachVariant(t, func(t *testing.T, r *router) {
				r.iptables(t, tt.before...)
				o := recorded(t)
				f := r.firewall(t, o)
				must(t, f.Setup())
				must(t, f.Apply(open(some()[0], some()[2])))
				tt.change(&o)
				next := r.firewall(t, o)
				must(t, next.Setup())
				must(t, next.Sync(nil))
				wantRules(t, r, tt.want)
				wantHealthy(t, next)
				must(t, next.Teardown())
				wantNoRecord(t, o.OwnershipFile)
			})
		})
	}
}

// Pinholes that are in no record do not stay open either.
func TestWithoutIPv6NoPinholeStays(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		f := r.firewall(t, options(t)) // without a record
		must(t, f.Setup())
		must(t, f.Apply(open(some()[0], some()[2])))
		r.run(t, "ip6tables", "-A", "FORWARD", "-i", "lan0", "-j", "ACCEPT")
		o := recorded(t)
		o.IPv6 = false
		next := r.firewall(t, o)
		must(t, next.Setup())
		if next.Pinholes() {
			t.Error("there are pinholes")
		}
		if left := strings.Join(r.saved(t, "ip6tables", "filter"), "\n"); strings.Contains(left, "2001:db8") || !strings.Contains(left, "-A FORWARD -i lan0 -j ACCEPT") {
			t.Errorf("left in ip6tables:\n%s", left)
		}
		must(t, next.Teardown())
	})
}

func TestIPv6OffWhereThereIsNone(t *testing.T) {
	t.Parallel()
	for _, script := range []string{"exit 3", "rm -f $0; exit 1"} {
		r := newRouter(t, "legacy")
		var log strings.Builder
		o := recorded(t)
		o.IPv6, o.Log = false, logTo(&log)
		for _, program := range []string{"ip6tables", "ip6tables-save", "ip6tables-restore"} {
			r.stub(t, program, script+"\n")
		}
		f := r.firewall(t, o)
		must(t, f.Setup())
		must(t, f.Apply(open(mapping(portmap.TCP, 1, "192.168.50.10:1"))))
		wantHealthy(t, f)
		must(t, f.Teardown())
		if n := strings.Count(log.String(), "\n"); n > 1 || strings.Contains(log.String(), "WARN") {
			t.Errorf("the log has %d lines:\n%s", n, log.String())
		}
	}
}
