package netfilter

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"time"

	"igdd/pkg/portmap"
	"igdd/pkg/xtables"
)

// Outbound says of which mappings the target sends by the external port, too.
type Outbound int

// The choices.
const (
	OutboundAuto   Outbound = iota // of those whose external port is not the internal one
	OutboundAlways                 // of all
	OutboundNever                  // of none but those of PCP PEER
)

// covers reports whether the choice covers a mapping.
func (o Outbound) covers(m *portmap.Mapping) bool {
	return o == OutboundAlways || o == OutboundAuto && m.External != m.Internal.Port()
}

// outboundChain is a chain that only the daemon creates, when mappings need it and the
// firewall has none for packets that leave. The jumps to it stand directly in front of
// the firewall's rules that translate sources, and select the same packets: what those
// do not translate, the chain does not either.
const outboundChain = "MINIUPNPD-OUTBOUND"

// newOutboundChain returns the chain, which is used if the preferred one does not exist.
func newOutboundChain(preferred *chain, wan []string, network func() Network) *chain {
	return &chain{
		family: preferred.family, table: preferred.table, name: outboundChain, hooks: []hook{{"POSTROUTING", xtables.Insert}},
		wan: wan, side: "-o", onDemand: true, exits: &exits{network: network, preferred: preferred},
	}
}

// exits is what is known of the firewall's rules that translate the source of packets
// from the LANs to the uplinks.
type exits struct {
	network   func() Network
	preferred *chain  // the firewall's own for packets that leave: if it exists no jumps are needed
	found     bool    // jumps are needed, and there are such rules
	ranged    bool    // one of these gives ports of a range
	doubt     string  // why packets may leave by another port; "": they do not
	logged    string  // the doubt that was logged last
	refused   error   // why the kernel has last refused the daemon's rules
	pause     backoff // of tries to have it accept them
}

// observeExits updates what is known of the firewall's rules from a listing of their
// table.
func (c *chain) observeExits(t xtables.Table) {
	c.jumps = t.JumpsTo(c.name)
	c.exits.found, c.exits.doubt = false, ""
	switch {
	case c.exits.preferred.present || c.family.stopped:
	case !c.exits.pause.isOver(time.Now()):
		c.exits.doubt = "the kernel refuses rules for that: " + c.exits.refused.Error()
	default:
		without := c.withoutJumps(t)
		places, rule := c.findExits(without, c.exits.network())
		c.exits.ranged = slices.ContainsFunc(places, func(p place) bool { return givesPorts(without.Rules(p.chain)[p.index]) })
		if c.exits.found = len(places) > 0; rule != "" {
			c.exits.doubt = "it is not known which packets this rule translates: " + rule
		}
	}
}

// withoutJumps returns the table without the jumps to the chain.
func (c *chain) withoutJumps(t xtables.Table) xtables.Table { return t.After(c.jumpRemovals(t)...) }

// jumpRemovals returns the edits that remove the jumps to the chain.
func (c *chain) jumpRemovals(t xtables.Table) (edits []xtables.Edit) {
	for _, j := range t.JumpsTo(c.name) {
		edits = append(edits, xtables.Edit{Op: xtables.Delete, Chain: j.Chain, Rule: j.Rule})
	}
	return edits
}

// planExits returns the edits after which the jumps to the chain are directly in front
// of the firewall's rules that translate.
func (c *chain) planExits(t xtables.Table, n Network) jumpPlan {
	p := jumpPlan{edits: c.jumpRemovals(t), table: c.withoutJumps(t)}
	var places []place
	if c.exits.found {
		places, _ = c.findExits(p.table, n)
	}
	sort.Slice(places, func(i, j int) bool { return places[i].index < places[j].index })
	inserted := make(map[string]int)
	for _, at := range places {
		at.index += inserted[at.chain]
		jump := c.jumpLike(p.table.Rules(at.chain)[at.index])
		if !slices.Contains(p.table.Rules(at.chain), jump) {
			p.add(at.insertion(p.table, jump))
			inserted[at.chain]++
		}
	}
	isChanged := func(e xtables.Edit) bool { return !slices.Equal(p.table.Rules(e.Chain), t.Rules(e.Chain)) }
	if !slices.ContainsFunc(p.edits, isChanged) {
		return jumpPlan{table: t, own: c.jumps}
	}
	return p
}

// jumpLike returns the jump that selects the same packets as a rule.
func (c *chain) jumpLike(rule string) string {
	selection := rule[:strings.LastIndex(rule, "-j "+xtables.ParseRule(rule).Target)]
	return selection + "-j " + c.name
}

