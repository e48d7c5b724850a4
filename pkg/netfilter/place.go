package netfilter

import (
	"fmt"
	"slices"

	"igdd/pkg/xtables"
)

// way is what happens to the new connections of one uplink on their way to the
// daemon's chain, and after it.
type way struct {
	reached xtables.PortSet // may get to the chain
	passed  xtables.PortSet // may pass without it; in table nat: are forwarded by another rule
	blocker string          // the last rule that certainly ends some of them
	// overtaken is a rule that the chain stands in front of although it stops
	// some connections, and not all: "" if there is none.
	overtaken string
}

// deadPorts returns the ports of connections that never get to the chain, and
// never pass without it.
func (w way) deadPorts() xtables.PortSet {
	return xtables.EveryPort().Minus(w.reached).Minus(w.passed)
}

// isOpen reports whether connections of both protocols get through.
func (w way) isOpen() bool {
	for _, p := range [...]xtables.Protocol{xtables.TCP, xtables.UDP} {
		if len(xtables.EveryPort(p).Minus(w.deadPorts())) == 0 {
			return false
		}
	}
	return true
}

// isReached reports whether connections of both protocols get to the chain.
func (w way) isReached() bool {
	return len(xtables.EveryPort(xtables.TCP).And(w.reached)) > 0 && len(xtables.EveryPort(xtables.UDP).And(w.reached)) > 0
}

// packet returns the new connections that come in by an uplink, to an address
// of a LAN interface; "" means any.
func (c *chain) packet(device, lan string, n Network) xtables.Packet {
	p := xtables.Packet{In: device, Out: lan, Marked: xtables.EveryPort()} // other tables set marks
	isAnnounced := n.Uplink.Device != "" && xtables.Covers(device, n.Uplink.Device)
	if isAnnounced {
		p.In = n.Uplink.Device
	}
	switch {
	case c.table != "nat":
		p.Translated = c.family.name == "iptables"
	case isAnnounced && len(n.Uplink.Addrs) > 0:
		p.Destination, p.Local = n.Uplink.Addrs[0], true
	default:
		p.Local = true
	}
	return p
}

// follow follows packets through the built-in chain of the hook, with the
// daemon's chain empty.
func (c *chain) follow(t xtables.Table, p xtables.Packet) way {
	var w way
	beyond := false // the daemon's chain has been passed, and not what ends every connection
	walk := xtables.Walk{Table: t, Name: c.table, Packet: p}
	walk.Visit = func(s xtables.Step) xtables.Effect {
		switch {
		case s.Target == c.name:
			w.reached = w.reached.Or(s.Ports)
			beyond = true
			return xtables.Continues
		case c.isFinal(t, p, s):
			beyond = false
		case s.Calls:
		case xtables.Stops(s.Target) || xtables.EffectOf(s.Target) == xtables.MayEnd:
			if beyond && w.overtaken == "" {
				w.overtaken = s.String()
			}
		}
		if ends := xtables.EffectOf(s.Target) == xtables.Ends; !s.Calls && ends && len(s.Must) > 0 {
			w.blocker = s.String()
		}
		if forwards(s.Target) {
			w.passed = w.passed.Or(s.Ports)
		}
		return xtables.EffectOf(s.Target)
	}
	v := walk.Filter(c.builtInHook().chain, xtables.EveryPort())
	if c.table != "nat" {
		w.passed = v.Passes
	}
	if w.blocker == "" {
		w.blocker = "the policy of chain " + c.builtInHook().chain
	}
	return w
}

// forwards reports whether a target translates the destination.
func forwards(target string) bool {
	return target == "DNAT" || target == "REDIRECT" || target == "NETMAP"
}

