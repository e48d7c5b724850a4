package xtables

import (
	"cmp"
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

// Connection is a new connection from another host, from outside or from a LAN.
type Connection struct {
	In                  string // the interface that its first packet comes in by
	Source, Destination netip.AddrPort
	Protocol            Protocol
	NoIPsec             bool // the kernel has no policy of IPsec for what leaves
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
	Out   string         // the interface that it leaves by, if it is forwarded

	From      Source // as which it is forwarded; the zero Source: it is not, or that is not known
	FromDoubt string // if that is not known, the first rule on which it depends
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

// Route is the way of packets to an address.
type Route struct {
	Out   string // the interface that they leave by; "" if they are for the router
	Local bool   // the address is the router's
	// Masquerade is the source that MASQUERADE gives packets there; the zero Addr:
	// not known.
	Masquerade netip.Addr
}

// Router returns the route to an address, or why there is none.
type Router func(to netip.Addr) (Route, error)

// Trace follows a connection through the tables of variants whose rules packets
// pass one after the other: raw, mangle and nat PREROUTING, then, as route says,
// INPUT, or FORWARD and POSTROUTING.
func Trace(c Connection, route Router, variants ...Variant) Path {
	to := c.Destination
	t := tracer{variants: variants, port: PortsOf(PortRange{to.Port(), to.Port()}, c.Protocol), path: Path{To: to}}
	t.packet = Packet{
		In: c.In, Source: c.Source.Addr(), SourcePort: c.Source.Port(), Destination: to.Addr(), Original: to.Addr(),
		NoIPsec: c.NoIPsec, originalPort: to.Port(),
	}
	first, _ := route(to.Addr())
	t.packet.Out, t.packet.Local = first.Out, first.Local
	t.filter("raw", "PREROUTING")
	t.filter("mangle", "PREROUTING")
	t.translateDestination(c)
	if t.rewriter != "" || t.path.To == (netip.AddrPort{}) {
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
	t.translateSource(c)
	return t.path
}

// tracer follows one connection.
type tracer struct {
	variants []Variant
	packet   Packet
	port     PortSet
	path     Path

	masquerade netip.Addr // of its route

	certain   bool   // it has matched each step of this table so far
	untracker string // the first rule that may hide it from conntrack
	rewriter  string // the first rule that may have changed its addresses by a target that is not known
}

// route routes the packet to where table nat has sent it.
func (t *tracer) route(p Protocol, route Router) {
	if t.path.Fate == Stopped {
		return
	}
	to := t.path.To
	t.port = PortsOf(PortRange{to.Port(), to.Port()}, p)
	if len(t.packet.Marked) > 0 { // by its port before translation
		t.packet.Marked = t.port
	}
	way := Route{Local: true}
	if to.Addr().IsValid() {
		var err error
		if way, err = route(to.Addr()); err != nil {
			t.path.Fate, t.path.By, t.path.Doubt = Stopped, err.Error(), ""
		}
	}
	t.packet.Destination, t.packet.Out, t.packet.Local, t.masquerade = to.Addr(), way.Out, way.Local, way.Masquerade
	t.path.Out, t.path.Local = way.Out, way.Local
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
	if strings.HasSuffix(hook, "ROUTING") && !s.Calls && EffectOf(s.Target) == MayEnd {
		t.rewriter = cmp.Or(t.rewriter, s.String())
	}
	if s.untracks() {
		t.untracker = cmp.Or(t.untracker, s.String())
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