// findExits returns the firewall's rules that translate the source of packets from the
// LANs to the uplinks, and the first of those that may translate them. What the chain
// does to packets by one uplink it does to those by the others, so a rule that gives
// these another address is none.
func (c *chain) findExits(t xtables.Table, n Network) (places []place, doubt string) {
	networks := n.Networks
	if len(networks) == 0 {
		networks = make([]netip.Prefix, 1)
	}
	var others []place
	for _, device := range distinct(append(c.devices(t), slices.Sorted(maps.Keys(n.Sources))...)) {
		for _, from := range networks {
			f := exitFinder{address: n.Sources[device], doubtful: make(map[string]bool)}
			f.walk = xtables.Walk{Table: t, Name: c.table, Visit: f.visit, Packet: xtables.Packet{Out: device, Network: from, Marked: xtables.EveryPort()}}
			f.walk.From(c.builtInHook().chain, xtables.EveryPort())
			places, doubt = append(places, f.places...), cmp.Or(doubt, f.doubt)
			if _, exists := n.Sources[device]; exists {
				others = append(others, f.others...)
			}
		}
	}
	return slices.DeleteFunc(distinct(places), func(p place) bool { return slices.Contains(others, p) }), doubt
}

// exitFinder follows packets from a network to a device.
type exitFinder struct {
	walk     xtables.Walk
	address  netip.Addr // that MASQUERADE gives; the zero Addr: not known
	places   []place
	others   []place // of rules that translate otherwise than the chain
	doubt    string
	doubtful map[string]bool // chains that get packets of which it is not known which
}

// visit notes a rule that translates.
func (f *exitFinder) visit(s xtables.Step) xtables.Effect {
	effect := xtables.EffectOf(s.Target)
	translates := s.Target == "MASQUERADE" || s.Target == "SNAT"
	isDoubtful := f.doubtful[s.Chain] || !f.walk.Packet.Matches(undirected(s.Conditions))
	at, isOther := place{s.Chain, s.Index}, translates && !f.leavesPort(s.Rule)
	if isOther {
		f.others = append(f.others, at)
	}
	switch {
	case s.Calls:
		f.doubtful[s.Target] = isDoubtful
	case s.Target == "RETURN" && f.hasAllUnmarked(s.Conditions):
		f.doubtful[s.Chain] = true
	case effect == xtables.MayEnd, isDoubtful && translates:
		f.doubt = cmp.Or(f.doubt, s.String())
	case translates && !isOther:
		f.places = append(f.places, at)
	}
	return effect
}

// hasAllUnmarked reports whether all packets without a mark meet conditions.
func (f *exitFinder) hasAllUnmarked(conditions []xtables.Condition) bool {
	unmarked := f.walk.Packet
	unmarked.Marked = nil
	return unmarked.Matches(conditions)
}

// leavesPort reports whether a rule that translates gives packets the address that
// MASQUERADE gives them, and leaves the choice of the port to the kernel.
func (f *exitFinder) leavesPort(r xtables.Rule) bool {
	address, ports := translation(r)
	if a, err := netip.ParseAddr(address); r.Target == "SNAT" && (err != nil || a != f.address) {
		return false
	}
	p, ok := xtables.ParsePortRange(ports, "-")
	return ports == "" || ok && p.First < p.Last
}

// givesPorts reports whether a rule that translates names ports to give.
func givesPorts(rule string) bool {
	_, ports := translation(xtables.ParseRule(rule))
	return ports != ""
}

// translation returns the address and the ports that a rule of the firewall gives
// packets, as its options have them; "": those that the kernel chooses.
func translation(r xtables.Rule) (address, ports string) {
	if r.Target == "SNAT" {
		address, ports, _ = strings.Cut(r.Option("--to-source"), ":")
		return address, ports
	}
	return "", r.Option("--to-ports")
}

// directing are the options for where packets come from and go to, and for IPsec.
var directing = [...]string{
	"-s", "-d", "-p", "--sport", "--sports", "--dport", "--dports", "--ports", "--src-range", "--dst-range", "--src-type", "--dst-type",
	"--dir", "--pol", "--strict", "--reqid", "--spi", "--proto", "--mode", "--tunnel-src", "--tunnel-dst", "--next",
}

// undirected returns the conditions without those for where a packet comes from and goes
// to, and for IPsec: a rule that copies those selects the same packets.
func undirected(conditions []xtables.Condition) []xtables.Condition {
	return slices.DeleteFunc(slices.Clone(conditions), func(c xtables.Condition) bool {
		isModule := c.Option == "-m" && (c.Value == "policy" || c.Value == "set")
		isDestinationSet := c.Option == "--match-set" && strings.HasSuffix(c.Value, " dst")
		return isModule || isDestinationSet || slices.Contains(directing[:], c.Option)
	})
}

