package daemon_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
)

// unusable are settings that cannot be parsed.
var unusable = strings.Repeat("#", 2<<20)

// newPluginRig is a rig whose firewall has made and hooked the chains already,
// as AstLinux's does at boot.
func newPluginRig(t testing.TB, variant string) *rig {
	t.Helper()
	r := newRig(t, variant, netlab.Layout{})
	for _, args := range []string{
		"-t nat -N MINIUPNPD", "-t nat -A PREROUTING -i wan0 -j MINIUPNPD",
		"-N MINIUPNPD", "-A FORWARD -i wan0 ! -o wan0 -j MINIUPNPD",
	} {
		r.ipt(t, strings.Fields(args)...)
	}
	return r
}

// wantOpen demands that the rules of one mapping are in the firewall.
func (r *rig) wantOpen(t testing.TB, when string) {
	t.Helper()
	if rules, jumps := r.state(t); rules != 2 || jumps != 2 {
		t.Errorf("%s: %d rules and %d jumps, want 2 and 2:\n%s", when, rules, jumps, r.chains(t))
	}
}

// wantClosed demands that no rule is in the firewall, and of chains and jumps
// just those that the firewall has made.
func (r *rig) wantClosed(t testing.TB, when string, plugin bool) {
	t.Helper()
	want := 0
	if plugin {
		want = 2
	}
	saved := r.Router.Run(t, "/usr/sbin/iptables-"+r.variant+"-save")
	rules, jumps := r.state(t)
	if chains := strings.Count(saved, "\n:MINIUPNPD "); rules != 0 || jumps != want || chains != want {
		t.Errorf("%s: %d rules, %d jumps and %d chains, want 0, %d and %d:\n%s", when, rules, jumps, chains, want, want, r.chains(t))
	}
}

// eachFirewall runs a test on a rig whose chains the daemon makes, and on one
// whose chains the firewall has made.
func eachFirewall(t *testing.T, variant string, test func(t *testing.T, r *rig, plugin bool)) {
	t.Run("chains of our own", func(t *testing.T) { test(t, newRig(t, variant, netlab.Layout{}), false) })
	t.Run("chains of a plugin", func(t *testing.T) { test(t, newPluginRig(t, variant), true) })
}

// open starts the daemon and maps a port.
func (r *rig) open(t testing.TB) {
	t.Helper()
	r.start(t)
	r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
	r.wantOpen(t, "while the daemon serves")
}

// awaitEnd waits for the end of a daemon, and demands that its pid file went too.
func (r *rig) awaitEnd(t testing.TB, pid int) {
	t.Helper()
	await(t, "the end of the daemon", func() bool { return !alive(pid) })
	if _, err := os.Stat(r.path("pid")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the pid file is still there: %v", err)
	}
}

// The tests of what a stop removes run alone: removing the rules is given 0.8 s, which
// a machine that is busy with other tests may exceed.

// TestStopClosesPorts ends the daemon in each way that has no next process.
func TestStopClosesPorts(t *testing.T) {
	bothVariants(t, func(t *testing.T, variant string) {
		eachFirewall(t, variant, func(t *testing.T, r *rig, plugin bool) {
			for _, end := range []struct {
				what string
				do   func(pid int)
			}{
				{"SIGTERM", func(pid int) { syscall.Kill(pid, syscall.SIGTERM) }},
				{"SIGINT, twice", func(pid int) { syscall.Kill(pid, syscall.SIGINT); syscall.Kill(pid, syscall.SIGINT) }},
				{"SIGTERM, then SIGUSR2", func(pid int) { syscall.Kill(pid, syscall.SIGTERM); syscall.Kill(pid, syscall.SIGUSR2) }},
				{"SIGTERM, then SIGHUP", func(pid int) { syscall.Kill(pid, syscall.SIGTERM); syscall.Kill(pid, syscall.SIGHUP) }},
				{"SIGHUP with nothing enabled", func(pid int) {
					r.configure(t, "enable_natpmp=no")
					syscall.Kill(pid, syscall.SIGHUP)
				}},
				{"SIGUSR2 with nothing enabled", func(pid int) {
					r.configure(t, "enable_natpmp=no")
					syscall.Kill(pid, syscall.SIGUSR2)
				}},
			} {
				r.open(t)
				pid := r.pid()
				end.do(pid)
				r.awaitEnd(t, pid)
				r.wantClosed(t, end.what, plugin)
			}
		})
	})
}

