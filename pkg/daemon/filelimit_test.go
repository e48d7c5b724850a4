package daemon_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
)

// runLimited runs the daemon like run, with a limit of open files.
func (r *rig) runLimited(limit string, args ...string) (string, error) {
	args = append([]string{"-c", `ulimit -n "$1" && shift && exec "$@"`, "sh", limit, r.program}, args...)
	cmd := r.Router.Command("/bin/sh", append(args, "-P", r.path("pid"))...)
	cmd.Env = r.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestLimitOfOpenFiles starts the daemon with limits that are too low: it refuses, and
// says what to do. With nothing enabled it closes ports all the same.
func TestLimitOfOpenFiles(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	r.configure(t)
	conf := r.path("miniupnpd.conf")
	for _, limit := range []string{"28", "32", "63"} {
		if out, err := r.runLimited(limit, "-f", conf); err == nil || !strings.Contains(out, "open files is "+limit) || !strings.Contains(out, "ulimit -n 1024") {
			t.Errorf("limit %s: %v, printed %q", limit, err, out)
		}
	}
	if out, err := r.runLimited("64", "-f", conf); err != nil {
		t.Fatalf("limit 64: %v: %s", err, out)
	}
	r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
	r.stop(t, syscall.SIGKILL)
	if out, err := r.runLimited("32", "-c", "/dev/null", "-i", "lo"); err != nil {
		t.Errorf("closing with limit 32: %v: %s", err, out)
	}
	r.wantClosed(t, "with limit 32", false)
}
