package xtables

import (
	"net/netip"
	"slices"
	"strings"
)

// Verdict is the ports of new connections by what becomes of them in a chain of
// a table that filters. A port can be in both sets: that depends on what is not
// known.
type Verdict struct{ Passes, Stops PortSet }

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
		v.Stops = v.Stops.Or(end)
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
	By    string         // what stops it or may stop it: "filter FORWARD -j DROP" or "filter FORWARD policy DROP"
	To    netip.AddrPort // where it goes; the zero AddrPort: not known; the zero Addr: an address of the interface In
	Local bool           // that is an address of the router
}

// The chains that a packet passes once it is routed, by their tables. What table nat
// has there drops nothing.
var (
	toRouter  = [...][2]string{{"mangle", "INPUT"}, {"filter", "INPUT"}, {"security", "INPUT"}}
	forwarded = [...][2]string{{"mangle", "FORWARD"}, {"filter", "FORWARD"}, {"security", "FORWARD"}, {"mangle", "POSTROUTING"}}
)

// Trace follows a connection through the tables: raw, mangle and nat PREROUTING,
// then, as route says, INPUT, or FORWARD and POSTROUTING. The function route
// returns the interface by which packets to an address leave, or that the
// address is the router's.
func (s Snapshot) Trace(c Connection, route func(netip.Addr) (out string, local bool)) Path {
	to := c.Destination
	t := tracer{tables: s, port: PortsOf(PortRange{to.Port(), to.Port()}, c.Protocol), path: Path{To: to}}
	t.packet = Packet{In: c.In, Source: c.Source.Addr(), SourcePort: c.Source.Port(), Destination: to.Addr(), Original: to.Addr(), originalPort: to.Port()}
	t.packet.Out, t.packet.Local = route(to.Addr())
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
	tables Snapshot
	packet Packet
	port   PortSet
	path   Path

	certain   bool // it has matched each step of this table so far
	rewritten bool // a target that is not known may have changed its destination
}

// route routes the packet to where table nat has sent it.
func (t *tracer) route(p Protocol, route func(netip.Addr) (out string, local bool)) {
	to := t.path.To
	t.port = PortsOf(PortRange{to.Port(), to.Port()}, p)
	t.packet.Destination, t.packet.Out, t.packet.Local = to.Addr(), "", true
	if to.Addr().IsValid() {
		t.packet.Out, t.packet.Local = route(to.Addr())
	}
	t.path.Local = t.packet.Local
}

// filter follows the connection through a built-in chain of a table, unless it
// has been stopped.
func (t *tracer) filter(table, chain string) {
	if t.path.Fate == Stopped {
		return
	}
	by := ""
	t.certain = true
	w := Walk{Table: t.tables[table], Name: table, Packet: t.packet, Visit: func(s Step) Effect {
		t.note(s, chain)
		if by == "" && !s.Calls && (Stops(s.Target) || EffectOf(s.Target) == MayEnd) {
			by = s.String()
		}
		return Continues
	}}
	v := w.Filter(chain, t.port)
	t.packet.Marked = w.Packet.Marked
	if len(v.Stops) == 0 {
		return
	}
	if by == "" {
		by = table + " " + chain + " policy DROP"
	}
	if len(v.Passes) == 0 {
		t.path.Fate, t.path.By = Stopped, by
	} else if t.path.Fate == Arrives {
		t.path.Fate, t.path.By = Unknown, by
	}
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

// String returns the step as "filter FORWARD -i eth0 -j DROP".
func (s Step) String() string { return s.Table + " " + s.Chain + " " + s.Text }

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
	possible := make(map[netip.AddrPort]bool) // the zero AddrPort: not known
	w := Walk{Table: t.tables["nat"], Name: "nat", Packet: t.packet}
	w.Visit = func(s Step) Effect {
		t.path.Steps = append(t.path.Steps, s)
		effect := EffectOf(s.Target)
		switch {
		case s.Calls || effect == Continues:
			return Continues
		case effect == MayEnd:
			possible[netip.AddrPort{}] = true
		default:
			possible[destination(s.Rule, c)] = true
		}
		return effect
	}
	end := w.From("PREROUTING", t.port)
	switch {
	case len(end) > 0 && w.Table.policy("PREROUTING") == "DROP":
		possible[netip.AddrPort{}] = true
	case len(end) > 0, len(t.packet.untracked.may) > 0:
		possible[c.Destination] = true
	}
	t.path.To = netip.AddrPort{}
	for one := range possible {
		if len(possible) == 1 {
			t.path.To = one
		}
	}
	t.packet.Marked = w.Packet.Marked
	t.packet.translated = matchTranslated(c.Destination, t.path.To)
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
