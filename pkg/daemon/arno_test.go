package daemon_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
)

// state returns how many rules and jumps the daemon's chains have.
func (r *rig) state(t testing.TB) (rules, jumps int) {
	t.Helper()
	saved := r.Router.Run(t, "/usr/sbin/iptables-"+r.variant+"-save")
	return strings.Count(saved, "-A MINIUPNPD "), strings.Count(saved, "-j MINIUPNPD\n")
}

// awaitState waits until the firewall has so many rules and jumps.
func (r *rig) awaitState(t testing.TB, rules, jumps int) {
	t.Helper()
	await(t, fmt.Sprintf("%d rules and %d jumps", rules, jumps), func() bool {
		gotRules, gotJumps := r.state(t)
		return gotRules == rules && gotJumps == jumps
	})
}

// TestBesideArno restarts and stops the firewall as AstLinux does.
func TestBesideArno(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{})
		r.installed()
		arno := netlab.NewArno(t, r.Router, variant)
		arno.Do(t, "start")
		r.start(t)
		r.Clients[0].Echo(t, "tcp", "192.168.50.10:4000")
		r.grant(t, mapping(natpmp.MapTCP, 4000, 4001, time.Hour))
		r.dial("tcp", 4001).Arrives(t)
		if hooked := r.rulesOf(t, "filter", "POST_FORWARD_CHAIN"); len(hooked) != 1 {
			t.Errorf("POST_FORWARD_CHAIN = %q, want one jump", hooked)
		}
		for _, step := range []struct {
			what   string
			plugin bool
			verbs  []string
		}{
			{"a restart without the plugin", false, []string{"restart"}},
			{"a restart with the plugin switched on since, which hooks nothing", true, []string{"restart"}},
			{"a restart with the plugin, which adds its own jumps", true, []string{"restart"}},
			{"stop and start, after which the plugin's chains are empty", true, []string{"stop", "start"}},
		} {
			t.Run(step.what, func(t *testing.T) {
				arno.Plugin(t, step.plugin)
				for _, verb := range step.verbs {
					arno.Do(t, verb)
				}
				r.awaitState(t, 2, 2)
				r.dial("tcp", 4001).Arrives(t)
			})
		}
		arno.Do(t, "stop")
		resp := r.natpmpMap(t, r.Clients[0], client1, mapping(natpmp.MapTCP, 4002, 4002, time.Hour))
		if resp.Result == natpmp.Success {
			t.Error("a mapping is granted while the firewall is stopped")
		}
	})
}