// isFinal reports whether a rule ends every connection that gets there: by its
// target, or by calling a chain that stops all of them.
func (c *chain) isFinal(t xtables.Table, p xtables.Packet, s xtables.Step) bool {
	if !s.Plain || len(s.Ports.Minus(s.Must)) > 0 {
		return false
	}
	switch {
	case !s.Calls:
		return xtables.EffectOf(s.Target) == xtables.Ends || s.Target == "RETURN" && s.Chain == c.builtInHook().chain
	case s.Target == c.name:
		return false
	}
	walk := xtables.Walk{Table: t, Name: c.table, Packet: p}
	passes := false
	walk.Visit = func(s xtables.Step) xtables.Effect {
		effect := xtables.EffectOf(s.Target)
		passes = passes || s.Target == c.name || !s.Calls && effect != xtables.Continues && !xtables.Stops(s.Target)
		return effect
	}
	return len(walk.From(s.Target, s.Ports)) == 0 && !passes
}

// place is where a jump can stand: in front of the rule at the index.
type place struct {
	chain string
	index int
}

// lastPlace returns the last place that every connection gets to which is not
// decided before: in front of the rule that ends all of them, or at the end of
// the chain. So the jump is in front of no rule that stops some connections.
func (c *chain) lastPlace(t xtables.Table, p xtables.Packet) place {
	builtIn := c.builtInHook().chain
	found, isFound := place{}, false
	last := place{builtIn, len(t.Rules(builtIn))}
	walk := xtables.Walk{Table: t, Name: c.table, Packet: p}
	walk.Visit = func(s xtables.Step) xtables.Effect {
		if !isFound && c.isFinal(t, p, s) {
			found, isFound = place{s.Chain, s.Index}, true
		}
		if s.Calls && s.Verb == "-g" && s.Plain && len(s.Ports.Minus(s.Must)) == 0 && s.Chain == builtIn {
			last = place{s.Target, len(t.Rules(s.Target))} // nothing comes back
		}
		return xtables.EffectOf(s.Target)
	}
	walk.From(builtIn, xtables.EveryPort())
	if isFound {
		return found
	}
	return last
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
	}
	p := jumpPlan{edits: c.duplicates(t), own: c.jumps}
	p.table = t.After(append(slices.Clone(p.edits), xtables.Edit{Op: xtables.Flush, Chain: c.name})...)
	var used []xtables.Jump
	for _, device := range c.wan {
		for _, lan := range c.ways(n) {
			used = append(used, c.planWay(&p, device, c.packet(device, lan, n))...)
		}
	}
	for _, j := range p.own {
		if !slices.Contains(used, j) && slices.Contains(p.table.Rules(j.Chain), j.Rule) {
			p.add(xtables.Edit{Op: xtables.Delete, Chain: j.Chain, Rule: j.Rule})
		}
	}
	for _, device := range c.wan {
		for _, lan := range c.ways(n) {
			if w := c.follow(p.table, c.packet(device, lan, n)); c.side == "-i" && !w.isOpen() {
				p.dead = append(p.dead, fmt.Sprintf("connections from %s do not get to chain %s of table %s: %s", device, c.name, c.table, w.blocker))
			}
		}
	}
	p.dead = distinct(p.dead)
	return p
}

// jumpPlan is how packets get to a chain.
type jumpPlan struct {
	edits []xtables.Edit // of jumps
	table xtables.Table  // after the edits
	own   []xtables.Jump // the daemon's, those to be added included
	dead  []string       // why connections do not get there
}

// add adds an edit.
func (p *jumpPlan) add(e xtables.Edit) {
	p.edits, p.table = append(p.edits, e), p.table.After(e)
	if j := (xtables.Jump{Chain: e.Chain, Rule: e.Rule}); e.Op != xtables.Delete && !slices.Contains(p.own, j) {
		p.own = append(slices.Clip(p.own), j)
	}
}

// ways returns the LAN interfaces that packets leave by; "" means any.
func (c *chain) ways(n Network) []string {
	if c.table == "nat" || len(n.LANs) == 0 {
		return []string{""}
	}
	return n.LANs
}

