package daemon_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
)

// supervise starts the daemon as a supervisor does, with a syslogd at the rig's
// /dev/log that the test can read, and further variables.
func (r *rig) supervise(t testing.TB, more ...string) *exec.Cmd {
	t.Helper()
	cmd := r.Router.Command("sh", "-c", withSyslogd, "sh", r.path("log"), r.program, "-D", "-f", r.path("miniupnpd.conf"), "-P", r.path("pid"))
	cmd.Env, cmd.Stderr = slices.Concat(r.env, more), new(strings.Builder)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	return cmd
}

// awaitDatagram waits for a datagram that contains a text.
func awaitDatagram(t testing.TB, c net.Conn, text string) {
	t.Helper()
	b := make([]byte, 4096)
	for {
		n, err := c.Read(b)
		if err != nil {
			t.Fatalf("waited in vain for %q: %v", text, err)
		}
		if strings.Contains(string(b[:n]), text) {
			return
		}
	}
}

// TestSupervised runs the daemon as systemd does: it stays in the foreground, logs to
// syslogd, and tells systemd when it is ready. Told to stop, it ends with status 0.
func TestSupervised(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	r.installed()
	r.configure(t)
	syslogd := r.listenSyslog(t)
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: r.path("notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { systemd.Close() })
	systemd.SetReadDeadline(time.Now().Add(2 * patience))
	cmd := r.supervise(t, "NOTIFY_SOCKET="+r.path("notify"))
	awaitDatagram(t, systemd, "READY=1")
	r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
	awaitDatagram(t, syslogd, "Listening for NAT-PMP/PCP")
	if env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pidOf(t, children(r.pid())["igdd-helper"]))); err != nil || strings.Contains(string(env), "NOTIFY_SOCKET") {
		t.Errorf("the helper can tell systemd, too: %v: %q", err, env)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if text := cmd.Stderr.(*strings.Builder).String(); text != "" {
		t.Errorf("standard error: %s", text)
	}
}

// TestSupervisedWithoutSettings demands that a supervisor can tell settings that
// another start does not change from other failures: invalid ones, and those that
// enable nothing.
func TestSupervisedWithoutSettings(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	for setting, statuses := range map[string]map[string]int{
		"ext_ifname=":      {"-D": 78, "-d": 1, "-v": 1},
		"enable_natpmp=no": {"-D": 78, "-d": 0, "-v": 0},
	} {
		r.configure(t, setting)
		for flag, want := range statuses {
			cmd := r.Router.Command(r.program, flag, "-f", r.path("miniupnpd.conf"), "-P", r.path("pid"))
			cmd.Env = r.env
			if cmd.Run(); cmd.ProcessState.ExitCode() != want {
				t.Errorf("%s, %s: %v, want exit status %d", setting, flag, cmd.ProcessState, want)
			}
		}
	}
}

// endHelper kills the helper of the daemon.
func (r *rig) endHelper(t testing.TB) {
	t.Helper()
	syscall.Kill(pidOf(t, children(r.pid())["igdd-helper"]), syscall.SIGKILL)
}

// TestHelperEnds kills the helper of a daemon in the background: the daemon goes on,
// says at once what is missing, and ends leases.
func TestHelperEnds(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{})
		r.installed()
		r.foreground(t)
		r.externalAddr(t)
		if out, status := r.ctl(t, "status"); status != 0 || strings.Contains(out, "helper") {
			t.Errorf("exit status %d:\n%s", status, out)
		}
		r.endHelper(t)
		await(t, "word of it in the log", func() bool {
			return strings.Contains(r.log(t), "the helper process has ended (signal: killed); restart the daemon")
		})
		r.says(t, "status", 4, "helper: unhealthy: the helper process has ended (signal: killed); restart the daemon")
		r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
		r.grant(t, mapping(natpmp.MapTCP, 4001, 4001, time.Second))
		await(t, "the end of the short lease", func() bool { return !strings.Contains(r.chains(t), "--dport 4001 ") })
		r.kill(syscall.SIGHUP)
		await(t, "word of the settings", func() bool { return strings.Contains(r.log(t), "keeping the current ones") })
		if chains := r.chains(t); !strings.Contains(chains, "--dport 4000 ") {
			t.Errorf("the mapping has no rules:\n%s", chains)
		}
		if n := strings.Count(r.log(t), "the notification program"); n != 1 {
			t.Errorf("the log says %d times what is missing", n)
		}
	})
}

// TestHelperEndsUnderSupervisor kills the helper of a daemon that a supervisor starts
// again: the daemon removes its rules and ends with an error, and the next one has the
// mappings.
func TestHelperEndsUnderSupervisor(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	r.installed()
	r.configure(t)
	syslogd := r.listenSyslog(t)
	for range 2 {
		cmd := r.supervise(t)
		awaitDatagram(t, syslogd, "Listening for NAT-PMP/PCP")
		r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
		r.endHelper(t)
		if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 1 {
			t.Errorf("the daemon ends with %v", err)
		}
		if chains := r.chains(t); strings.Contains(chains, "--dport 4000 ") {
			t.Errorf("rules are left:\n%s", chains)
		}
		if leases := r.leases(t); !strings.HasPrefix(leases[0], "TCP:4000:") {
			t.Errorf("the leases are %q", leases)
		}
	}
}