// TestStopWithoutRecord ends a daemon that cannot write its ownership record.
func TestStopWithoutRecord(t *testing.T) {
	eachFirewall(t, "legacy", func(t *testing.T, r *rig, plugin bool) {
		if err := os.Mkdir(r.path("pid.chains.new"), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR2} {
			r.open(t)
			pid := r.pid()
			r.configure(t, "enable_natpmp=no")
			syscall.Kill(pid, s)
			r.awaitEnd(t, pid)
			r.wantClosed(t, s.String(), plugin)
		}
	})
}

// TestStartThatFailsCloses ends the daemon so that its rules stay, and then has
// a start that fails.
func TestStartThatFailsCloses(t *testing.T) {
	eachFirewall(t, "legacy", func(t *testing.T, r *rig, plugin bool) {
		conf := r.path("miniupnpd.conf")
		r.occupy(t, 5001)
		for _, end := range []syscall.Signal{syscall.SIGUSR2, syscall.SIGKILL} {
			for _, start := range []struct {
				what string
				more string
				args []string
				ok   bool
			}{
				{what: "settings that cannot be parsed", more: unusable},
				{what: "no uplink", more: "ext_ifname="},
				{what: "a file that is not there", args: []string{"-f", r.path("nothing")}},
				{what: "an unknown option", args: []string{"-f", conf, "-x"}},
				{what: "an uplink that cannot be", more: "ext_ifname=wan,0"},
				{what: "a port that is taken", more: "enable_upnp=yes\nhttp_port=5001"},
				{what: "nothing enabled", more: "enable_natpmp=no", ok: true},
				{what: "nothing enabled, in the foreground", more: "enable_natpmp=no", args: []string{"-d", "-f", conf}, ok: true},
			} {
				r.open(t)
				r.stop(t, end)
				r.wantOpen(t, "after "+end.String())
				r.configure(t, start.more)
				args := start.args
				if args == nil {
					args = []string{"-f", conf}
				}
				if out, err := r.run(args...); (err == nil) != start.ok {
					t.Errorf("%s: %v: %s", start.what, err, out)
				}
				r.wantClosed(t, start.what, plugin)
				if r.pid() != 0 {
					t.Errorf("%s: the pid file names %d", start.what, r.pid())
				}
			}
		}
	})
}

