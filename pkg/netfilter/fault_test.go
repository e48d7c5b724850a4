package netfilter_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/netfilter"
	"igdd/pkg/netlab"
	"igdd/pkg/portmap"
	"igdd/pkg/xtables"
)

// hundred is what the router holds while something goes wrong.
func hundred() []*portmap.Mapping {
	list := []*portmap.Mapping{pinhole(portmap.TCP, "[2001:db8::20]:8080")}
	for i := range uint16(100) {
		list = append(list, mapping(portmap.UDP, 20000+i, fmt.Sprintf("192.168.50.10:%d", 1000+i)))
	}
	return list
}

func TestSyncRestoresWhatOthersBroke(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		held := hundred()
		f := r.firewall(t, options(t))
		must(t, f.Setup())
		must(t, f.Sync(held))
		want := r.rules(t)
		for _, tt := range []struct {
			name string
			do   []string // iptables commands, or of ip6tables after a 6
		}{
			{"everything flushed", []string{"-F", "-X", "-t nat -F", "-t nat -X", "6 -F", "6 -X"}},
			{"our chain flushed", []string{"-t nat -F MINIUPNPD"}},
			{"our chain deleted", []string{"-F FORWARD", "-F MINIUPNPD", "-X MINIUPNPD"}},
			{"our chain made again, empty", []string{"-t nat -F", "-t nat -X", "-t nat -N MINIUPNPD"}},
			{"jumps missing", []string{"-t nat -F PREROUTING", "-F FORWARD"}},
			{"jump doubled", []string{"-I FORWARD -i wan0 ! -o wan0 -j MINIUPNPD", "-t nat -A PREROUTING -i wan0 -j MINIUPNPD"}},
			{"pinhole's chain flushed", []string{"6 -F MINIUPNPD"}},
			{"pinholes' jump missing", []string{"6 -F FORWARD"}},
			{"one rule deleted", []string{"-t nat -D MINIUPNPD 100"}},
			{"one rule replaced", []string{"-t nat -R MINIUPNPD 100 -p tcp -m tcp --dport 9 -j DNAT --to-destination 192.168.50.10:9"}},
			{"one rule added", []string{"-I MINIUPNPD -j ACCEPT"}},
		} {
			t.Run(tt.name, func(t *testing.T) {
				for _, command := range tt.do {
					if six, ok := strings.CutPrefix(command, "6 "); ok {
						r.run(t, "ip6tables", strings.Fields(six)...)
					} else {
						r.iptables(t, command)
					}
				}
				wantUnhealthy(t, f)
				must(t, f.Sync(held))
				wantHealthy(t, f)
				wantRules(t, r, want)
			})
		}
	})
}

// TestFailedBatchLeavesNothing has the second table fail, for as long as a file
// exists.
func TestFailedBatchLeavesNothing(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		failing := filepath.Join(t.TempDir(), "failing")
		r.stub(t, "iptables-restore", `[ -e `+failing+` ] || exec $real "$@"
sed '/^\*filter/,$d' | $real "$@"; exit 1
`)
		f := r.firewall(t, ipv4(t))
		held := hundred()[1:]
		must(t, f.Sync(held))
		f.CloseResident()
		before := r.rules(t)
		must(t, os.WriteFile(failing, nil, 0o644))
		batch := append(open(mapping(portmap.TCP, 1, "192.168.50.10:1")), closing(held[50])...)
		if err := f.Apply(batch); err == nil {
			t.Error("no error though the second table fails")
		}
		wantRules(t, r, before)
		must(t, os.Remove(failing))
		wantHealthy(t, f)
		must(t, f.Sync(held))
		must(t, f.Apply(batch))
		wantHealthy(t, f)
		must(t, f.Teardown())
	})
}

// A batch finds its chain renamed: it is made again, with all rules.
func TestBatchMakesMissingChains(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		f := r.firewall(t, options(t))
		must(t, f.Sync(hundred()))
		for _, tool := range []string{"iptables", "ip6tables"} {
			r.run(t, tool, "-E", "MINIUPNPD", "AWAY")
			must(t, f.Apply(open(mapping(portmap.TCP, 1, "192.168.50.10:1"), pinhole(portmap.UDP, "[2001:db8::21]:1"))))
			wantHealthy(t, f)
			must(t, f.Apply(closing(mapping(portmap.TCP, 1, "192.168.50.10:1"), pinhole(portmap.UDP, "[2001:db8::21]:1"))))
		}
		wantHealthy(t, f)
		must(t, f.Teardown())
	})
}

func TestWaitsForTheLock(t *testing.T) {
	t.Parallel()
	r := newRouter(t, "legacy")
	f := r.firewall(t, options(t))
	must(t, f.Setup())
	holder := exec.Command("flock", r.lock, "sleep", "2")
	must(t, holder.Start())
	for locked(t, r.lock) != true {
		time.Sleep(time.Millisecond)
	}
	must(t, f.Apply(open(mapping(portmap.TCP, 1, "192.168.50.10:1"))))
	if locked(t, r.lock) {
		t.Error("the daemon still holds the lock after the batch")
	}
	must(t, holder.Wait())
	wantHealthy(t, f)
	must(t, f.Teardown())
}

