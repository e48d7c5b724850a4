package xtables

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Verdict is the ports of new connections by what becomes of them in a chain of
// a table that filters. A port can be in both sets: that depends on what is not
// known.
type Verdict struct {
	Passes, Stops PortSet
	Policy        PortSet // those of Stops that the chain's policy stops
}

// Filter follows packets through a built-in chain of the walk's table, and calls
// Visit, if that is set, for each rule that they may match.
func (w *Walk) Filter(chain string, ports PortSet) Verdict {
	var v Verdict
	note := w.Visit
	defer func() { w.Visit = note }()
	w.Visit = func(s Step) Effect {
		if note != nil {
			note(s)
		}
		effect := EffectOf(s.Target)
		switch {
		case s.Calls, effect == Continues:
			return Continues
		case effect == MayEnd:
			v.Passes, v.Stops = v.Passes.Or(s.Ports), v.Stops.Or(s.Ports)
		case Stops(s.Target):
			v.Stops = v.Stops.Or(s.Ports)
		default:
			v.Passes = v.Passes.Or(s.Ports)
		}
		return effect
	}
	switch end := w.From(chain, ports); w.Table.policy(chain) {
	case "DROP":
		v.Policy, v.Stops = end, v.Stops.Or(end)
	default:
		v.Passes = v.Passes.Or(end)
	}
	return v
}

// Stops reports whether a target stops packets.
func Stops(target string) bool { return target == "DROP" || target == "REJECT" || target == "TARPIT" }

// Connection is a new connection from another host.
type Connection struct {
	In                  string // the interface that its first packet comes in by
	Source, Destination netip.AddrPort
	Protocol            Protocol
}

// Fate is what becomes of a connection.
type Fate int

// The fates of a connection.
const (
	Arrives Fate = iota // at its destination
	Stopped             // by a rule or a policy
	Unknown             // it depends on what the rules do not tell
)

// Path is the way of a connection through the rules.
type Path struct {
	Steps []Step // rules that it may match, in order
	Fate  Fate
	By    string         // what stops it or may stop it: "filter FORWARD -j DROP", "filter FORWARD policy DROP" or why it cannot be routed
	Doubt string         // if the fate is Unknown, the first rule on which that depends; "": none does alone
	To    netip.AddrPort // where it goes; the zero AddrPort: not known; the zero Addr: an address of the interface In
	Local bool           // that is an address of the router
}

// The chains that a packet passes once it is routed, by their tables. What table nat
// has there drops nothing.
var (
	toRouter  = [...][2]string{{"mangle", "INPUT"}, {"filter", "INPUT"}, {"security", "INPUT"}}
	forwarded = [...][2]string{{"mangle", "FORWARD"}, {"filter", "FORWARD"}, {"security", "FORWARD"}, {"mangle", "POSTROUTING"}}
)

// Variant is the tables of one variant of iptables, legacy or nft.
type Variant struct {
	Program string // the name for steps; "": none is needed
	Tables  Snapshot
}

// Trace follows a connection through the tables of variants whose rules packets
// pass one after the other: raw, mangle and nat PREROUTING, then, as route says,
// INPUT, or FORWARD and POSTROUTING. The function route returns the interface by
// which packets to an address leave, or that the address is the router's, or why
// there is no route.
func Trace(c Connection, route func(netip.Addr) (out string, local bool, err error), variants ...Variant) Path {
	to := c.Destination
	t := tracer{variants: variants, port: PortsOf(PortRange{to.Port(), to.Port()}, c.Protocol), path: Path{To: to}}
	t.packet = Packet{In: c.In, Source: c.Source.Addr(), SourcePort: c.Source.Port(), Destination: to.Addr(), Original: to.Addr(), originalPort: to.Port()}
	t.packet.Out, t.packet.Local, _ = route(to.Addr())
	t.filter("raw", "PREROUTING")
	t.filter("mangle", "PREROUTING")
	t.translate(c)
	if t.rewritten || t.path.To == (netip.AddrPort{}) {
		t.path.To = netip.AddrPort{}
		t.path.Fate = max(t.path.Fate, Unknown)
		return t.path
	}
	t.route(c.Protocol, route)
	chains := forwarded[:]
	if t.packet.Local {
		chains = toRouter[:]
	}
	for _, c := range chains {
		t.filter(c[0], c[1])
	}
	return t.path
}

// tracer follows one connection.
type tracer struct {
	variants []Variant
	packet   Packet
	port     PortSet
	path     Path

	certain   bool // it has matched each step of this table so far
	rewritten bool // a target that is not known may have changed its destination
}

