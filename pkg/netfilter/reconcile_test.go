package netfilter_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"igdd/pkg/netfilter"
	"igdd/pkg/portmap"
)

// logged are the options of a firewall whose log lines are kept: level and
// message.
func logged(t testing.TB, o netfilter.Options) (netfilter.Options, *lines) {
	t.Helper()
	kept := new(lines)
	o.Log = slog.New(slog.NewTextHandler(kept, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	o.Repaired = func(f portmap.Family) { o.Log.Warn("restored missing chains or rules", "family", f) }
	return o, kept
}

// lines are log lines.
type lines struct{ all []string }

func (l *lines) Write(p []byte) (int, error) {
	l.all = append(l.all, string(p))
	return len(p), nil
}

// demand demands that the lines since the last call have these parts, one each.
func (l *lines) demand(t testing.TB, when string, parts ...string) {
	t.Helper()
	same := len(l.all) == len(parts)
	for i := 0; same && i < len(parts); i++ {
		same = strings.Contains(l.all[i], parts[i])
	}
	if !same {
		t.Errorf("%s: logged %q, want %q", when, l.all, parts)
	}
	l.all = nil
}

// look has the reconciler look at the IPv4 tables, whenever it would.
func (g nsFirewall) look() {
	g.router.Do(func() error { g.Look(context.Background()); return nil })
}

// force carries out changes of IPv4 that are in force.
func (g nsFirewall) force(changes []portmap.Change) {
	g.router.Do(func() error { g.Force(context.Background(), changes); return nil })
}

// refuses has the kernel refuse rules, for as long as the file exists that it
// returns: lines for iptables-restore that match a pattern of grep. Each process
// leaves a line in the other file.
func (r *router) refuses(t testing.TB, pattern string) (refusing, runs string) {
	t.Helper()
	refusing, runs = filepath.Join(r.tools, "refusing"), filepath.Join(r.tools, "runs")
	r.stub(t, "iptables-restore", `echo run >>`+runs+`
[ -t 1 ] && exit 1
input=$(mktemp); cat >$input
if [ -e `+refusing+` ] && grep -q -e '`+pattern+`' $input; then
	echo "iptables-restore: line $(wc -l <$input) failed" >&2; rm $input; exit 1
fi
$real "$@" <$input; status=$?; rm $input; exit $status
`)
	must(t, os.WriteFile(refusing, nil, 0o644))
	return refusing, runs
}

// threeHundred are mappings, of which the kernel refuses the one with the
// external port badPort.
func threeHundred() (list []*portmap.Mapping, bad *portmap.Mapping) {
	for i := range uint16(300) {
		m := mapping(portmap.UDP, 20000+i, fmt.Sprintf("192.168.50.10:%d", 1000+i))
		list = append(list, m)
		if m.External == badPort {
			bad = m
		}
	}
	return list, bad
}

const badPort = 20150

// without returns the list without one of its mappings.
func without(list []*portmap.Mapping, m *portmap.Mapping) []*portmap.Mapping {
	return slices.DeleteFunc(slices.Clone(list), func(o *portmap.Mapping) bool { return o == m })
}

// demandOpen demands that exactly these mappings are in the kernel.
func (g nsFirewall) demandOpen(t *testing.T, when string, list []*portmap.Mapping) {
	t.Helper()
	var want []string
	for _, m := range list {
		want = append(want, fmt.Sprint(m.Key, " ", m.Internal))
	}
	slices.Sort(want)
	if got := g.opened(t); !slices.Equal(got, want) {
		t.Errorf("%s: %d mappings are in the kernel, want %d", when, len(got), len(want))
	}
}

// Rules of one mapping that the kernel refuses are that one's trouble.
func TestKernelRefusesOneMapping(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		all, bad := threeHundred()
		good := without(all, bad)
		refusing, _ := r.refuses(t, fmt.Sprintf("^-A.*--dport %d ", badPort))
		o, log := logged(t, ipv4(t))
		f := r.firewall(t, o)
		must(t, f.Setup())
		log.all = nil
		must(t, f.Sync(all))
		f.demandOpen(t, "after the start", good)
		if err := f.Trouble(portmap.IPv4); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("mapping %v: ", bad.Key)) {
			t.Errorf("trouble: %v", err)
		}
		log.demand(t, "after the start", "starting one for each", "cannot apply rules")

		f.flush(t)
		f.look()
		f.demandOpen(t, "after everything was flushed", good)
		log.demand(t, "after everything was flushed", "restored missing")
		f.EndPauses()
		f.look()
		f.demandOpen(t, "after another try", good)
		log.demand(t, "after another try")

		another := mapping(portmap.TCP, 1, "192.168.50.10:1")
		must(t, f.Apply(open(another)))
		f.demandOpen(t, "with another mapping", append(good, another))
		must(t, f.Apply(closing(another, bad)))
		f.demandOpen(t, "without the bad one", good)
		log.demand(t, "after other requests")
		f.look()
		log.demand(t, "without the bad one", "applied again")
		if err := f.Trouble(portmap.IPv4); err != nil {
			t.Errorf("trouble: %v", err)
		}

		if err := f.Apply(open(bad)); err == nil {
			t.Error("a mapping is granted though the kernel refuses it")
		}
		f.demandOpen(t, "after the bad one was refused", good)
		wantHealthy(t, f)
		must(t, os.Remove(refusing))
		must(t, f.Apply(open(bad)))
		f.demandOpen(t, "with the bad one", all)
		log.demand(t, "after the bad one was refused")
		must(t, f.Teardown())
	})
}

