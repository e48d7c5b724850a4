package netfilter

import (
	"slices"

	"igdd/pkg/xtables"
)

// matchingJumps returns the rules that equal the daemon's jumps, in its hooks.
func (c *chain) matchingJumps(t xtables.Table) []xtables.Jump {
	var list []xtables.Jump
	for _, h := range c.hooks {
		for _, device := range c.wan {
			if slices.Contains(t.Rules(h.chain), c.jumpRule(device)) {
				list = append(list, xtables.Jump{Chain: h.chain, Rule: c.jumpRule(device)})
			}
		}
	}
	return list
}

// noteIntent records what the daemon will own after an edit. A chain that
// another program maintains is not owned.
func (c *chain) noteIntent(t xtables.Table, e xtables.Edit) {
	switch e.Op {
	case xtables.Create:
		if !t.Has(c.name) {
			c.created = !c.foreign
			c.borrowed = c.foreign
		}
	case xtables.Insert, xtables.Append:
		if j := (xtables.Jump{Chain: e.Chain, Rule: e.Rule}); e.Chain != c.name && !slices.Contains(c.jumps, j) {
			if c.hasOnlyOwnJumps(t, e.Chain) {
				c.loneJumps = append(slices.Clip(c.loneJumps), j)
			}
			c.jumps = append(slices.Clip(c.jumps), j)
		}
	}
}

// hasOnlyOwnJumps reports whether a hook is a built-in chain with no rules but
// the daemon's jumps: the firewall is being loaded, or there is none.
func (c *chain) hasOnlyOwnJumps(t xtables.Table, name string) bool {
	foreign := func(rule string) bool { return !c.family.ownsJump(c.table, xtables.Jump{Chain: name, Rule: rule}) }
	return name == c.builtInHook().chain && !slices.ContainsFunc(t.Rules(name), foreign)
}

// ownsJump reports whether a jump in a table is the daemon's.
func (f *family) ownsJump(table string, j xtables.Jump) bool {
	return slices.ContainsFunc(f.chains, func(c *chain) bool { return c.table == table && slices.Contains(c.jumps, j) })
}

// disownJumps forgets the jumps that the firewall may have made. Of two copies
// among other rules that do the same, one is the firewall's, and either of them
// will do. One that was added to a built-in chain without other rules may have been
// replaced when the firewall was loaded: if the daemon's chain is empty, and no
// other rules call it.
//
// A jump of the daemon's that is left behind calls an empty chain. One of the
// firewall's that is removed would be added again by the next start, in front
// of the firewall's rules.
func (c *chain) disownJumps(t xtables.Table) {
	isForeign := func(j xtables.Jump) bool {
		device := xtables.ParseRule(j.Rule).Condition(c.side).Value
		replaced := slices.Contains(c.loneJumps, j) && c.mayBeReloaded(t, j, device) && !c.isCalledByOthers(t, device)
		rules := t.Rules(j.Chain)
		doubled := slices.Index(rules, j.Rule) != lastIndex(rules, j.Rule) && !c.isNeededFor(t, j, device, Network{})
		return replaced || doubled && !c.hasOnlyOwnJumps(t, j.Chain)
	}
	own := slices.DeleteFunc(slices.Clone(c.jumps), isForeign)
	lone := slices.DeleteFunc(slices.Clone(own), func(j xtables.Jump) bool {
		return !slices.Contains(c.loneJumps, j) && !c.hasOnlyOwnJumps(t, j.Chain)
	})
	c.jumps, c.loneJumps = own, lone
}

// mayBeReloaded reports whether the firewall may have been loaded since the daemon
// added a jump: its chain has been flushed, or it was empty, there are other rules
// now, and the jump is where the daemon might have added it among them. If it is in
// front of a rule that stops some connections only, the daemon has to move it.
func (c *chain) mayBeReloaded(t xtables.Table, j xtables.Jump, device string) bool {
	switch {
	case len(t.Rules(c.name)) > 0:
		return false
	case c.rules > 0:
		return true
	case c.hasOnlyOwnJumps(t, j.Chain):
		return false
	}
	without := t.After(xtables.Edit{Op: xtables.Delete, Chain: j.Chain, Rule: j.Rule})
	at := place{j.Chain, slices.Index(t.Rules(j.Chain), j.Rule)}
	return c.side == "-o" || crossing{c, device, "", Network{}}.suits(without, at)
}

// lastIndex returns the index of the last copy of a rule, -1 if there is none.
func lastIndex(rules []string, rule string) int {
	for i, r := range slices.Backward(rules) {
		if r == rule {
			return i
		}
	}
	return -1
}

// forgetMissingJumps forgets the jumps that are not in the listing.
func (c *chain) forgetMissingJumps(t xtables.Table) {
	c.jumps = slices.DeleteFunc(slices.Clone(c.jumps), func(j xtables.Jump) bool {
		return !slices.Contains(t.Rules(j.Chain), j.Rule)
	})
}

// isCalledByOthers reports whether rules of other programs send any packets of
// the device to c, directly or through other chains.
func (c *chain) isCalledByOthers(t xtables.Table, device string) bool {
	visited := map[string]bool{c.name: true}
	for waiting := []string{c.name}; len(waiting) > 0; waiting = waiting[1:] {
		for _, call := range t.JumpsTo(waiting[0]) {
			switch {
			case visited[call.Chain] || slices.Contains(c.jumps, call) || !xtables.ParseRule(call.Rule).MatchesDevice(c.side, device):
			case slices.ContainsFunc(c.hooks, func(h hook) bool { return h.chain == call.Chain }):
				return true
			default:
				visited[call.Chain] = true
				waiting = append(waiting, call.Chain)
			}
		}
	}
	return false
}
