package netfilter

import (
	"slices"
	"strings"
)

// jump is a rule that calls another chain, and the chain that it is in.
type jump struct{ hook, rule string }

// matchingJumps returns the rules that equal the daemon's jumps, in its hooks.
func (c *chain) matchingJumps(l listing) []jump {
	var list []jump
	for _, h := range c.hooks {
		for _, device := range c.wan {
			if slices.Contains(l[h.chain], c.jumpRule(device)) {
				list = append(list, jump{h.chain, c.jumpRule(device)})
			}
		}
	}
	return list
}

// noteIntent records what the daemon will own after an edit. A chain that
// another program maintains is not owned.
func (c *chain) noteIntent(l listing, e edit) {
	switch e.op {
	case opCreate:
		if !l.has(c.name) {
			c.created = !c.foreign
			c.borrowed = c.foreign
		}
	case opInsert, opAppend:
		if j := (jump{e.chain, e.rule}); e.chain != c.name && !slices.Contains(c.jumps, j) {
			if c.hasOnlyOwnJumps(l, e.chain) {
				c.loneJumps = append(slices.Clip(c.loneJumps), j)
			}
			c.jumps = append(slices.Clip(c.jumps), j)
		}
	}
}

// hasOnlyOwnJumps reports whether a hook is a built-in chain with no rules but
// the daemon's jumps: the firewall is being loaded, or there is none.
func (c *chain) hasOnlyOwnJumps(l listing, name string) bool {
	foreign := func(rule string) bool { return !slices.Contains(c.jumps, jump{name, rule}) }
	return name == c.builtInHook().chain && !slices.ContainsFunc(l[name], foreign)
}

// disownJumps forgets the jumps that the firewall may have made. Of two copies
// among other rules one is the firewall's, and either of them will do. One that
// was added to a built-in chain without other rules may have been replaced when
// the firewall was loaded: if the daemon's chain has been flushed, or there are
// other rules now, and no other rules call the chain.
//
// A jump of the daemon's that is left behind calls an empty chain. One of the
// firewall's that is removed would be added again by the next start, in front
// of the firewall's rules.
func (c *chain) disownJumps(l listing) {
	flushed := c.applied.rules > 0 && len(l[c.name]) == 0
	isForeign := func(j jump) bool {
		device, _ := option(splitRule(j.rule), c.side)
		replaced := slices.Contains(c.loneJumps, j) && (flushed || !c.hasOnlyOwnJumps(l, j.hook)) && !c.isReachedByOthers(l, device)
		doubled := slices.Index(l[j.hook], j.rule) != lastIndex(l[j.hook], j.rule)
		return replaced || doubled && !c.hasOnlyOwnJumps(l, j.hook)
	}
	own := slices.DeleteFunc(slices.Clone(c.jumps), isForeign)
	lone := slices.DeleteFunc(slices.Clone(own), func(j jump) bool { return !slices.Contains(c.loneJumps, j) && !c.hasOnlyOwnJumps(l, j.hook) })
	c.jumps, c.loneJumps = own, lone
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

// forgetMissingJumps forgets the jumps that are not in the listing, changed by
// the edits.
func (c *chain) forgetMissingJumps(l listing, edits []edit) {
	isGone := func(j jump) bool {
		n := 0
		for _, rule := range l[j.hook] {
			if rule == j.rule {
				n++
			}
		}
		for _, e := range edits {
			switch {
			case e.chain != j.hook || e.rule != j.rule:
			case e.op == opDelete:
				n--
			default:
				n++
			}
		}
		return n <= 0
	}
	c.jumps = slices.DeleteFunc(slices.Clone(c.jumps), isGone)
}

// jumpEdits returns the edits after which the packets of each uplink reach c:
// by the rules of other programs, through any chains, or else by one jump of
// the daemon's. A second jump beside theirs would let in what they drop first.
func (c *chain) jumpEdits(l listing) []edit {
	if c.isOptional() {
		return nil
	}
	var edits []edit
	for _, device := range c.wan {
		removals, duplicates := c.jumpRemovals(l, device)
		edits = append(edits, duplicates...)
		switch {
		case c.isReachedByOthers(l, device):
			edits = append(edits, removals...)
		case len(removals) == 0:
			h := c.hook(l)
			edits = append(edits, edit{h.op, h.chain, c.jumpRule(device)})
		default:
			edits = append(edits, removals[:len(removals)-1]...)
		}
	}
	return edits
}

// jumpRemovals returns the edits that delete the daemon's jumps for the device,
// those in built-in chains first, and those that delete duplicates: copies
// without effect, because their chain has the same jump or one for a pattern of
// devices.
func (c *chain) jumpRemovals(l listing, device string) (removals, duplicates []edit) {
	text := c.jumpRule(device)
	for _, h := range slices.Backward(c.hooks) {
		same, copies := 0, 0
		for _, rule := range l[h.chain] {
			if !strings.HasSuffix(rule, c.name) {
				continue // quickly: a blocklist has thousands
			}
			if rule == text {
				copies++
			}
			if pattern, _ := option(splitRule(rule), c.side); covers(pattern, device) && rule == c.jumpRule(pattern) {
				same++
			}
		}
		removal := edit{opDelete, h.chain, text}
		for ; copies > 0 && same > 1; copies, same = copies-1, same-1 {
			duplicates = append(duplicates, removal)
		}
		if copies > 0 && slices.Contains(c.jumps, jump{h.chain, text}) {
			removals = append(removals, removal)
		}
	}
	return removals, duplicates
}

// isReachedByOthers reports whether rules of other programs send the packets of
// the device to c, directly or through other chains. Their other conditions do
// not matter: the administrator has chosen them.
func (c *chain) isReachedByOthers(l listing, device string) bool {
	visited := map[string]bool{c.name: true}
	for waiting := []string{c.name}; len(waiting) > 0; waiting = waiting[1:] {
		for _, call := range l.jumpsTo(waiting[0]) {
			switch {
			case visited[call.hook] || slices.Contains(c.jumps, call) || !matchesDevice(splitRule(call.rule), c.side, device):
			case slices.ContainsFunc(c.hooks, func(h hook) bool { return h.chain == call.hook }):
				return true
			default:
				visited[call.hook] = true
				waiting = append(waiting, call.hook)
			}
		}
	}
	return false
}