// A mapping that the kernel refused for a while is tried again.
func TestKernelAcceptsAMappingLater(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		all, bad := threeHundred()
		refusing, runs := r.refuses(t, fmt.Sprintf("^-A.*--dport %d ", badPort))
		f := r.firewall(t, ipv4(t))
		must(t, f.Sync(all))
		if f.Apply(append(closing(bad), open(mapping(portmap.TCP, badPort, "192.168.50.10:1"))...)) == nil {
			t.Error("a mapping is granted though the kernel refuses it")
		}
		must(t, os.Remove(refusing))
		must(t, os.Remove(runs))
		renewed := *bad
		must(t, f.Apply([]portmap.Change{{Before: bad, After: &renewed}}))
		f.look() // in the pause
		f.demandOpen(t, "in the pause", without(all, bad))
		if _, err := os.Stat(runs); err == nil {
			t.Error("the kernel is asked again in the pause")
		}
		f.EndPauses()
		f.look()
		f.demandOpen(t, "after the pause", all)
		if err := f.Trouble(portmap.IPv4); err != nil {
			t.Errorf("trouble: %v", err)
		}
		must(t, f.Teardown())
	})
}

// What concerns all mappings is blamed on none of them: they are all restored
// once that has passed.
func TestKernelRefusesEverythingForAWhile(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		all, _ := threeHundred()
		refusing, runs := r.refuses(t, ".")
		o, log := logged(t, ipv4(t))
		f := r.firewall(t, o)
		if f.Sync(all) == nil {
			t.Error("no error though nothing works")
		}
		for range 3 {
			f.EndPauses()
			f.look()
		}
		log.demand(t, "while nothing works", "starting one for each", "cannot apply rules")
		must(t, os.Remove(runs))
		for i := range 5 {
			if err := f.Apply(open(mapping(portmap.TCP, uint16(1+i), "192.168.50.10:1"))); !errors.Is(err, portmap.ErrUnavailable) {
				t.Errorf("apply: %v", err)
			}
			f.force(closing(all[i]))
		}
		if text, err := os.ReadFile(runs); err == nil {
			t.Errorf("programs are started in the pause:\n%s", text)
		}
		must(t, os.Remove(refusing))
		f.EndPauses()
		f.look()
		f.demandOpen(t, "when it works again", all[5:])
		log.demand(t, "when it works again", "applied again", "restored missing")
		f.look()
		log.demand(t, "afterwards")
		must(t, f.Teardown())
	})
}

