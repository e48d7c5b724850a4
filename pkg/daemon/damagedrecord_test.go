package daemon_test

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"igdd/pkg/netlab"
)

// TestClosingAfterCrashWithDamagedRecord kills the daemon, damages its ownership record
// and has the program close the ports, as the init script does: it closes them, says
// what is wrong, and its exit status is an error.
func TestClosingAfterCrashWithDamagedRecord(t *testing.T) {
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{})
		record := r.path("pid.chains")
		for what, damage := range map[string]func() error{
			"is damaged":                       func() error { return os.Truncate(record, 0) },
			"is not a regular file: remove it": func() error { return errors.Join(os.Remove(record), os.Mkdir(record, 0o755)) },
		} {
			r.open(t)
			r.stop(t, syscall.SIGKILL)
			if err := damage(); err != nil {
				t.Fatal(err)
			}
			out, err := r.run("-c", "/dev/null", "-i", "lo")
			if err == nil || !strings.Contains(out, what) {
				t.Errorf("the record %s: %v, printed %q", what, err, out)
			}
			if rules, _ := r.state(t); rules != 0 {
				t.Errorf("the record %s: %d rules are left:\n%s", what, rules, r.chains(t))
			}
			os.Remove(record)
			if out, err := r.run("-c", "/dev/null", "-i", "lo"); err != nil {
				t.Errorf("with no record: %v: %s", err, out)
			}
		}
	})
}
