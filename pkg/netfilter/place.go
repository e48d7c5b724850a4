package netfilter

import (
	"slices"
	"strings"

	"igdd/pkg/xtables"
)

// place is where a jump can stand: in front of the rule at the index.
type place struct {
	chain string
	index int
}

// lastPlaces returns the last places that every connection gets to which is not
// decided before, best first: in front of the rule that ends all of them, then in
// the chain that it calls, or else at the end of the chain. So the jump is in front
// of no rule that stops some connections.
func (c *chain) lastPlaces(t xtables.Table, p xtables.Packet) (list []place) {
	builtIn := c.builtInHook().chain
	end := place{builtIn, len(t.Rules(builtIn))}
	inside := "" // the chain that the last of the places calls
	walk := xtables.Walk{Table: t, Name: c.table, Packet: p}
	walk.Visit = func(s xtables.Step) xtables.Effect {
		if (list == nil || s.Chain == inside) && c.isFinal(t, p, s) {
			list, inside = append(list, place{s.Chain, s.Index}), ""
			if s.Calls {
				inside = s.Target
			}
		}
		if s.Calls && s.Verb == "-g" && s.Plain && len(s.Ports.Minus(s.Must)) == 0 && s.Chain == builtIn {
			end = place{s.Target, len(t.Rules(s.Target))} // nothing comes back
		}
		return xtables.EffectOf(s.Target)
	}
	walk.From(builtIn, xtables.EveryPort())
	if list == nil {
		return []place{end}
	}
	return list
}

// insertion returns the edit that adds a jump at a place.
func (at place) insertion(t xtables.Table, rule string) xtables.Edit {
	if at.index == len(t.Rules(at.chain)) {
		return xtables.Edit{Op: xtables.Append, Chain: at.chain, Rule: rule}
	}
	return xtables.Edit{Op: xtables.Insert, Chain: at.chain, Rule: rule, Index: at.index}
}

// planJumps returns the edits after which the packets of each uplink reach c: by
// the rules of other programs, through any chains, or else by jumps of the
// daemon's own, which stand in front of no rule that stops some packets only. A
// jump beside others' would let in what they drop first.
func (c *chain) planJumps(t xtables.Table, n Network) jumpPlan {
	if c.isOptional() {
		return jumpPlan{}
	} else if c.exits != nil {
		return c.planExits(t, n)
	}
	p := jumpPlan{edits: c.duplicates(t, n), own: c.jumps}
	p.table = t.After(append(slices.Clone(p.edits), xtables.Edit{Op: xtables.Flush, Chain: c.name})...)
	var used []xtables.Jump
	for _, x := range c.crossings(n) {
		used = append(used, x.plan(&p)...)
	}
	for _, j := range p.own {
		if !slices.Contains(used, j) && slices.Contains(p.table.Rules(j.Chain), j.Rule) {
			p.add(xtables.Edit{Op: xtables.Delete, Chain: j.Chain, Rule: j.Rule})
		}
	}
	return p
}

// jumpPlan is how packets get to a chain.
type jumpPlan struct {
	edits []xtables.Edit // of jumps
	table xtables.Table  // after the edits
	own   []xtables.Jump // the daemon's, those to be added included
}

// add adds an edit.
func (p *jumpPlan) add(e xtables.Edit) {
	p.edits, p.table = append(p.edits, e), p.table.After(e)
	if j := (xtables.Jump{Chain: e.Chain, Rule: e.Rule}); e.Op != xtables.Delete && !slices.Contains(p.own, j) {
		p.own = append(slices.Clip(p.own), j)
	}
}

// plan adds the edits after which the connections reach the chain, and returns the
// daemon's jumps that they need.
func (x crossing) plan(plan *jumpPlan) (used []xtables.Jump) {
	if x.side == "-o" {
		return x.planOutbound(plan, x.device)
	}
	rule := x.jumpRule(x.device)
	own := slices.DeleteFunc(slices.Clone(plan.own), func(j xtables.Jump) bool {
		return j.Rule != rule || !slices.Contains(plan.table.Rules(j.Chain), rule)
	})
	without := plan.table
	for _, j := range own {
		without = without.After(xtables.Edit{Op: xtables.Delete, Chain: j.Chain, Rule: rule})
	}
	if w := x.follow(without, x.packets()); w.isReached() || w.isOpen() && (x.isHairpin() || x.isCalledByOthers(without, x.device)) {
		return nil
	}
	for _, j := range own {
		if x.suits(without, place{j.Chain, slices.Index(plan.table.Rules(j.Chain), rule)}) {
			return []xtables.Jump{j}
		}
	}
	at, ok := x.choosePlace(without)
	if !ok {
		return nil
	}
	j := xtables.Jump{Chain: at.chain, Rule: rule}
	if slices.Contains(own, j) {
		plan.add(xtables.Edit{Op: xtables.Delete, Chain: at.chain, Rule: rule})
	}
	plan.add(at.insertion(plan.table, rule))
	return []xtables.Jump{j}
}

