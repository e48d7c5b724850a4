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
	To    netip.AddrPort // where it is forwarded to; the zero AddrPort: not known
	Local bool           // that is an address of the router
}

// Trace follows a connection through the tables: raw, mangle and nat PREROUTING,
// then, as route says, INPUT or FORWARD. The function route
// returns the interface by which packets to an address leave, or that the
// address is the router's.
func (s Snapshot) Trace(c Connection, route func(netip.Addr) (out string, local bool)) Path {
	t := tracer{tables: s, port: PortsOf(PortRange{c.Destination.Port(), c.Destination.Port()}, c.Protocol)}
	t.packet = Packet{In: c.In, Source: c.Source.Addr(), SourcePort: c.Source.Port(), Destination: c.Destination.Addr(), Original: c.Destination.Addr()}
	_, t.packet.Local = route(c.Destination.Addr())
	t.path.To = c.Destination
	t.filter("raw", "PREROUTING")
	t.filter("mangle", "PREROUTING")
	t.translate(c)
	if !t.path.To.IsValid() {
		t.path.Fate = max(t.path.Fate, Unknown)
		return t.path
	}
	t.port = PortsOf(PortRange{t.path.To.Port(), t.path.To.Port()}, c.Protocol)
	t.packet.Destination = t.path.To.Addr()
	t.packet.Out, t.packet.Local = route(t.packet.Destination)
	t.path.Local = t.packet.Local
	chain := "FORWARD"
	if t.packet.Local {
		chain = "INPUT"
	}
	for _, table := range [...]string{"mangle", "filter", "security"} {
		t.filter(table, chain)
	}
	return t.path
}

// tracer follows one connection.
type tracer struct {
	tables Snapshot
	packet Packet
	port   PortSet
	path   Path
}

// filter follows the connection through a built-in chain of a table, unless it
// has been stopped.
func (t *tracer) filter(table, chain string) {
	if t.path.Fate == Stopped {
		return
	}
	by := ""
	w := Walk{Table: t.tables[table], Name: table, Packet: t.packet, Visit: func(s Step) Effect {
		t.path.Steps = append(t.path.Steps, s)
		if by == "" && !s.Calls && (Stops(s.Target) || EffectOf(s.Target) == MayEnd) {
			by = s.String()
		}
		return Continues
	}}
	v := w.Filter(chain, t.port)
	t.packet.marked = w.Packet.marked
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

// String returns the step as "filter FORWARD -i eth0 -j DROP".
func (s Step) String() string { return s.Table + " " + s.Chain + " " + s.Text }

// outcome is what table nat may do with the connection.
type outcome struct {
	to         netip.AddrPort
	translated bool
}

// translate follows the connection through nat PREROUTING.
func (t *tracer) translate(c Connection) {
	if t.path.Fate == Stopped {
		return
	}
	unchanged := outcome{to: c.Destination}
	possible := make(map[outcome]bool)
	w := Walk{Table: t.tables["nat"], Name: "nat", Packet: t.packet}
	w.Visit = func(s Step) Effect {
		t.path.Steps = append(t.path.Steps, s)
		effect := EffectOf(s.Target)
		switch {
		case s.Calls || effect == Continues:
			return Continues
		case effect == MayEnd:
			possible[outcome{}] = true
		case s.Target == "ACCEPT":
			possible[unchanged] = true
		default:
			possible[outcome{t.destination(s.Rule, c), true}] = true
		}
		return effect
	}
	if len(w.From("PREROUTING", t.port)) > 0 {
		possible[unchanged] = true
	}
	t.path.To = netip.AddrPort{}
	for one := range possible {
		if len(possible) == 1 {
			t.path.To, t.packet.Translated = one.to, one.translated
		}
	}
	t.packet.marked = w.Packet.marked
}

// destination returns where a rule forwards the connection to; the zero AddrPort
// if that is not known.
func (t *tracer) destination(r Rule, c Connection) netip.AddrPort {
	switch to := r.Option("--to-destination"); {
	case r.Target == "REDIRECT" && c.Destination.IsValid():
		text := r.Option("--to-ports")
		if text == "" {
			return c.Destination
		}
		if p, ok := ParsePortRange(text, "-"); ok && p.First == p.Last && t.packet.Local {
			return netip.AddrPortFrom(c.Destination.Addr(), p.First)
		}
	case r.Target == "DNAT":
		return ForwardsTo(r, c.Destination.Port(), to)
	}
	return netip.AddrPort{}
}

// ForwardsTo returns where DNAT to "10.0.0.1", "10.0.0.1:80" or
// "[2001:db8::1]:80" forwards connections to a port; the zero AddrPort if that
// is not one place.
func ForwardsTo(r Rule, port uint16, to string) netip.AddrPort {
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