// outboundRules returns the rules that give what the target of a mapping sends to its
// peers the external port, and the address of the uplink by which it leaves.
func (f *Firewall) outboundRules(m *portmap.Mapping, peer portmap.Filter) (list []rule) {
	switch {
	case f.choice == OutboundNever:
	case f.postrouting.present:
		list = append(list, rule{f.postrouting, snatRule(m, peer, "")})
	case f.outbound.exits.found && f.choice.covers(m):
		for _, device := range f.outbound.wan {
			list = append(list, rule{f.outbound, snatRule(m, peer, device)})
			if !f.outbound.exits.ranged {
				list = append(list, rule{f.outbound, otherPortRule(m, peer, device)})
			}
		}
	}
	return list
}

// otherPortRule returns the rule that gives packets of all other hosts to a peer by a
// device another port than the external one: if a flow of theirs had it, the kernel would
// drop what the target sends to the same peer. The range is the larger one of those below
// and above the port; without --random a host keeps the port that it gets for all peers.
func otherPortRule(m *portmap.Mapping, peer portmap.Filter, device string) string {
	out := match{sport: m.External, destination: peer.Prefix, dport: peer.Port, protocol: m.Protocol, out: device}
	ports := portmap.PortRange{First: max(firstOtherPort, m.External+1), Last: lastOtherPort}
	if m.External > (firstOtherPort+lastOtherPort)/2 {
		ports = portmap.PortRange{First: firstOtherPort, Last: m.External - 1}
	}
	return out.String() + " -j MASQUERADE --to-ports " + ports.String()
}

// The ports that the kernel gives flows from ports that are not reserved (Linux'
// net/netfilter/nf_nat_core.c).
const (
	firstOtherPort = 1024
	lastOtherPort  = 1<<16 - 1
)

// goesFirst reports whether a rule of the chain belongs in front of those without a
// source: what a mapping's target sends may come from another one's external port.
func (c *chain) goesFirst(rule string) bool { return c.exits != nil && strings.HasPrefix(rule, "-s ") }

// isDisordered reports whether rules of the chain are in front of others that belong
// there.
func (c *chain) isDisordered(rules []string) bool {
	i := slices.IndexFunc(rules, func(rule string) bool { return !c.goesFirst(rule) })
	return i >= 0 && slices.ContainsFunc(rules[i:], c.goesFirst)
}

// logDoubt logs once the rule of the firewall because of which what the target of one of
// the mappings sends may leave by another port.
func (f *Firewall) logDoubt(family *family, mappings ...*portmap.Mapping) {
	if family != f.ipv4 {
		return
	}
	isCovered := func(m *portmap.Mapping) bool { return m != nil && !m.Dormant && m.Enabled() && f.choice.covers(m) }
	e := f.outbound.exits
	if e.doubt != "" && e.doubt != e.logged && slices.ContainsFunc(mappings, isCovered) {
		e.logged = e.doubt
		f.log.Info("what hosts send may leave by another port than the mapped one: " + e.doubt)
	}
}

// carryOutWithoutExits carries out what the tables lack, but for the rules of the packets
// that leave, after the kernel has refused to do so with them. It reports whether
// the kernel accepts that: it may lack a module that only those rules need.
func (f *Firewall) carryOutWithoutExits(ctx context.Context, family *family, refused error) (p plan, accepted bool) {
	if family != f.ipv4 || !f.outbound.exits.found {
		return plan{}, false
	}
	e, before := f.outbound.exits, f.outbound.exits.pause
	e.refused = refused
	e.pause.fail(time.Now(), time.Now())
	s, err := f.snapshot(ctx, family)
	if err == nil {
		p, err = f.commitPlan(ctx, family, s)
	}
	if err != nil {
		e.pause = before
	}
	notify(family.unsure) // another program may have changed the tables meanwhile
	return p, err == nil
}

// Outgoing is the port by which what the target of a mapping sends leaves.
type Outgoing struct {
	Mapped bool   // it is the external port
	Doubt  string // why it may be another one; "": it is not
}

// Outgoing returns what was known at the last look of packets from a mapping's target.
// It is false if they need not leave by the external port.
func (f *Firewall) Outgoing(m *portmap.Mapping) (Outgoing, bool) {
	f.ipv4.status.Lock()
	defer f.ipv4.status.Unlock()
	return f.ipv4.health.outgoing, m.Internal.Addr().Is4() && f.choice.covers(m)
}