// A mapping that has ended while the kernel refused to delete its rules is
// removed by the next look.
func TestForceWhileTheKernelRefuses(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		all, bad := threeHundred()
		refusing, _ := r.refuses(t, ".")
		must(t, os.Remove(refusing))
		f := r.firewall(t, ipv4(t))
		must(t, f.Sync(all))
		if err := f.Left(); err != nil {
			t.Errorf("at first: %v", err)
		}
		must(t, os.WriteFile(refusing, nil, 0o644))
		f.force(closing(bad))
		f.demandOpen(t, "while nothing works", all)
		f.demandLeft(t)
		f.look()
		f.demandOpen(t, "while nothing works", all)
		f.force(closing(all[0])) // the next try is due later
		f.demandLeft(t)
		must(t, os.Remove(refusing))
		f.EndPauses()
		f.look()
		f.demandOpen(t, "when it works again", without(all[1:], bad))
		if err := f.Left(); err != nil {
			t.Errorf("when it works again: %v", err)
		}
		must(t, f.Teardown())
	})
}

// demandLeft demands that rules of closed mappings are known to be in the kernel.
func (g nsFirewall) demandLeft(t *testing.T) {
	t.Helper()
	if err := g.Left(); err == nil || !strings.HasPrefix(err.Error(), "IPv4: ") {
		t.Errorf("why rules are left: %v", err)
	}
}

// While another program holds the lock the rules of a mapping that has ended are left.
func TestForceWhileTheLockIsHeld(t *testing.T) {
	t.Parallel()
	r := newRouter(t, "legacy")
	f := r.firewall(t, ipv4(t))
	one, two := mapping(portmap.TCP, 1, "192.168.50.10:1"), mapping(portmap.TCP, 2, "192.168.50.10:2")
	must(t, f.Sync([]*portmap.Mapping{one, two}))
	release := r.hold(t)
	f.force(closing(one))
	if err := f.Left(); !errors.Is(err, portmap.ErrLocked) {
		t.Errorf("why rules are left: %v", err)
	}
	release()
	f.look()
	if got := f.opened(t); len(got) != 1 || f.Left() != nil {
		t.Errorf("open is %q, and left: %v", got, f.Left())
	}
	must(t, f.Teardown())
}

// While the firewall is stopped one line says so, whatever is asked, and one
// that it is over.
func TestStoppedFirewallIsLoggedOnce(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		r.iptables(t, aifStart...)
		o, log := logged(t, ipv4(t))
		f := r.firewall(t, o)
		held := hundred()[1:]
		must(t, f.Setup())
		must(t, f.Sync(held))
		log.demand(t, "at the start")
		for range 3 {
			r.iptables(t, aifStop...)
			f.look()
			for i := range 3 {
				one := mapping(portmap.TCP, uint16(1+i), "192.168.50.10:1")
				if err := f.Apply(open(one)); !errors.Is(err, netfilter.ErrStopped) || !errors.Is(err, portmap.ErrUnavailable) {
					t.Errorf("apply: %v", err)
				}
				must(t, f.Apply(closing(held[i])))
				f.force(open(held[i]))
				f.force(closing(one))
				f.look()
			}
			log.demand(t, "while it is stopped", "the firewall is stopped")
			r.iptables(t, aifStart...)
			f.look()
			f.demandOpen(t, "when it has started", held)
			log.demand(t, "when it has started", "applied again", "restored missing")
			if err := f.Trouble(portmap.IPv4); err != nil {
				t.Errorf("trouble: %v", err)
			}
		}
		must(t, f.Teardown())
	})
}

