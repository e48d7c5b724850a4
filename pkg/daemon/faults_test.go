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

// writeManyLeases writes a lease file with many mappings, as the C daemon left it.
func (r *rig) writeManyLeases(t testing.TB) {
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

// atOnce carries out commands on one table in one transaction, so that the daemon
// restores nothing between them.
func (r *rig) atOnce(t testing.TB, table, commands string) {
	t.Helper()
	cmd := r.Router.Command("/usr/sbin/iptables-"+r.variant+"-restore", "--noflush", "--wait", "10")
	cmd.Stdin = strings.NewReader("*" + table + "\n" + strings.ReplaceAll(commands, "; ", "\n") + "\nCOMMIT\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s in table %s: %v: %s", commands, table, err, out)
	}
}

// TestFaultsOfTheFirewall damages the chains as other programs do, and demands that
// the daemon restores them exactly, without a request from a client.
func TestFaultsOfTheFirewall(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		if variant == "nft" {
			netlab.NeedRoot(t, "a large nft transaction")
		}
		r := newRig(t, variant, netlab.Layout{})
		r.installed()
		r.writeManyLeases(t)
		r.start(t)
		want, leases := r.chains(t), r.leases(t)
		if n := strings.Count(want, "\n"); n != 2*many+2 {
			t.Fatalf("%d rules and jumps after the start, want %d", n, 2*many+2)
		}
		for _, fault := range []struct{ what, filter, nat string }{
			{"everything is flushed", "-F", "-F"},
			{"everything is flushed and every chain deleted", "-F; -X", "-F; -X"},
			{"a chain is deleted", "-D FORWARD -i wan0 ! -o wan0 -j MINIUPNPD; -F MINIUPNPD; -X MINIUPNPD", ""},
			{"a jump is missing", "", "-D PREROUTING -i wan0 -j MINIUPNPD"},
			{"a jump is doubled", "-A FORWARD -i wan0 ! -o wan0 -j MINIUPNPD", ""},
			{"a rule is deleted by hand", "", "-D MINIUPNPD 500"},
			{"a rule is replaced by hand", "", "-R MINIUPNPD 500 -p tcp --dport 9 -j DNAT --to-destination 192.168.50.10:9"},
			{"a rule is added by hand", "-A MINIUPNPD -p tcp --dport 22 -j ACCEPT", ""},
		} {
			t.Run(fault.what, func(t *testing.T) {
				r.atOnce(t, "filter", fault.filter)
				r.atOnce(t, "nat", fault.nat)
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
