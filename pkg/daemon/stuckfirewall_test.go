package daemon_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
)

// TestStatusWithHangingListing has iptables-save and ip6tables-save hang: neither status
// nor metrics say that all is well, at once as well as later.
func TestStatusWithHangingListing(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	r.replacing()
	r.start(t)
	r.says(t, "status", 0, "healthy: chains, jumps and rules in place")
	var restore []func()
	for _, name := range []string{"iptables-save", "ip6tables-save"} {
		restore = append(restore, r.stub(t, name, "exec sleep 1000"))
	}
	r.says(t, "status", 4, "firewall: unhealthy: IPv4: ")
	r.says(t, "status", 4, "; IPv6: ")
	for series, value := range r.metrics(t) {
		if strings.HasPrefix(series, "igdd_firewall_healthy") && value != 0 {
			t.Errorf("%s is %v", series, value)
		}
	}
	for _, f := range restore {
		f()
	}
	await(t, "a healthy status", func() bool { _, status := r.ctl(t, "status"); return status == 0 })
}

// holdLock makes the rig's own xtables lock, and returns a function that takes it as
// another program would, until what that returns is called.
func (r *rig) holdLock(t testing.TB) (hold func() (release func())) {
	t.Helper()
	path := r.path("xtables.lock")
	r.env = append(r.env, "XTABLES_LOCKFILE="+path)
	return func() func() {
		f, err := os.OpenFile(path, os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		await(t, "the lock", func() bool { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil })
		t.Cleanup(func() { f.Close() })
		return func() { f.Close() }
	}
}

// TestOperatorBesideALock deletes and blocks while another program holds the xtables
// lock: the operator is told that connections still arrive, and they end with the lock.
func TestOperatorBesideALock(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	hold := r.holdLock(t)
	r.start(t, "sandbox=no")
	for _, port := range []uint16{2000, 2001} {
		r.Clients[0].Echo(t, "tcp", fmt.Sprint(":", port))
		r.grant(t, mapping(natpmp.MapTCP, port, port, time.Hour))
	}
	release := hold()
	const left = "is done, but rules of closed mappings are still in the firewall: IPv4: "
	r.says(t, "delete tcp 2001", 1, left)
	r.says(t, "block 600 192.168.50.10 tcp 2000", 1, left)
	r.dial("tcp", 2000).Arrives(t)
	r.dial("tcp", 2001).Arrives(t)
	r.says(t, "history", 0, "tcp 2001: 1 mapping closed [rules of closed mappings are still in the firewall: IPv4: ")
	release()
	await(t, "the end of the rules", func() bool { return len(r.rulesOf(t, "nat", "MINIUPNPD")) == 0 })
	await(t, "word of that", func() bool { _, status := r.ctl(t, "delete", "tcp", "2001"); return status == 3 })
	r.dial("tcp", 2000).Blocked(t)
}

// TestSelftestBesideALock tests while another program holds the xtables lock: it names
// that as the cause.
func TestSelftestBesideALock(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	hold := r.holdLock(t)
	r.start(t, "sandbox=no")
	defer hold()()
	out, status := r.ctl(t, "selftest")
	const refused = "gets a TCP port: the daemon refused the request: firewall refused the rules"
	if status != 4 || !strings.Contains(out, refused) || strings.Count(out, "the xtables lock, find its holder") != 2 {
		t.Errorf("selftest: exit status %d, want 4, %q, and the lock for both protocols:\n%s", status, refused, out)
	}
}
