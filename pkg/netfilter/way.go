package netfilter

import (
	"igdd/pkg/portmap"
	"igdd/pkg/xtables"
)

// way is what happens to the new connections of one uplink on their way to the
// daemon's chain, and after it.
type way struct {
	reached xtables.PortSet // may get to the chain
	passed  xtables.PortSet // pass without it, but for those that a rule selects; in table nat: are forwarded by another rule
	blocker string          // the last rule that certainly ends some of them
	// overtaken is a rule behind a jump of the daemon's that stops some connections,
	// and not all: "" if there is none.
	overtaken string
}

// deadProtocols returns the protocols of which no connection gets to the chain, and
// not all pass without it.
func (w way) deadProtocols() (list []string) {
	for _, p := range [...]portmap.Protocol{portmap.TCP, portmap.UDP} {
		ports := xtables.EveryPort(xtables.Protocol(p))
		if len(ports.And(w.reached)) == 0 && len(ports.Minus(w.passed)) > 0 {
			list = append(list, p.String())
		}
	}
	return list
}

// isOpen reports whether connections of both protocols get through.
func (w way) isOpen() bool { return len(w.deadProtocols()) == 0 }

// isReached reports whether connections of both protocols get to the chain.
func (w way) isReached() bool {
	return len(xtables.EveryPort(xtables.TCP).And(w.reached)) > 0 && len(xtables.EveryPort(xtables.UDP).And(w.reached)) > 0
}

// crossing is the new connections from one uplink to one LAN.
type crossing struct {
	*chain
	device, lan string // as in Options and Network; lan is "" for any
	network     Network
}

// crossings returns those of all uplinks and LANs.
func (c *chain) crossings(n Network) (list []crossing) {
	for _, device := range c.wan {
		for _, lan := range c.ways(device, n) {
			list = append(list, crossing{c, device, lan, n})
		}
	}
	return list
}

// ways returns the interfaces that connections which come in by a device leave by;
// "" means any.
func (c *chain) ways(device string, n Network) []string {
	switch {
	case c.table == "nat":
		return []string{""}
	case c.isHairpin():
		return []string{device}
	case len(n.LANs) == 0:
		return []string{""}
	}
	return n.LANs
}

// packets returns the packets that begin the connections.
func (x crossing) packets() xtables.Packet { return x.packet(x.device, x.lan, x.network) }

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
	case c.isHairpin():
		return n.sentTo(n.Hairpin.announced(), p)
	case isAnnounced && len(n.Uplink.Addrs) > 0:
		p.Destination, p.Local = n.Uplink.Addrs[0], true
	default:
		p.Local = true
	}
	return p
}

// follow follows packets through the built-in chain of the hook, with the
// daemon's chain empty.
func (c *chain) follow(t xtables.Table, p xtables.Packet) way { return c.followPast(t, p, place{}) }

// followPast does so to find what a jump at a place overtakes.
func (c *chain) followPast(t xtables.Table, p xtables.Packet, jump place) way {
	f := follower{chain: c, table: t, packet: p}
	builtIn := c.builtInHook().chain
	isJump := func(s xtables.Step) bool { return s.Chain == jump.chain && s.Index == jump.index }
	walk := xtables.Walk{Table: t, Name: c.table, Packet: p, Mark: isJump, Visit: f.visit}
	end := walk.From(builtIn, xtables.EveryPort())
	if t.Has(builtIn) && t[builtIn].Policy == "DROP" {
		f.ended = f.ended.Or(end)
	} else {
		f.let = f.let.Or(end)
	}
	if c.table != "nat" {
		f.passed = f.let.Minus(f.ended)
	}
	if f.blocker == "" {
		f.blocker = "the policy of chain " + builtIn
	}
	return f.way
}

// follower follows packets through the rules.
type follower struct {
	way
	chain  *chain
	table  xtables.Table
	packet xtables.Packet
	let    xtables.PortSet // may pass
	ended  xtables.PortSet // may get to a rule or policy that stops every connection
}

// visit notes what a rule does.
func (f *follower) visit(s xtables.Step) xtables.Effect {
	effect, stops := xtables.EffectOf(s.Target), xtables.Stops(s.Target)
	isFinal := f.chain.isFinal(f.table, f.packet, s)
	if isFinal && s.Calls {
		effect, stops = xtables.Ends, true
	}
	switch {
	case s.Target == f.chain.name:
		f.reached = f.reached.Or(s.Ports)
		return xtables.Continues
	case f.chain.isHairpin() && s.Target == f.chain.leadsTo:
		f.reached = f.reached.Or(s.Must)
		return xtables.Continues
	case s.Calls && !isFinal, effect == xtables.Continues:
		return effect
	case forwards(s.Target):
		f.passed = f.passed.Or(s.Must)
	case isFinal && stops:
		f.ended = f.ended.Or(s.Ports)
	case !stops:
		f.let = f.let.Or(s.Ports)
	}
	if f.chain.yieldsTo(s.Target) && !isFinal && len(s.Past) > 0 && f.overtaken == "" {
		f.overtaken = s.String()
	}
	if effect == xtables.Ends && len(s.Must) > 0 {
		f.blocker = s.String()
	}
	return effect
}

// forwards reports whether a target translates the destination.
func forwards(target string) bool {
	return target == "DNAT" || target == "REDIRECT" || target == "NETMAP"
}

// isFinal reports whether a rule ends every connection that gets there: by its
// target, or by calling a chain that stops all of them.
func (c *chain) isFinal(t xtables.Table, p xtables.Packet, s xtables.Step) bool {
	switch {
	case !s.Plain || len(s.Ports.Minus(s.Must)) > 0 || s.Target == c.name:
		return false
	case c.keepsOut(s):
		return false
	case s.Calls:
		return c.stopsAll(t, p, s)
	}
	return xtables.EffectOf(s.Target) == xtables.Ends || s.Target == "RETURN" && s.Chain == c.builtInHook().chain
}

// stopsAll reports whether a chain that a step calls stops every connection, and
// selects none of them but by protocol.
func (c *chain) stopsAll(t xtables.Table, p xtables.Packet, call xtables.Step) bool {
	stopsAll := true
	walk := xtables.Walk{Table: t, Name: c.table, Packet: p}
	walk.Visit = func(s xtables.Step) xtables.Effect {
		effect := xtables.EffectOf(s.Target)
		passes := s.Target == c.name || !s.Calls && effect != xtables.Continues && !xtables.Stops(s.Target)
		selects := (s.Calls || xtables.Stops(s.Target)) && (!s.SelectsByProtocol() || c.keepsOut(s))
		stopsAll = stopsAll && !passes && !selects
		return effect
	}
	return len(walk.From(call.Target, call.Ports)) == 0 && stopsAll
}