// route routes the packet to where table nat has sent it.
func (t *tracer) route(p Protocol, route func(netip.Addr) (out string, local bool, err error)) {
	if t.path.Fate == Stopped {
		return
	}
	to := t.path.To
	t.port = PortsOf(PortRange{to.Port(), to.Port()}, p)
	if len(t.packet.Marked) > 0 { // by its port before translation
		t.packet.Marked = t.port
	}
	t.packet.Destination, t.packet.Out, t.packet.Local = to.Addr(), "", true
	if to.Addr().IsValid() {
		var err error
		if t.packet.Out, t.packet.Local, err = route(to.Addr()); err != nil {
			t.path.Fate, t.path.By, t.path.Doubt = Stopped, err.Error(), ""
		}
	}
	t.path.Local = t.packet.Local
}

// filter follows the connection through a built-in chain of a table of each variant,
// unless it has been stopped.
func (t *tracer) filter(table, chain string) {
	for _, v := range t.variants {
		if t.path.Fate != Stopped {
			t.filterIn(v, table, chain)
		}
	}
}

// filterIn follows the connection through a built-in chain of a variant's table.
func (t *tracer) filterIn(v Variant, table, chain string) {
	var f filtering
	t.certain = true
	w := Walk{Table: v.Tables[table], Program: v.Program, Name: table, Packet: t.packet, Visit: func(s Step) Effect {
		t.note(s, chain)
		f.note(s)
		return Continues
	}}
	verdict := w.Filter(chain, t.port)
	t.packet.Marked = w.Packet.Marked
	policy := Step{Program: v.Program, Table: table, Chain: chain, Text: "policy DROP"}.String()
	switch {
	case len(verdict.Stops) == 0:
	case len(verdict.Passes) == 0 && len(verdict.Policy) > 0:
		t.path.Fate, t.path.By, t.path.Doubt = Stopped, policy, ""
	case len(verdict.Passes) == 0:
		t.path.Fate, t.path.By, t.path.Doubt = Stopped, f.last, ""
	case t.path.Fate == Arrives:
		t.path.Fate, t.path.By, t.path.Doubt = Unknown, cmp.Or(f.first, policy), f.doubt
	}
}

// filtering is the rules of a built-in chain that matter for a connection.
type filtering struct {
	first, last string // that stop it or may do so
	doubt       string // the first whose effect is not known
}

// note notes a step.
func (f *filtering) note(s Step) {
	effect := EffectOf(s.Target)
	if !s.Calls && (Stops(s.Target) || effect == MayEnd) {
		f.first, f.last = cmp.Or(f.first, s.String()), s.String()
	}
	if f.doubt == "" && s.isDoubtful() {
		f.doubt = s.String()
	}
}

// IsCertain reports whether packets match the rule if they get there.
func (s Step) IsCertain() bool { return len(s.Ports.Minus(s.Must)) == 0 }

// isDoubtful reports whether it is not known what the rule does with packets that get
// there.
func (s Step) isDoubtful() bool {
	effect := EffectOf(s.Target)
	if s.Calls || s.Target == "RETURN" || effect == Ends {
		return !s.IsCertain()
	}
	return effect == MayEnd
}

// note adds a step to the path, and notes what it does to the packet.
func (t *tracer) note(s Step, hook string) {
	t.path.Steps = append(t.path.Steps, s)
	t.certain = t.certain && len(s.Must) > 0
	t.rewritten = t.rewritten || hook == "PREROUTING" && !s.Calls && EffectOf(s.Target) == MayEnd
	if s.untracks() {
		t.packet.untracked = t.packet.untracked.or(matchSet{may: everyPort, must: matchIf(t.certain).must})
	}
}

// String returns the step as "filter FORWARD -i eth0 -j DROP", after the name of
// the program if that is needed.
func (s Step) String() string {
	return strings.TrimPrefix(s.Program+" "+s.Table+" "+s.Chain+" "+s.Text, " ")
}

// untracks reports whether the rule hides the packet from conntrack.
func (r Rule) untracks() bool {
	return r.Target == "NOTRACK" || r.Target == "CT" && slices.Contains(r.Options, "--notrack")
}

// translate follows the connection through nat PREROUTING, unless it is not
// tracked.
func (t *tracer) translate(c Connection) {
	if t.path.Fate == Stopped || len(t.packet.untracked.must) > 0 {
		return
	}
	possible := destinations{c.Destination: true}
	doubt := ""
	for _, v := range t.variants {
		var here destinations
		here, doubt = t.translateIn(v, c, doubt)
		possible = possible.or(here, c.Destination)
	}
	t.path.To = netip.AddrPort{}
	for one := range possible {
		if len(possible) == 1 {
			t.path.To = one
		}
	}
	if t.path.To == (netip.AddrPort{}) && t.path.Fate == Arrives {
		t.path.Doubt = doubt
	}
	t.packet.translated = matchTranslated(c.Destination, t.path.To)
}

