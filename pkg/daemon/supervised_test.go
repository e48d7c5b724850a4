package daemon_test

import (
	"errors"
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

// TestSupervisedWithoutSettings demands that a supervisor can tell invalid settings,
// which another start does not change, from other failures.
func TestSupervisedWithoutSettings(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	r.configure(t, "ext_ifname=")
	for flag, want := range map[string]int{"-D": 78, "-d": 1, "-v": 1} {
		_, err := r.run(flag, "-f", r.path("miniupnpd.conf"))
		if failed, is := errors.AsType[*exec.ExitError](err); !is || failed.ExitCode() != want {
			t.Errorf("%s: %v, want exit status %d", flag, err, want)
		}
	}
}
