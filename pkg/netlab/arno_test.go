package netlab_test

import (
	"strings"
	"testing"

	"igdd/pkg/netlab"
)

func TestArnoTreatsTheChainsAsAstLinuxDoes(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{})
	arno := netlab.NewArno(t, lab.Router, "legacy")
	for _, step := range []struct {
		plugin bool
		verb   string
		jumps  int
	}{{true, "start", 2}, {true, "restart", 2}, {false, "stop", 0}} {
		arno.Plugin(t, step.plugin)
		arno.Do(t, step.verb)
		saved := lab.Router.Run(t, "/usr/sbin/iptables-legacy-save")
		if got := strings.Count(saved, "-j MINIUPNPD\n"); got != step.jumps {
			t.Errorf("after %s with plugin %v: %d jumps, want %d", step.verb, step.plugin, got, step.jumps)
		}
	}
}
