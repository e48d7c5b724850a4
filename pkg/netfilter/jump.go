package netfilter

import "slices"

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
			c.made = !c.others
			c.used = c.others
		}
	case opInsert, opAppend:
		if j := (jump{e.chain, e.rule}); e.chain != c.name && !slices.Contains(c.jumps, j) {
			c.jumps = append(slices.Clip(c.jumps), j)
		}
	}
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

// mend returns the edits after which each uplink has exactly one jump to c. A
// jump that others made, elsewhere or by a pattern, serves as well as ours.
func (c *chain) mend(l listing) []edit {
	if c.optional() {
		return nil
	}
	var edits []edit
	for _, device := range c.wan {
		jump := c.jump(device)
		n := c.count(l, device)
		if n == 0 {
			h := c.hook(l)
			edits = append(edits, edit{h.op, h.chain, jump})
		}
		for _, h := range slices.Backward(c.hooks) {
			for _, rule := range l[h.chain] {
				if n > 1 && rule == jump {
					edits = append(edits, edit{opDelete, h.chain, jump})
					n--
				}
			}
		}
	}
	return edits
}

// count counts the rules that lead what passes the device to c.
func (c *chain) count(l listing, device string) int {
	n := 0
	for _, call := range l.calls(c.name) {
		inHook := func(h hook) bool { return h.chain == call.hook }
		if slices.ContainsFunc(c.hooks, inHook) && admits(words(call.rule), c.side, device) {
			n++
		}
	}
	return n
}