// planWay adds the edits after which the packets of an uplink to a LAN reach c,
// and returns the daemon's jumps that they need.
func (c *chain) planWay(plan *jumpPlan, device string, p xtables.Packet) (used []xtables.Jump) {
	if c.side == "-o" {
		return c.planOutbound(plan, device)
	}
	rule := c.jumpRule(device)
	own := slices.DeleteFunc(slices.Clone(plan.own), func(j xtables.Jump) bool {
		return j.Rule != rule || !slices.Contains(plan.table.Rules(j.Chain), rule)
	})
	without := plan.table
	for _, j := range own {
		without = without.After(xtables.Edit{Op: xtables.Delete, Chain: j.Chain, Rule: rule})
	}
	if w := c.follow(without, p); w.isReached() || w.isOpen() && c.isCalledByOthers(without, device) {
		return nil
	}
	for _, j := range own {
		at := place{j.Chain, slices.Index(plan.table.Rules(j.Chain), rule)}
		if c.suits(without, at, p, rule) {
			return []xtables.Jump{j}
		}
	}
	at, ok := c.choosePlace(without, p, rule)
	if !ok {
		return nil
	}
	if j := (xtables.Jump{Chain: at.chain, Rule: rule}); slices.Contains(own, j) {
		plan.add(xtables.Edit{Op: xtables.Delete, Chain: at.chain, Rule: rule})
	}
	plan.add(at.insertion(plan.table, rule))
	return []xtables.Jump{{Chain: at.chain, Rule: rule}}
}

// suits reports whether a jump at a place gets connections, and stands in front
// of no rule that stops some of them only, except in a chain that the firewall
// provides for it.
func (c *chain) suits(t xtables.Table, at place, p xtables.Packet, rule string) bool {
	w := c.follow(t.After(at.insertion(t, rule)), p)
	return len(w.reached) > 0 && (w.overtaken == "" || c.isProvided(at.chain))
}

// isProvided reports whether the firewall provides a chain for the jump.
func (c *chain) isProvided(name string) bool {
	return name != c.builtInHook().chain && slices.ContainsFunc(c.hooks, func(h hook) bool { return h.chain == name })
}

// choosePlace returns where a jump belongs, in a table without the daemon's
// jumps: in the chain that the firewall provides, if packets get there or the
// firewall is still being built, or else at the last place in front of the end.
func (c *chain) choosePlace(t xtables.Table, p xtables.Packet, rule string) (at place, ok bool) {
	if h := c.hook(t); h != c.builtInHook() {
		at := place{h.chain, len(t.Rules(h.chain))}
		if !c.isBuilt(t, h) || c.suits(t, at, p, rule) {
			return at, true
		}
	}
	at = c.lastPlace(t, p)
	return at, c.suits(t, at, p, rule)
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

// duplicates returns the edits that delete copies of the daemon's jumps without
// effect, because their chain has the same jump or one for a pattern of devices.
func (c *chain) duplicates(t xtables.Table) []xtables.Edit {
	var edits []xtables.Edit
	for _, j := range t.JumpsTo(c.name) {
		edits = append(edits, c.duplicate(t, j, edits)...)
	}
	return edits
}

// duplicate returns the edit that deletes a jump, if another one remains that
// does the same.
func (c *chain) duplicate(t xtables.Table, j xtables.Jump, edits []xtables.Edit) []xtables.Edit {
	if !slices.ContainsFunc(c.wan, func(device string) bool { return j.Rule == c.jumpRule(device) }) {
		return nil
	}
	device := xtables.ParseRule(j.Rule).Condition(c.side).Value
	same := 0
	for _, rule := range t.After(edits...).Rules(j.Chain) {
		pattern := xtables.ParseRule(rule).Condition(c.side).Value
		if pattern != "" && xtables.Covers(pattern, device) && rule == c.jumpRule(pattern) {
			same++
		}
	}
	if same < 2 {
		return nil
	}
	return []xtables.Edit{{Op: xtables.Delete, Chain: j.Chain, Rule: j.Rule}}
}
