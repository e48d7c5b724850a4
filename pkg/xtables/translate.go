package xtables

import (
	"cmp"
	"maps"
	"net/netip"
	"strings"
)

// translateDestination follows the connection through nat PREROUTING, unless it is not
// tracked.
func (t *tracer) translateDestination(c Connection) {
	if !t.isTranslated() {
		return
	}
	to, n := translate(t, "PREROUTING", c.Destination, func(r Rule) netip.AddrPort { return destination(r, c) })
	t.path.To = to
	if to == (netip.AddrPort{}) && t.path.Fate == Arrives {
		t.path.Doubt = n.doubt
	}
	t.packet.translated = matchTranslated(c.Destination, to)
}

// translateSource follows the connection through nat POSTROUTING if it gets there.
func (t *tracer) translateSource(c Connection) {
	switch own := ownSource(c); {
	case t.path.Fate == Stopped || t.packet.Local:
	case t.rewriter != "":
		t.path.FromDoubt = t.rewriter
	case !t.isTranslated():
		t.path.From = own
	default:
		from, n := translate(t, "POSTROUTING", own, func(r Rule) Source { return own.after(r, t.masquerade) })
		t.path.From = from
		if from == (Source{}) {
			t.path.FromDoubt = cmp.Or(n.doubt, n.stops)
		}
		if n.stops != "" && t.path.Fate == Arrives {
			t.path.Fate, t.path.By, t.path.Doubt = Unknown, n.stops, n.stops
		}
	}
}

// isTranslated reports whether the packet may pass table nat.
func (t *tracer) isTranslated() bool {
	return t.path.Fate != Stopped && len(t.packet.untracked.must) == 0
}

// outcomes is what may become of a connection's address in table nat; the zero T: that is
// not known.
type outcomes[T comparable] map[T]bool

// or returns the outcomes after two variants' tables nat. The address is unchanged if
// both may leave it: which of them comes first is not known, and the first that
// translates it decides.
func (o outcomes[T]) or(other outcomes[T], unchanged T) outcomes[T] {
	all := maps.Clone(o)
	maps.Copy(all, other)
	if !o[unchanged] || !other[unchanged] {
		delete(all, unchanged)
	}
	return all
}

// only returns the outcome if there is one, else the zero T.
func (o outcomes[T]) only() (only T) {
	for one := range o {
		if len(o) == 1 {
			only = one
		}
	}
	return only
}

// translation is what the rules of a chain of table nat do to an address of a connection.
type translation[T comparable] struct {
	unchanged T
	result    func(Rule) T // of a rule that ends the walk; the zero T: that is not known
	possible  outcomes[T]
	doubt     string // the first rule on which it depends
	stops     string // the first rule or policy that may stop it instead
}

// translate follows the connection through a built-in chain of each variant's table nat,
// and returns what becomes of an address; the zero T if that is not known.
func translate[T comparable](t *tracer, chain string, unchanged T, result func(Rule) T) (T, translation[T]) {
	n := translation[T]{unchanged: unchanged, result: result, doubt: t.untracker}
	all := outcomes[T]{unchanged: true}
	for _, v := range t.variants {
		n.possible = make(outcomes[T])
		n.walk(t, v, chain)
		all = all.or(n.possible, unchanged)
	}
	return all.only(), n
}

// walk follows the connection through a variant's chain.
func (n *translation[T]) walk(t *tracer, v Variant, chain string) {
	w := Walk{Table: v.Tables["nat"], Program: v.Program, Name: "nat", Packet: t.packet, Visit: func(s Step) Effect {
		t.path.Steps = append(t.path.Steps, s)
		return n.visit(s)
	}}
	end := w.From(chain, t.port)
	var none T
	switch {
	case len(end) > 0 && w.Table.policy(chain) == "DROP":
		n.possible[none] = true
		n.stops = cmp.Or(n.stops, Step{Program: v.Program, Table: "nat", Chain: chain, Text: "policy DROP"}.String())
	case len(end) > 0, len(t.packet.untracked.may) > 0:
		n.possible[n.unchanged] = true
	}
	t.packet.Marked = w.Packet.Marked
}

// visit notes what a rule does.
func (n *translation[T]) visit(s Step) Effect {
	effect := EffectOf(s.Target)
	isDoubtful := s.isDoubtful()
	if s.Calls {
		effect = Continues
	}
	var none T
	if effect != Continues {
		to := none
		if effect == Ends {
			to = n.result(s.Rule)
		}
		n.possible[to] = true
		isDoubtful = isDoubtful || to == none
		if effect == MayEnd || Stops(s.Target) {
			n.stops = cmp.Or(n.stops, s.String())
		}
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
	if r.isRandom() {
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