// Two looks at the same time, one of them for the operator, restore what is missing once,
// and only one of them counts it.
func TestRepairIsCountedOnce(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		o := ipv4(t)
		var repairs atomic.Int32
		o.Repaired = func(portmap.Family) { repairs.Add(1) }
		f := r.firewall(t, o)
		held := hundred()[1:]
		must(t, f.Setup())
		must(t, f.Sync(held))
		r.iptables(t, "-t nat -F MINIUPNPD")
		listing, calls := filepath.Join(r.tools, "listing"), filepath.Join(r.tools, "calls")
		must(t, os.WriteFile(listing, nil, 0o600))
		r.stub(t, "iptables-save", `echo >>`+calls+`; while [ -e `+listing+` ]; do sleep 0.01; done; exec $real "$@"`)
		var looks sync.WaitGroup
		looks.Go(f.look)
		looks.Go(f.look)
		eventually(t, "both looks list the tables", func() bool {
			text, _ := os.ReadFile(calls)
			return strings.Count(string(text), "\n") == 2
		})
		must(t, os.Remove(listing))
		looks.Wait()
		f.demandOpen(t, "after the looks", held)
		if n := repairs.Load(); n != 1 {
			t.Errorf("%d repairs were counted", n)
		}
		must(t, f.Teardown())
	})
}

// Log lines say that something was restored only if something was.
func TestLogSaysWhatIsTrue(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		o, log := logged(t, ipv4(t))
		f := r.firewall(t, o)
		held := hundred()[1:]
		must(t, f.Setup())
		must(t, f.Sync(held))
		log.all = nil
		f.look()
		r.iptables(t, "-A INPUT -j ACCEPT")
		f.look()
		log.demand(t, "nothing was missing")
		r.iptables(t, "-t nat -D MINIUPNPD 50")
		f.look()
		log.demand(t, "a rule was missing", "restored missing")
		r.iptables(t, "-t nat -F MINIUPNPD")
		if err := f.Apply(closing(held[0])); err != nil {
			t.Errorf("a rule that is gone cannot be deleted: %v", err)
		}
		f.demandOpen(t, "a transaction that failed at first", held[1:])
		log.demand(t, "a transaction that failed at first", "after all rules were checked")
		f.look()
		log.demand(t, "afterwards")
		must(t, f.Teardown())
	})
}

// While repairs are limited a look still tells what it finds.
func TestLookWhileRepairsAreLimited(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		o, log := logged(t, ipv4(t))
		looks := 0
		o.Looked = func(netfilter.Look) time.Duration { looks++; return 0 }
		f := r.firewall(t, o)
		must(t, f.Setup())
		must(t, f.Sync([]*portmap.Mapping{mapping(portmap.TCP, 3001, "192.168.50.10:80")}))
		log.all, looks = nil, 0
		f.UseUpRepairs()
		r.iptables(t, "-t nat -F MINIUPNPD")
		missing := r.rules(t)
		for range 3 {
			f.look()
		}
		log.demand(t, "with a rule missing", "another program keeps removing")
		wantRules(t, r, missing)
		if err := f.Trouble(portmap.IPv4); err == nil || looks > 0 {
			t.Errorf("with a rule missing: %d looks found all in place, trouble %v", looks, err)
		}
		calls := filepath.Join(r.tools, "calls")
		r.stub(t, "iptables-save", `echo "$*" >>`+calls+`; exec $real "$@"`)
		r.iptables(t, "-t nat -A MINIUPNPD -p tcp -m tcp --dport 3001 -j DNAT --to-destination 192.168.50.10:80")
		f.look()
		log.demand(t, "with all rules in place", "applied again")
		if err := f.Trouble(portmap.IPv4); err != nil || looks != 1 {
			t.Errorf("with all rules in place: %d looks, trouble %v", looks, err)
		}
		if text, err := os.ReadFile(calls); err != nil || strings.Count(string(text), "\n") != 1 {
			t.Errorf("the tables are listed %q, %v; want once", text, err)
		}
		must(t, f.Teardown())
	})
}