// locked reports whether a process holds the lock.
func locked(t *testing.T, path string) bool {
	t.Helper()
	file, err := os.OpenFile(path, os.O_CREATE, 0o600)
	must(t, err)
	defer file.Close()
	return errors.Is(syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still waiting: %s", what)
		}
	}
}

// stub puts a shell script in the place of a program; the real one is $real.
func (r *router) stub(t testing.TB, name, script string) {
	t.Helper()
	path := filepath.Join(r.tools, name)
	real := filepath.Join(r.tools, "real", name)
	must(t, os.MkdirAll(filepath.Dir(real), 0o755))
	must(t, os.Rename(path, real))
	netlab.Script(t, path, "real="+real+"\n"+script)
}

// A process that is killed cannot report how much it has committed.
func TestKilledHalfWay(t *testing.T) {
	t.Parallel()
	one := mapping(portmap.TCP, 1, "192.168.50.10:1")
	eachVariant(t, func(t *testing.T, r *router) {
		fates := filepath.Join(r.tools, "fates") // of the next processes, a line each
		quiet := filepath.Join(r.tools, "quiet")
		r.stub(t, "iptables-restore", `[ -e `+quiet+` ] && [ -t 1 ] && exit 1 # a process for each transaction
fate=$(sed -n 1p `+fates+`); sed -i 1d `+fates+`
case $fate in
half) sed -u '/^COMMIT/q' | $real "$@"; kill -9 $$ ;;
none) sed -u 1q | $real "$@"; kill -9 $$ ;;
esac
exec $real "$@"
`)
		for _, resident := range []bool{true, false} {
			if !resident {
				must(t, os.WriteFile(quiet, nil, 0o644))
			}
			for _, tt := range []struct {
				fates string
				fails bool
			}{
				{"half\n", false},
				{"none\n", false},
				{"half\nnone\n", true},
			} {
				must(t, os.WriteFile(fates, nil, 0o644))
				f := r.firewall(t, ipv4(t))
				must(t, f.Sync(hundred()[1:]))
				before := f.opened(t)
				f.CloseResident()
				must(t, os.WriteFile(fates, []byte(tt.fates), 0o644))
				err := f.Apply(open(one))
				if (err != nil) != tt.fails {
					t.Errorf("resident %v, %q: %v", resident, tt.fates, err)
				}
				if more := len(f.opened(t)) - len(before); (more == 0) != tt.fails || more > 1 {
					t.Errorf("resident %v, %q: %d more rules", resident, tt.fates, more)
				}
				wantHealthy(t, f)
				must(t, f.Teardown())
			}
		}
	})
}

func TestRestoreThatDoesNotRepeatComments(t *testing.T) {
	t.Parallel()
	r := newRouter(t, "legacy")
	r.stub(t, "iptables-restore", `exec $real "$@" >/dev/null`)
	f := r.firewall(t, options(t))
	must(t, f.Sync(hundred()))
	must(t, f.Apply(closing(hundred()...)))
	wantRules(t, r, natHead+filterHead+filter6Head)
	must(t, f.Teardown())
}

func TestWithoutIPv6(t *testing.T) {
	t.Parallel()
	r := newRouter(t, "legacy")
	programs := []string{"ip6tables", "ip6tables-save", "ip6tables-restore"}
	for _, name := range programs {
		r.stub(t, name, "exit 3")
	}
	f := r.firewall(t, options(t))
	must(t, f.Setup())
	m, hole := mapping(portmap.TCP, 1, "192.168.50.10:1"), pinhole(portmap.TCP, "[2001:db8::20]:8080")
	must(t, f.Apply(open(m)))
	if err := f.Apply(open(hole)); !errors.Is(err, portmap.ErrUnavailable) {
		t.Errorf("a pinhole without ip6tables: %v", err)
	}
	if err := f.Sync([]*portmap.Mapping{hole, m}); err == nil || !strings.Contains(err.Error(), "ip6tables") { // for IPv6 only
		t.Error(err)
	}
	if ok, err := f.healthy(portmap.IPv4); !ok || err != nil {
		t.Errorf("IPv4: %v, %v", ok, err)
	}
	if ok, err := f.healthy(portmap.IPv6); ok || err == nil || !strings.Contains(err.Error(), "ip6tables") {
		t.Errorf("IPv6: %v, %v", ok, err)
	}
	must(t, f.Apply(closing(m)))
	must(t, f.Teardown())
	for _, name := range programs {
		must(t, os.Rename(filepath.Join(r.tools, "real", name), filepath.Join(r.tools, name)))
	}
	wantRules(t, r, nothing)
}

