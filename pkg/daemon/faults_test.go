package daemon_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/netlab"
)

// many is how many mappings are present while faults happen.
const many = 1000

// stock writes a lease file with many mappings, as the C daemon left it.
func (r *rig) stock(t testing.TB) {
	t.Helper()
	var b strings.Builder
	ends := time.Now().Add(time.Hour).Unix()
	for i := range many {
		fmt.Fprintf(&b, "TCP:%d:192.168.50.10:%d:%d:mapping %d\n", 10000+i, 10000+i, ends, i)
	}
	if err := os.WriteFile(r.path("upnp.leases"), []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// chains returns everything in the firewall that is the daemon's, sorted.
func (r *rig) chains(t testing.TB) string {
	t.Helper()
	saved := r.Router.Run(t, "/usr/sbin/iptables-"+r.variant+"-save")
	var ours []string
	for line := range strings.Lines(saved) {
		if strings.Contains(line, "MINIUPNPD") && !strings.HasPrefix(line, ":") {
			ours = append(ours, line)
		}
	}
	slices.Sort(ours)
	return strings.Join(ours, "")
}

// TestFaultsOfTheFirewall does to the chains what others do to them, and
// demands that everything is there again, exactly, without a client's help.
func TestFaultsOfTheFirewall(t *testing.T) {
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{})
		r.stock(t)
		r.start(t)
		want, leases := r.chains(t), r.leases(t)
		if n := strings.Count(want, "\n"); n != 2*many+2 {
			t.Fatalf("%d rules and jumps after the start, want %d", n, 2*many+2)
		}
		for _, fault := range []struct{ what, does string }{
			{"everything is flushed", "-F; -t nat -F"},
			{"everything is flushed and every chain deleted", "-F; -X; -t nat -F; -t nat -X"},
			{"a chain is deleted", "-D FORWARD -i wan0 ! -o wan0 -j MINIUPNPD; -F MINIUPNPD; -X MINIUPNPD"},
			{"a jump is missing", "-t nat -D PREROUTING -i wan0 -j MINIUPNPD"},
			{"a jump is doubled", "-A FORWARD -i wan0 ! -o wan0 -j MINIUPNPD"},
			{"a rule is deleted by hand", "-t nat -D MINIUPNPD 500"},
			{"a rule is replaced by hand", "-t nat -R MINIUPNPD 500 -p tcp --dport 9 -j DNAT --to-destination 192.168.50.10:9"},
			{"a rule is added by hand", "-A MINIUPNPD -p tcp --dport 22 -j ACCEPT"},
		} {
			t.Run(fault.what, func(t *testing.T) {
				for _, command := range strings.Split(fault.does, "; ") {
					r.ipt(t, strings.Fields(command)...)
				}
				began := time.Now()
				await(t, "the rules to be as they were", func() bool { return r.chains(t) == want })
				t.Logf("repaired after %v", time.Since(began).Round(10*time.Millisecond))
				if got := r.leases(t); !slices.Equal(got, leases) {
					t.Errorf("leases changed from %d to %d lines", len(leases), len(got))
				}
			})
		}
		r.stop(t, syscall.SIGTERM)
		if left := r.chains(t); left != "" {
			t.Errorf("left behind:\n%s", left)
		}
	})
}