// occupy listens on a TCP port of the router for as long as the test lasts.
func (r *rig) occupy(t testing.TB, port uint16) {
	t.Helper()
	err := r.Router.Listen(func() error {
		l, err := net.Listen("tcp", netip.AddrPortFrom(netip.IPv4Unspecified(), port).String())
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestOnlyOneTouchesTheFirewall starts the program in many ways while a daemon
// serves, ours or another of that name: none of them takes its rules away.
func TestOnlyOneTouchesTheFirewall(t *testing.T) {
	r := newPluginRig(t, "legacy")
	r.open(t)
	conf := r.path("miniupnpd.conf")
	try := func(when string) {
		for _, tt := range []struct {
			more string
			args []string
		}{
			{args: []string{"-f", conf}},
			{args: []string{"-f", conf, "-x"}},
			{more: unusable, args: []string{"-f", conf}},
			{more: "enable_natpmp=no", args: []string{"-f", conf}},
			{more: "ext_ifname=wan,0", args: []string{"-d", "-f", conf}},
		} {
			r.configure(t, tt.more)
			if out, err := r.run(tt.args...); err == nil {
				t.Errorf("%s: %q starts: %s", when, tt.args, out)
			}
			r.wantOpen(t, when)
		}
	}
	try("beside a daemon that serves")
	r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))

	r.configure(t)
	r.stop(t, syscall.SIGUSR2)
	other := r.startNamesake(t)
	if err := os.WriteFile(r.path("pid"), []byte(strconv.Itoa(other)+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	try("beside a daemon that locks nothing")
}

// startNamesake starts another program that is called miniupnpd, and returns its
// process ID.
func (r *rig) startNamesake(t testing.TB) int {
	t.Helper()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "miniupnpd")
	text, err := os.ReadFile(sleep)
	if err == nil {
		err = os.WriteFile(path, text, 0o755)
	}
	cmd := exec.Command(path, "600")
	if err := errors.Join(err, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd.Process.Pid
}

// TestQuestionsTouchNothing asks for information while rules wait for the
// daemon that is started next.
func TestQuestionsTouchNothing(t *testing.T) {
	t.Parallel()
	r := newPluginRig(t, "legacy")
	r.open(t)
	r.stop(t, syscall.SIGUSR2)
	conf := r.path("miniupnpd.conf")
	for _, args := range [][]string{
		{"-t", "-f", conf}, {"-t", "-f", r.path("nothing")}, {"-x", "-t"}, {"--help"}, {"--version"}, {"-f", conf, "-h", "-x"}, {"ctl", "status"},
	} {
		r.run(args...)
		r.wantOpen(t, strings.Join(args, " "))
	}
	r.open(t)
}

// TestStartRightAfterStop does what AstLinux's web page does, and faster: the
// start does not wait for the end of the stop, and serves all the same.
func TestStartRightAfterStop(t *testing.T) {
	t.Parallel()
	eachFirewall(t, "legacy", func(t *testing.T, r *rig, plugin bool) {
		r.open(t)
		for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGUSR2, syscall.SIGTERM, syscall.SIGINT} {
			old := r.pid()
			r.kill(signal)
			if out, err := r.launch(); err != nil {
				t.Fatalf("after %v: %v: %s", signal, err, out)
			}
			if alive(old) || r.pid() == old {
				t.Errorf("after %v: the old daemon, process %d, is still there", signal, old)
			}
			r.wantOpen(t, "after "+signal.String()+" and a start")
			r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
		}
	})
}

// TestStopWhileTheFirewallIsBusy ends the daemon while another program holds
// the xtables lock: it does not wait for that, and the next one closes the
// ports.
func TestStopWhileTheFirewallIsBusy(t *testing.T) {
	eachFirewall(t, "legacy", func(t *testing.T, r *rig, plugin bool) {
		r.env = append(r.env, "XTABLES_LOCKFILE="+r.path("lock"))
		r.open(t)
		release := r.lock(t)
		pid := r.pid()
		r.kill(syscall.SIGTERM)
		r.awaitEnd(t, pid)
		r.wantOpen(t, "while the firewall is busy")
		release()
		r.configure(t, "enable_natpmp=no")
		if out, err := r.launch(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		r.wantClosed(t, "after that", plugin)
	})
}

// lock takes the xtables lock, which must be the rig's own, until release is
// called.
func (r *rig) lock(t testing.TB) (release func()) {
	t.Helper()
	f, err := os.OpenFile(r.path("lock"), os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	await(t, "the lock", func() bool { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil })
	return func() { f.Close() }
}

// begin starts the daemon, and returns as soon as the pid file names it. What
// launch comes to is sent later.
func (r *rig) begin(t testing.TB) (pid int, ready <-chan error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := r.launch()
		done <- err
	}()
	await(t, "the pid file", func() bool { pid = r.pid(); return pid > 0 })
	return pid, done
}

// TestSignalsDuringStart sends signals as soon as it is known to whom.
func TestSignalsDuringStart(t *testing.T) {
	t.Parallel()
	eachFirewall(t, "legacy", func(t *testing.T, r *rig, plugin bool) {
		for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
			r.open(t)
			r.stop(t, syscall.SIGUSR2)
			pid, ready := r.begin(t)
			syscall.Kill(pid, signal)
			if err := <-ready; err != nil {
				t.Errorf("told to stop by %v: %v", signal, err)
			}
			r.awaitEnd(t, pid)
			r.wantClosed(t, signal.String(), plugin)
		}
		for _, signal := range []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1} {
			pid, ready := r.begin(t)
			syscall.Kill(pid, signal)
			if err := <-ready; err != nil || r.pid() != pid {
				t.Errorf("the daemon does not survive %v during its start: %v", signal, err)
			}
			r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
			r.stop(t, syscall.SIGTERM)
		}
		pid, ready := r.begin(t)
		syscall.Kill(pid, syscall.SIGUSR2)
		if err := <-ready; err != nil {
			t.Errorf("told to end for the next process: %v", err)
		}
		r.awaitEnd(t, pid)
		r.open(t)
	})
}

// TestKilledDuringStart kills a daemon before it serves, while rules wait for
// it: its parent closes the ports.
func TestKilledDuringStart(t *testing.T) {
	t.Parallel()
	eachFirewall(t, "legacy", func(t *testing.T, r *rig, plugin bool) {
		r.env = append(r.env, "XTABLES_LOCKFILE="+r.path("lock"))
		r.open(t)
		r.stop(t, syscall.SIGUSR2)
		release := r.lock(t) // the start waits for it
		pid, ready := r.begin(t)
		suspend(t, pid)
		release()
		syscall.Kill(pid, syscall.SIGKILL)
		if err := <-ready; err == nil {
			t.Error("the start of a daemon that was killed succeeds")
		}
		r.wantClosed(t, "after that", plugin)
	})
}