func TestPATHWithoutSbin(t *testing.T) {
	r := newRouter(t, "legacy")
	t.Setenv("PATH", "/nonexistent")
	f := r.firewall(t, options(t))
	must(t, f.Sync(hundred()))
	wantHealthy(t, f)
	must(t, f.Teardown())
}

func TestNewRejectsInvalidNames(t *testing.T) {
	for _, name := range []string{"", "-j", "a b", "MINI\nUPNPD", "+a", "a/b", "01234567890123456789012345678", `"`, "$(x)", "é"} {
		o := options(t)
		o.NATChain = name
		if _, err := netfilter.New(o); err == nil {
			t.Errorf("chain %q", name)
		}
		o = options(t)
		o.WAN = []string{"eth0", name}
		if _, err := netfilter.New(o); err == nil {
			t.Errorf("interface %q", name)
		}
	}
}

// A program of IPv6 that hangs does not keep the service from starting.
func TestIPv6ThatHangs(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"ip6tables", "ip6tables-save"} {
		eachVariant(t, func(t *testing.T, r *router) {
			r.stub(t, program, "sleep 1000\n")
			f := r.firewall(t, options(t))
			must(t, f.Setup())
			must(t, f.Apply(open(mapping(portmap.TCP, 1, "192.168.50.10:1"))))
			if f.Pinholes() {
				t.Error("IPv6 works")
			}
			if ok, err := f.healthy(portmap.IPv6); ok || program == "ip6tables-save" && !errors.Is(err, xtables.ErrTimeout) {
				t.Errorf("IPv6: %v, %v", ok, err)
			}
			must(t, f.Teardown())
		})
	}
}

// While ip6tables hangs the start does not wait until pinholes of an earlier
// process are removed; they are as soon as it works.
func TestIPv6ThatHangsWithPinholesLeft(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		o := recorded(t)
		f := r.firewall(t, o)
		must(t, f.Setup())
		must(t, f.Sync(some()))
		calls := filepath.Join(t.TempDir(), "calls")
		r.stub(t, "ip6tables-save", `echo "$*" >>`+calls+`; sleep 1000`)
		next := r.firewall(t, o)
		must(t, next.Setup())
		if err := next.Sync(some()); !errors.Is(err, xtables.ErrTimeout) {
			t.Errorf("sync: %v", err)
		}
		if ok, err := next.healthy(portmap.IPv4); !ok || err != nil {
			t.Errorf("IPv4: %v, %v", ok, err)
		}
		if text, err := os.ReadFile(calls); err != nil || strings.Count(string(text), "\n") != 1 {
			t.Errorf("it was run %q, %v; want once", text, err)
		}
		must(t, os.Rename(filepath.Join(r.tools, "real", "ip6tables-save"), filepath.Join(r.tools, "ip6tables-save")))
		must(t, next.Teardown())
		wantRules(t, r, nothing)
		wantNoRecord(t, o.OwnershipFile)
	})
}

// A start while another process holds the xtables lock waits for it once; what
// it could not do is done when the lock is free.
func TestSetupWhileTheLockIsHeld(t *testing.T) {
	t.Parallel()
	r := newRouter(t, "legacy")
	commands := filepath.Join(t.TempDir(), "commands")
	r.stub(t, "iptables", `echo "$*" >>`+commands+`; exec $real "$@"`)
	r.iptables(t, "-t nat -N MINIUPNPD-POSTROUTING")
	release := r.hold(t)
	f := r.firewall(t, options(t))
	if err := f.Setup(); !errors.Is(err, portmap.ErrLocked) {
		t.Errorf("set up: %v", err)
	}
	if !locked(t, r.lock) {
		t.Error("it has waited for the lock to be free")
	}
	text, err := os.ReadFile(commands)
	must(t, err)
	if n := strings.Count(string(text), "-t "); n != 1 {
		t.Errorf("%d commands waited for the lock, want 1:\n%s", n, text)
	}
	release()
	must(t, f.Sync(some()))
	wantHealthy(t, f)
	must(t, f.Teardown())
}

// The chain that the first outbound mapping needs is not waited for either.
func TestPeerChainWhileTheLockIsHeld(t *testing.T) {
	t.Parallel()
	r := newRouter(t, "legacy")
	f := r.firewall(t, options(t))
	must(t, f.Setup())
	release := r.hold(t)
	peer := outbound(6001, "192.168.50.10:6000", "11.22.35.254:53")
	if err := f.Apply(open(peer)); !errors.Is(err, portmap.ErrLocked) {
		t.Errorf("apply: %v", err)
	}
	if !locked(t, r.lock) {
		t.Error("it has waited for the lock to be free")
	}
	release()
	wantHealthy(t, f)
	must(t, f.Apply(open(peer)))
	wantHealthy(t, f)
	must(t, f.Teardown())
	wantRules(t, r, nothing)
}
