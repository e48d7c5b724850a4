package daemon_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
)

// TestStatusWithoutLock removes the folder of the xtables lock, so that no rule can be
// changed, although all are in place: the status says so, until the folder is back.
func TestStatusWithoutLock(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	folder := r.path("lock")
	r.env = append(r.env, "XTABLES_LOCKFILE="+folder+"/xtables.lock")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	r.start(t, "sandbox=no")
	r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
	r.says(t, "status", 0, "healthy: chains, jumps and rules in place")
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	r.says(t, "status", 4, "unhealthy: IPv4: iptables cannot open the xtables lock "+folder)
	if err := errors.Join(r.handOver(), r.handOver()); err != nil { // there is nothing to do in the kernel
		t.Fatal(err)
	}
	r.says(t, "status", 4, "unhealthy: IPv4: iptables cannot open the xtables lock "+folder)
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	await(t, "a healthy firewall", func() bool {
		out, status := r.ctl(t, "status")
		return status == 0 && strings.Contains(out, "healthy: chains")
	})
	r.grant(t, mapping(natpmp.MapTCP, 4001, 4001, time.Hour))
}