// IPv6 that fails is logged once, at the start, and once when it works.
func TestFailingIPv6IsLoggedOnce(t *testing.T) {
	t.Parallel()
	r := newRouter(t, "legacy")
	failing := filepath.Join(r.tools, "failing")
	must(t, os.WriteFile(failing, nil, 0o644))
	r.stub(t, "ip6tables-save", `[ -e `+failing+` ] && exit 3; exec $real "$@"`)
	o, log := logged(t, options(t))
	f := r.firewall(t, o)
	must(t, f.Setup())
	for range 3 {
		if err := f.Sync(some()); err == nil || !strings.Contains(err.Error(), "ip6tables") {
			t.Errorf("sync: %v", err)
		}
		f.EndPauses()
	}
	log.demand(t, "while it fails", "cannot apply rules")
	must(t, os.Remove(failing))
	must(t, f.Sync(some()))
	log.demand(t, "when it works", "applied again")
	must(t, f.Teardown())
}

// A change of IPv6 that hangs does not hold up one of IPv4.
func TestHangingIPv6DoesNotHoldUpIPv4(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		hangs, f := filepath.Join(r.tools, "hangs"), r.firewall(t, options(t))
		must(t, f.Setup())
		must(t, f.Sync(hundred()))
		r.stub(t, "ip6tables-restore", `[ -t 1 ] && exit 1; touch `+hangs+`; exec sleep 1000`)
		f.CloseResident6()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan error, 1)
		go func() {
			ended <- r.Do(func() error {
				return f.Firewall.Apply(ctx, open(pinhole(portmap.TCP, "[2001:db8::20]:9090")))
			})
		}()
		eventually(t, "ip6tables-restore hangs", func() bool { _, err := os.Stat(hangs); return err == nil })
		one := mapping(portmap.TCP, 1, "192.168.50.10:1")
		must(t, f.Apply(open(one)))
		r.iptables(t, "-t nat -F MINIUPNPD")
		f.look()
		must(t, f.Apply(closing(one)))
		if ok, err := f.healthy(portmap.IPv4); !ok || err != nil {
			t.Errorf("IPv4: %v, %v", ok, err)
		}
		select {
		case err := <-ended:
			t.Errorf("IPv6 ended first: %v", err)
		default:
		}
		cancel()
		if err := <-ended; err == nil {
			t.Error("a change that hangs has succeeded")
		}
		must(t, os.Rename(filepath.Join(r.tools, "real", "ip6tables-restore"), filepath.Join(r.tools, "ip6tables-restore")))
		must(t, f.Teardown())
	})
}

// A listing that hangs holds up no change of its own family.
func TestHangingListingHoldsUpNoChange(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		hangs, f := filepath.Join(r.tools, "hangs"), r.firewall(t, ipv4(t))
		must(t, f.Setup())
		one, two := mapping(portmap.TCP, 1, "192.168.50.10:1"), mapping(portmap.TCP, 2, "192.168.50.10:2")
		must(t, f.Sync([]*portmap.Mapping{one}))
		r.stub(t, "iptables-save", `touch `+hangs+`; exec sleep 1000`)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- r.Do(func() error { f.Firewall.Look(ctx); return nil }) }()
		eventually(t, "iptables-save hangs", func() bool { _, err := os.Stat(hangs); return err == nil })
		must(t, f.Apply(open(two)))
		must(t, r.Do(func() error { f.Firewall.Force(t.Context(), closing(one)); return nil }))
		select {
		case <-ended:
			t.Error("the look ended first")
		default:
		}
		cancel()
		must(t, <-ended)
		must(t, os.Rename(filepath.Join(r.tools, "real", "iptables-save"), filepath.Join(r.tools, "iptables-save")))
		if got := f.opened(t); len(got) != 1 || !strings.HasPrefix(got[0], "2/TCP") {
			t.Errorf("open is %q", got)
		}
		wantHealthy(t, f)
		must(t, f.Teardown())
	})
}
