package daemon_test

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
)

// newGameRig makes a lab of two consoles with a daemon, and maps the consoles' port to
// itself for the first, and to another one, which it returns, for the second.
func newGameRig(t testing.TB, variant string, start func(*rig), nat ...string) (*rig, uint16) {
	t.Helper()
	r := newConsolesRig(t, variant, netlab.Layout{}, nat...)
	start(r)
	r.mapGame(t, 0, "natpmp", gamePort)
	return r, r.mapGame(t, 1, "natpmp", gamePort)
}

// awaitOutbound waits until these rules are all outbound rules that there are, in any
// order.
func (r *rig) awaitOutbound(t testing.TB, when string, want ...string) {
	t.Helper()
	slices.Sort(want)
	await(t, fmt.Sprintf("%s the outbound rules %q", when, want), func() bool {
		return slices.Equal(slices.Sorted(slices.Values(r.outboundRules(t))), want)
	})
}

// awaitInFront waits until the jump to the outbound rules, with the matches of the
// administrator's rule, is directly in front of that, and nowhere else.
func (r *rig) awaitInFront(t testing.TB, when, own string) {
	t.Helper()
	matches, _, _ := strings.Cut(own, " -j ")
	jump := matches + " -j " + outboundChain
	await(t, when+" "+jump, func() bool {
		saved := r.ipt(t, "-t", "nat", "-S")
		return strings.Contains(saved, jump+"\n"+own+"\n") && strings.Count(saved, "-j "+outboundChain+"\n") == 1
	})
}

// TestOutboundSettings changes the setting and reads it again.
func TestOutboundSettings(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r, second := newGameRig(t, variant, func(r *rig) { r.start(t, "outbound=no") }, masquerade)
		without := r.ipt(t, "-t", "nat", "-S")
		equal, other := outboundRule("wan0", 0, gamePort), outboundRule("wan0", 1, second)
		for _, step := range []struct {
			settings []string
			want     []string
		}{
			{[]string{"outbound=no"}, nil},
			{nil, []string{other}}, // the default
			{[]string{"outbound=yes"}, []string{equal, other}},
			{[]string{"outbound=auto"}, []string{other}},
			{[]string{"outbound=no"}, nil},
		} {
			r.configure(t, step.settings...)
			r.kill(syscall.SIGHUP)
			r.awaitOutbound(t, fmt.Sprintf("with %q", step.settings), step.want...)
		}
		await(t, "table nat without the setting's traces", func() bool { return r.ipt(t, "-t", "nat", "-S") == without })
	})
}

// TestOutboundYes demands rules for a port that is mapped to itself, too.
func TestOutboundYes(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r, second := newGameRig(t, variant, func(r *rig) { r.start(t, "outbound=yes") }, masquerade)
		consoles := r.consoles(t)
		r.demandOpenNAT(t, consoles[1], byUplink(second))
		r.demandOpenNAT(t, consoles[0], byUplink(gamePort))
		r.awaitOutbound(t, "with both", outboundRule("wan0", 0, gamePort), outboundRule("wan0", 1, second))
	})
}

// TestOutboundRulesGo has the mapping, or the daemon, end.
func TestOutboundRulesGo(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newConsolesRig(t, variant, netlab.Layout{}, masquerade)
		before := r.ipt(t, "-t", "nat", "-S")
		r.start(t)
		r.mapGame(t, 0, "natpmp", gamePort)
		want := outboundRule("wan0", 1, r.mapGame(t, 1, "natpmp", gamePort))
		r.awaitOutbound(t, "after the mapping", want)
		r.natpmpMap(t, r.Clients[1], client2, mapping(natpmp.MapUDP, gamePort, 0, 0))
		r.awaitOutbound(t, "after its deletion")

		want = outboundRule("wan0", 1, r.mapGame(t, 1, "natpmp", 5000))
		mapped := r.ipt(t, "-t", "nat", "-S")
		r.stop(t, syscall.SIGKILL)
		if out, err := r.launch(); err != nil {
			t.Fatalf("the start after a crash: %v: %s", err, out)
		}
		r.awaitOutbound(t, "after a crash", want)
		if after := r.ipt(t, "-t", "nat", "-S"); after != mapped {
			t.Errorf("after a crash:\n%s\nwant\n%s", after, mapped)
		}
		r.stop(t, syscall.SIGKILL)
		r.start(t, "outbound=no")
		if left := r.ipt(t, "-t", "nat", "-S"); strings.Contains(left, "OUTBOUND") || len(r.outboundRules(t)) > 0 {
			t.Errorf("after a crash, and a start with outbound=no:\n%s", left)
		}
		r.stop(t, syscall.SIGTERM)
		if after := r.ipt(t, "-t", "nat", "-S"); after != before {
			t.Errorf("after the end:\n%s\nwant\n%s", after, before)
		}
	})
}

