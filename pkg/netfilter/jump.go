package netfilter

import (
	"slices"
	"strings"
)

// jump is a rule that leads to a chain of ours, and the chain that it is in.
type jump struct{ hook, rule string }

// alike returns the rules that stand where we make jumps and are as ours.
func (c *chain) alike(l listing) []jump {
	var list []jump
	for _, h := range c.hooks {
		for _, device := range c.wan {
			if slices.Contains(l[h.chain], c.jump(device)) {
				list = append(list, jump{h.chain, c.jump(device)})
			}
		}
	}
	return list
}

// expect notes what will be ours after an edit. A chain that somebody else
// takes care of stays his.
func (c *chain) expect(l listing, e edit) {
	switch e.op {
	case opCreate:
		if !l.has(c.name) {
			c.made = !c.foreign
			c.used = c.foreign
		}
	case opInsert, opAppend:
		if j := (jump{e.chain, e.rule}); e.chain != c.name && !slices.Contains(c.jumps, j) {
			if c.bare(l, e.chain) {
				c.alone = append(slices.Clip(c.alone), j)
			}
			c.jumps = append(slices.Clip(c.jumps), j)
		}
	}
}

// bare reports whether a built-in chain has no rules but jumps of ours: the
// firewall is being built, or there is none.
func (c *chain) bare(l listing, name string) bool {
	foreign := func(rule string) bool { return !slices.Contains(c.jumps, jump{name, rule}) }
	return name == c.builtIn().chain && !slices.ContainsFunc(l[name], foreign)
}

// disown forgets the jumps that somebody else may have made. Of two copies among
// other rules one is his, and either will do. One that was alone while a firewall was built may
// have come again with the firewall, in place of ours: if our chain has been
// emptied, or other rules are there now and no other way to our chain. A jump
// of ours that stays leads to an empty chain after a stop. Without his, the
// next start would make one in front of his rules.
func (c *chain) disown(l listing) {
	emptied := c.applied.rules > 0 && len(l[c.name]) == 0
	theirs := func(j jump) bool {
		device, _ := option(splitRule(j.rule), c.side)
		replaced := slices.Contains(c.alone, j) && (emptied || !c.bare(l, j.hook)) && !c.reached(l, device)
		doubled := slices.Index(l[j.hook], j.rule) != lastIndex(l[j.hook], j.rule)
		return replaced || doubled && !c.bare(l, j.hook)
	}
	left := slices.DeleteFunc(slices.Clone(c.jumps), theirs)
	alone := slices.DeleteFunc(slices.Clone(left), func(j jump) bool { return !slices.Contains(c.alone, j) && !c.bare(l, j.hook) })
	c.jumps, c.alone = left, alone
}

// lastIndex returns where a rule stands for the last time, -1 if it does not.
func lastIndex(rules []string, rule string) int {
	for i, r := range slices.Backward(rules) {
		if r == rule {
			return i
		}
	}
	return -1
}

// settle forgets the jumps that do not stand after edits of what was listed.
func (c *chain) settle(l listing, edits []edit) {
	gone := func(j jump) bool {
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
	c.jumps = slices.DeleteFunc(slices.Clone(c.jumps), gone)
}

// jumpEdits returns the edits after which the packets of each uplink are led to c:
// by rules of others, whatever way they take, or else by one jump of ours. A
// jump of ours beside theirs would let in what they drop before.
func (c *chain) jumpEdits(l listing) []edit {
	if c.optional() {
		return nil
	}
	var edits []edit
	for _, device := range c.wan {
		standing, surplus := c.standing(l, device)
		edits = append(edits, surplus...)
		switch {
		case c.reached(l, device):
			edits = append(edits, standing...)
		case len(standing) == 0:
			h := c.hook(l)
			edits = append(edits, edit{h.op, h.chain, c.jump(device)})
		default:
			edits = append(edits, standing[:len(standing)-1]...)
		}
	}
	return edits
}

// standing returns the edits that delete the jumps of ours for the device,
// those in built-in chains first, and those that delete what is doubled: copies
// that do nothing because their chain has the same jump, or one by a pattern.
func (c *chain) standing(l listing, device string) (standing, surplus []edit) {
	text := c.jump(device)
	for _, h := range slices.Backward(c.hooks) {
		same, copies := 0, 0
		for _, rule := range l[h.chain] {
			if !strings.HasSuffix(rule, c.name) {
				continue // one of thousands in a blocklist, perhaps
			}
			if rule == text {
				copies++
			}
			if pattern, _ := option(splitRule(rule), c.side); spans(pattern, device) && rule == c.jump(pattern) {
				same++
			}
		}
		away := edit{opDelete, h.chain, text}
		for ; copies > 0 && same > 1; copies, same = copies-1, same-1 {
			surplus = append(surplus, away)
		}
		if copies > 0 && slices.Contains(c.jumps, jump{h.chain, text}) {
			standing = append(standing, away)
		}
	}
	return standing, surplus
}

// reached reports whether rules of others lead what passes the device to c, on
// any way through any chains. Conditions on the way are theirs to choose, but
// for interfaces that exclude the device.
func (c *chain) reached(l listing, device string) bool {
	visited := map[string]bool{c.name: true}
	for waiting := []string{c.name}; len(waiting) > 0; waiting = waiting[1:] {
		for _, call := range l.calls(waiting[0]) {
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
