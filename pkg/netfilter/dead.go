package netfilter

import (
	"fmt"

	"igdd/pkg/xtables"
)

// dead returns why connections do not get to the chain: one reason for each uplink,
// protocol and LAN, or for several of them together.
func (c *chain) dead(s xtables.Snapshot, n Network) (list []string) {
	if c.side == "-o" || c.isHairpin() {
		return nil
	}
	t := s[c.table].After(xtables.Edit{Op: xtables.Flush, Chain: c.name})
	for _, x := range c.crossings(n) {
		w := x.follow(t, x.packets())
		if early, ok := x.stoppedEarly(s, x.packets()); ok {
			w = early
		}
		if reason := x.reason(w); reason != "" {
			list = append(list, reason)
		}
	}
	return list
}

// reason returns why connections do not get to the chain, "" if they do.
func (x crossing) reason(w way) string {
	what := "connections from " + x.packets().In
	switch dead := w.deadProtocols(); len(dead) {
	case 0:
		return ""
	case 1:
		what = dead[0] + " " + what
	}
	if len(x.ways(x.device, x.network)) > 1 {
		what += " to " + x.lan
	}
	return fmt.Sprintf("%s do not get to chain %s of table %s: %s", what, x.name, x.table, w.blocker)
}

// stoppedEarly returns what happens to connections in the tables before the
// chain's, if all of one protocol are stopped there.
func (c *chain) stoppedEarly(s xtables.Snapshot, p xtables.Packet) (w way, ok bool) {
	for _, at := range c.earlier() {
		w = way{blocker: fmt.Sprintf("the policy of chain %s of table %s", at[1], at[0])}
		walk := xtables.Walk{Table: s[at[0]], Name: at[0], Packet: p}
		walk.Visit = func(s xtables.Step) xtables.Effect {
			if xtables.Stops(s.Target) && len(s.Must) > 0 {
				w.blocker = s.String()
			}
			return xtables.EffectOf(s.Target)
		}
		if w.reached = walk.Filter(at[1], xtables.EveryPort()).Passes; !w.isOpen() {
			return w, true
		}
	}
	return w, false
}

// earlier returns the chains, with their tables, that connections pass between the
// daemon's chain before this one and this one.
func (c *chain) earlier() [][2]string {
	before, after := [...][2]string{{"raw", "PREROUTING"}, {"mangle", "PREROUTING"}}, [2]string{"mangle", "FORWARD"}
	switch {
	case c.table == "nat":
		return before[:]
	case c.family.name == "iptables":
		return [][2]string{after}
	}
	return append(before[:], after)
}
