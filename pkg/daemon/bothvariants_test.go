package daemon_test

import (
	"strings"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
)

// TestRulesOfTheOtherVariant has another program use the variant of iptables that
// the daemon does not use: the operator is told while it stops mappings.
func TestRulesOfTheOtherVariant(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{})
		r.installed() // with as few privileges as it leaves
		r.foreground(t)
		r.grant(t, mapping(natpmp.MapTCP, 4000, 40000, time.Hour))
		r.Clients[0].Echo(t, "tcp", "192.168.50.10:4000")
		r.dial("tcp", 40000).Arrives(t)
		r.says(t, "status", 0, "healthy: chains, jumps and rules in place")
		other := "iptables-legacy"
		if variant == "legacy" {
			other = "iptables-nft"
		}
		reason := "mappings do not work: the rules of " + other + " stop them: filter FORWARD policy DROP"
		for range 2 {
			r.Router.Run(t, "/usr/sbin/"+other, "-P", "FORWARD", "DROP")
			r.dial("tcp", 40000).Blocked(t)
			await(t, "the reason in the status", func() bool {
				out, _ := r.ctl(t, "status")
				return strings.Contains(strings.Join(strings.Fields(out), " "), reason)
			})
			r.says(t, "selftest", 4, reason)
			if log := r.log(t); !strings.Contains(log, reason) {
				t.Errorf("the log does not say so:\n%s", log)
			}
			r.Router.Run(t, "/usr/sbin/"+other, "-P", "FORWARD", "ACCEPT")
			r.dial("tcp", 40000).Arrives(t)
			await(t, "the reason to go", func() bool {
				out, _ := r.ctl(t, "status")
				return strings.Contains(out, "healthy: chains, jumps and rules in place")
			})
		}
	})
}