// suits reports whether a jump at a place gets connections, and is in front of no
// rule that stops some connections only, of whichever link and LAN, except in a
// chain that the firewall provides for it.
func (x crossing) suits(t xtables.Table, at place) bool {
	t = t.After(at.insertion(t, x.jumpRule(x.device)))
	if len(x.follow(t, x.packets()).reached) == 0 {
		return false
	}
	return x.isProvided(at.chain) && !x.isHairpin() || !slices.ContainsFunc(x.all(t), func(p xtables.Packet) bool {
		return x.followPast(t, p, at).overtaken != ""
	})
}

// all returns the connections that a jump gets: those to all LANs or external
// addresses, and of all links if the uplink is a pattern.
func (x crossing) all(t xtables.Table) (list []xtables.Packet) {
	for _, link := range x.links(t) {
		for _, lan := range x.ways(x.device, x.network) {
			p := x.packets()
			p.In, p.Out = link, lan
			list = append(list, x.toEach(p)...)
		}
	}
	return list
}

// links returns the links of the uplink, as far as rules can tell them apart: for
// "ppp+" those that rules name, and "ppp" for any other.
func (x crossing) links(t xtables.Table) []string {
	prefix, isPattern := strings.CutSuffix(x.device, "+")
	list := []string{prefix}
	if !isPattern {
		return list
	}
	for _, c := range t {
		for _, rule := range c.Rules {
			name := xtables.ParseRule(rule).Condition(x.side).Value
			if xtables.Covers(x.device, name) && !strings.HasSuffix(name, "+") && !slices.Contains(list, name) {
				list = append(list, name)
			}
		}
	}
	return list
}

// isProvided reports whether the firewall provides a chain for the jump.
func (c *chain) isProvided(name string) bool {
	return name != c.builtInHook().chain && slices.ContainsFunc(c.hooks, func(h hook) bool { return h.chain == name })
}

// choosePlace returns where a jump belongs, in a table without the daemon's
// jumps: in the chain that the firewall provides, if packets get there or the
// firewall is still being built, or else at the last place that suits.
func (x crossing) choosePlace(t xtables.Table) (at place, ok bool) {
	if h := x.hook(t); h != x.builtInHook() {
		at := place{h.chain, len(t.Rules(h.chain))}
		if !x.isBuilt(t, h) || x.suits(t, at) {
			return at, true
		}
	}
	for _, at := range x.lastPlaces(t, x.packets()) {
		if x.suits(t, at) {
			return at, true
		}
	}
	return place{}, false
}

// isBuilt reports whether any chain calls the hook: a firewall that is starting
// adds that call last.
func (c *chain) isBuilt(t xtables.Table, h hook) bool { return len(t.JumpsTo(h.chain)) > 0 }

// planOutbound adds the edits after which packets that leave by an uplink get to
// c in front of all rules that translate them.
func (c *chain) planOutbound(plan *jumpPlan, device string) (used []xtables.Jump) {
	j := xtables.Jump{Rule: c.jumpRule(device)}
	if c.isCalledByOthers(plan.table, device) {
		return nil
	}
	for _, h := range c.hooks {
		j.Chain = h.chain
		if slices.Contains(plan.own, j) && slices.Contains(plan.table.Rules(h.chain), j.Rule) {
			return []xtables.Jump{j}
		}
	}
	h := c.hook(plan.table)
	plan.add(xtables.Edit{Op: h.op, Chain: h.chain, Rule: j.Rule})
	return []xtables.Jump{{Chain: h.chain, Rule: j.Rule}}
}

// duplicates returns the edits that delete copies of the daemon's jumps in its hooks
// without effect, because the hook has the same jump or one for a pattern of devices.
func (c *chain) duplicates(t xtables.Table, n Network) []xtables.Edit {
	var edits []xtables.Edit
	for _, j := range t.JumpsTo(c.name) {
		if after := t.After(edits...); c.isDuplicate(after, j, n) {
			edits = append(edits, xtables.Edit{Op: xtables.Delete, Chain: j.Chain, Rule: j.Rule})
		}
	}
	return edits
}

// isDuplicate reports whether a jump of the daemon's form is in a hook that has
// another one that does the same.
func (c *chain) isDuplicate(t xtables.Table, j xtables.Jump, n Network) bool {
	isOfForm := slices.ContainsFunc(c.wan, func(device string) bool { return j.Rule == c.jumpRule(device) })
	if !isOfForm || !slices.ContainsFunc(c.hooks, func(h hook) bool { return h.chain == j.Chain }) {
		return false
	}
	device := xtables.ParseRule(j.Rule).Condition(c.side).Value
	same := 0
	for _, rule := range t.Rules(j.Chain) {
		pattern := xtables.ParseRule(rule).Condition(c.side).Value
		if pattern != "" && xtables.Covers(pattern, device) && rule == c.jumpRule(pattern) {
			same++
		}
	}
	return same > 1 && !c.isNeededFor(t, j, device, n)
}

// isNeededFor reports whether packets of a device would not get to c without the
// first copy of a jump.
func (c *chain) isNeededFor(t xtables.Table, j xtables.Jump, device string, n Network) bool {
	without := t.After(xtables.Edit{Op: xtables.Delete, Chain: j.Chain, Rule: j.Rule})
	return c.side == "-i" && slices.ContainsFunc(c.ways(device, n), func(lan string) bool {
		p := c.packet(device, lan, n)
		return len(c.follow(t, p).reached.Minus(c.follow(without, p).reached)) > 0
	})
}