// TestOutboundRepairs has the administrator, or another program, change the rules.
func TestOutboundRepairs(t *testing.T) {
	t.Parallel()
	const plain, snat = "-A POSTROUTING -o wan0 -j MASQUERADE", "-A POSTROUTING -s 192.168.50.0/24 -o wan0 -j SNAT --to-source 11.22.33.44"
	bothVariants(t, func(t *testing.T, variant string) {
		r, second := newGameRig(t, variant, func(r *rig) { r.start(t) }, plain)
		console, want := r.consoles(t)[1], outboundRule("wan0", 1, second)
		r.awaitInFront(t, "at first", plain)
		for _, step := range []struct{ what, commands, own string }{
			{"the firewall is made anew", "-F; -X; " + plain, plain},
			{"the jump is deleted", "-D POSTROUTING 1", plain},
			{"the rules are deleted", "-F " + outboundChain, plain},
			{"SNAT takes the place of MASQUERADE", "-D " + strings.TrimPrefix(plain, "-A ") + "; " + snat, snat},
			{"a rule is put in front of the jump", "-I POSTROUTING -d 10.9.0.0/16 -j ACCEPT", snat},
			{"a rule is put behind the jump", "-I POSTROUTING 3 -d 10.8.0.0/16 -j ACCEPT", snat},
		} {
			r.atOnce(t, "nat", step.commands)
			r.awaitInFront(t, "after: "+step.what, step.own)
			r.awaitOutbound(t, "after: "+step.what, want)
			r.demandOpenNAT(t, console, byUplink(second))
		}
	})
}

// TestOutboundCannotBeJudged has an administrator's rule of which nobody knows which
// packets it translates: there are no outbound rules, the log says so once, and so does
// explain. What comes in is mapped all the same.
func TestOutboundCannotBeJudged(t *testing.T) {
	t.Parallel()
	for _, match := range []string{"statistic --mode random --probability 0.5", "mark --mark 0x1", "recent --rcheck --name x"} {
		t.Run(strings.Fields(match)[0], func(t *testing.T) {
			t.Parallel()
			bothVariants(t, func(t *testing.T, variant string) {
				r, second := newGameRig(t, variant, func(r *rig) { r.foreground(t) }, "-A POSTROUTING -o wan0 -m "+match+" -j MASQUERADE")
				r.grant(t, mapping(natpmp.MapUDP, 4000, 4001, time.Hour))
				r.grant(t, mapping(natpmp.MapTCP, 4000, 4001, time.Hour))
				if list := r.outboundRules(t); len(list) > 0 {
					t.Errorf("outbound rules: %q", list)
				}
				if n := strings.Count(r.log(t), "what hosts send may leave by another port"); n != 1 {
					t.Errorf("%d log lines, want one", n)
				}
				r.says(t, fmt.Sprintf("explain 192.168.50.11 udp %d %d as natpmp", second, gamePort), 0, "perhaps by another port: it is not known which packets this rule translates: ")
				r.Clients[0].Echo(t, "tcp", "192.168.50.10:4000")
				r.dial("tcp", 4001).Arrives(t)
			})
		})
	}
}
