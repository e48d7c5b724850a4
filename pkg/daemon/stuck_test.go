package daemon_test

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
)

// suspendHelper suspends the helper of the daemon, and returns its process ID.
func (r *rig) suspendHelper(t testing.TB) (pid int) {
	t.Helper()
	await(t, "the helper", func() bool { return children(r.pid())["igdd-helper"] != "" })
	pid = pidOf(t, children(r.pid())["igdd-helper"])
	suspend(t, pid)
	return pid
}

// TestHelperStuck suspends the helper: settings that are not read are an error in the
// log and in the status, until the helper replies again.
func TestHelperStuck(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	r.installed()
	r.foreground(t)
	helper := r.suspendHelper(t)
	r.kill(syscall.SIGHUP)
	r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
	const text = "the helper process has not replied for 10s; restart the daemon"
	await(t, "word of it in the log", func() bool {
		return strings.Contains(r.log(t), "cannot read the settings; keeping the current ones") && strings.Contains(r.log(t), text)
	})
	await(t, "word of it in the status", func() bool {
		out, status := r.ctl(t, "status")
		return status == 4 && strings.Contains(strings.Join(strings.Fields(out), " "), "helper: unhealthy: "+text)
	})
	r.grant(t, mapping(natpmp.MapTCP, 4001, 4001, time.Hour))
	syscall.Kill(helper, syscall.SIGCONT)
	await(t, "a healthy status", func() bool { _, status := r.ctl(t, "status"); return status == 0 })
}

// TestStopWithStuckHelper ends the daemon while its helper is suspended: it closes the
// ports, also if it was to leave them open, since the settings cannot be read. Nothing
// is left of the helper.
func TestStopWithStuckHelper(t *testing.T) {
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{})
		r.installed()
		for what, signals := range map[string][]syscall.Signal{
			"SIGUSR2":               {syscall.SIGUSR2},
			"SIGUSR2, then SIGTERM": {syscall.SIGUSR2, syscall.SIGTERM},
			"SIGUSR2, then SIGINT":  {syscall.SIGUSR2, syscall.SIGINT},
			"SIGHUP, then SIGTERM":  {syscall.SIGHUP, syscall.SIGTERM},
			"SIGHUP, then SIGINT":   {syscall.SIGHUP, syscall.SIGINT},
			"SIGHUP, then SIGUSR2":  {syscall.SIGHUP, syscall.SIGUSR2},
		} {
			r.open(t)
			pid, helper := r.pid(), r.suspendHelper(t)
			for _, s := range signals {
				syscall.Kill(pid, s)
			}
			r.awaitEnd(t, pid)
			r.wantClosed(t, what, false)
			await(t, "the end of the helper", func() bool { return !alive(helper) })
		}
	})
}

// TestStopWithStuckNotification ends the daemon while its helper, suspended, is to run
// the notification program.
func TestStopWithStuckNotification(t *testing.T) {
	r := newRig(t, "legacy", netlab.Layout{})
	r.installed()
	r.start(t, "notify_cmd=/bin/true")
	pid, _ := r.pid(), r.suspendHelper(t)
	r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
	r.kill(syscall.SIGTERM)
	r.awaitEnd(t, pid)
	r.wantClosed(t, "SIGTERM", false)
}

// awaitShell waits until the shell that reads the settings has written its process ID
// to a file.
func (r *rig) awaitShell(t testing.TB) (pid int) {
	t.Helper()
	await(t, "the shell", func() (is bool) {
		text, _ := os.ReadFile(r.path("shell"))
		var err error
		pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return err == nil
	})
	t.Cleanup(func() { syscall.Kill(-pid, syscall.SIGKILL) })
	if err := os.Remove(r.path("shell")); err != nil {
		t.Fatal(err)
	}
	return pid
}

// blocks are lines of an rc.conf at which the shell blocks until there is a file.
func (r *rig) blocks() string {
	return "echo $$ > " + r.path("shell.new") + "; mv " + r.path("shell.new") + " " + r.path("shell") +
		"\nuntil [ -e " + r.path("go") + " ]; do sleep 0.02; done"
}

// eachReader runs a test on a rig whose helper reads the settings, and on one whose
// daemon reads them itself.
func eachReader(t *testing.T, test func(t *testing.T, r *rig)) {
	for what, prepare := range map[string]func(*rig){"helper": (*rig).installed, "daemon": (*rig).replacing} {
		t.Run("read by the "+what, func(t *testing.T) {
			r := newRig(t, "legacy", netlab.Layout{})
			prepare(r)
			test(t, r)
		})
	}
}

// TestStopWhileSettingsAreRead ends the daemon while the shell that reads the settings
// blocks: the daemon does not wait for the shell.
func TestStopWhileSettingsAreRead(t *testing.T) {
	eachReader(t, func(t *testing.T, r *rig) {
		for _, first := range []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR2} {
			for _, end := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
				if out, err := r.run("-c", r.rcConf(t, "")); err != nil {
					t.Fatalf("the daemon does not start: %v: %s", err, out)
				}
				r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
				r.rcConf(t, r.blocks())
				pid := r.pid()
				r.kill(first)
				shell := r.awaitShell(t)
				r.kill(end)
				r.awaitEnd(t, pid)
				if !alive(shell) {
					t.Errorf("%v, then %v: the daemon ends after the shell", first, end)
				}
				r.wantClosed(t, first.String()+", then "+end.String(), false)
			}
		}
	})
}

// TestServesWhileSettingsAreRead has the daemon end for the next process, and demands
// that it serves clients until the settings are read, and leaves their ports open.
func TestServesWhileSettingsAreRead(t *testing.T) {
	eachReader(t, func(t *testing.T, r *rig) {
		if out, err := r.run("-c", r.rcConf(t, "")); err != nil {
			t.Fatalf("the daemon does not start: %v: %s", err, out)
		}
		r.rcConf(t, r.blocks())
		pid := r.pid()
		r.kill(syscall.SIGUSR2)
		r.awaitShell(t)
		r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
		if err := os.WriteFile(r.path("go"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		r.awaitEnd(t, pid)
		r.wantOpen(t, "after SIGUSR2")
	})
}