// destinations are where a connection may go to; the zero AddrPort: it is not known.
type destinations map[netip.AddrPort]bool

// or returns where a connection may go to after two variants' tables nat. It keeps its
// destination if both may leave it: which of them comes first is not known, and the
// first that translates it decides.
func (d destinations) or(o destinations, unchanged netip.AddrPort) destinations {
	all := maps.Clone(d)
	maps.Copy(all, o)
	if !d[unchanged] || !o[unchanged] {
		delete(all, unchanged)
	}
	return all
}

// translateIn follows the connection through nat PREROUTING of a variant, and adds to
// doubt the first rule on which it depends where it goes.
func (t *tracer) translateIn(v Variant, c Connection, doubt string) (destinations, string) {
	n := translation{connection: c, possible: make(destinations), doubt: doubt}
	w := Walk{Table: v.Tables["nat"], Program: v.Program, Name: "nat", Packet: t.packet, Visit: func(s Step) Effect {
		t.path.Steps = append(t.path.Steps, s)
		return n.visit(s)
	}}
	end := w.From("PREROUTING", t.port)
	switch {
	case len(end) > 0 && w.Table.policy("PREROUTING") == "DROP":
		n.possible[netip.AddrPort{}] = true
	case len(end) > 0, len(t.packet.untracked.may) > 0:
		n.possible[c.Destination] = true
	}
	t.packet.Marked = w.Packet.Marked
	return n.possible, n.doubt
}

// translation is what the rules of a table nat do to a connection.
type translation struct {
	connection Connection
	possible   destinations
	doubt      string
}

// visit notes what a rule does.
func (n *translation) visit(s Step) Effect {
	effect := EffectOf(s.Target)
	isDoubtful := s.isDoubtful()
	if s.Calls {
		effect = Continues
	}
	if effect != Continues {
		to := netip.AddrPort{}
		if effect == Ends {
			to = destination(s.Rule, n.connection)
		}
		n.possible[to] = true
		isDoubtful = isDoubtful || to == (netip.AddrPort{})
	}
	if isDoubtful {
		n.doubt = cmp.Or(n.doubt, s.String())
	}
	return effect
}

// matchTranslated returns the set of packets that have been translated.
func matchTranslated(from, to netip.AddrPort) matchSet {
	if to.Port() == from.Port() && !to.Addr().IsValid() {
		return perhaps
	}
	return matchIf(to != from)
}

// destination returns where a rule of table nat sends the connection; the zero
// AddrPort if that is not known. REDIRECT sends it to the address of the
// interface that it came in by: only the port is known.
func destination(r Rule, c Connection) netip.AddrPort {
	to := c.Destination
	switch r.Target {
	case "ACCEPT":
		return to
	case "REDIRECT":
		p, ok := PortRange{to.Port(), to.Port()}, true
		if text := r.Option("--to-ports"); text != "" {
			p, ok = ParsePortRange(text, "-")
		}
		if ok && p.First == p.Last {
			return netip.AddrPortFrom(netip.Addr{}, p.First)
		}
	case "NETMAP":
		if base, mask, ok := parseNetwork(r.Option("--to")); ok && base.Is4() == to.Addr().Is4() {
			return netip.AddrPortFrom(splice(base, to.Addr(), mask), to.Port())
		}
	case "DNAT":
		text := r.Option("--to-destination")
		if strings.HasPrefix(text, ":") {
			text = to.Addr().String() + text
		}
		return forwardsTo(r, to.Port(), text)
	}
	return netip.AddrPort{}
}

// forwardsTo returns where DNAT to "10.0.0.1", "10.0.0.1:80" or
// "[2001:db8::1]:80" forwards connections to a port; the zero AddrPort if that
// is not one place.
func forwardsTo(r Rule, port uint16, to string) netip.AddrPort {
	if slices.ContainsFunc(r.Options, func(o string) bool { return strings.HasPrefix(o, "--random") }) {
		return netip.AddrPort{}
	}
	if a, err := netip.ParseAddr(to); err == nil {
		return netip.AddrPortFrom(a, port)
	}
	at, err := netip.ParseAddrPort(to)
	if err != nil {
		return netip.AddrPort{}
	}
	return at
}
