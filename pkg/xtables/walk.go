package xtables

import (
	"slices"
	"strings"
)

// Step is a rule that a packet may match.
type Step struct {
	Rule
	Program      string // of the walk
	Table, Chain string
	Index        int     // of the rule in its chain
	Depth        int     // of calls from the built-in chain
	Text         string  // of the rule
	Calls        bool    // the target is a chain of the table
	Ports        PortSet // of packets that may match the rule
	Must         PortSet // of packets that match it if they get there
	Past         PortSet // those of Ports that may have matched the walk's Mark
	NamesPorts   bool    // the rule, or one that called its chain, names ports
	NamesOut     bool    // the rule, or one that called its chain, says by which interface packets leave
	Plain        bool    // the rule, and each that called its chain, selects by interface and state at most
}

// Walk follows packets through the chains of a table, as the kernel does, for
// all ports at once.
type Walk struct {
	Table   Table
	Program string // the name that steps get
	Name    string // of the table
	Packet  Packet
	Mark    func(Step) bool // reports whether a rule is the mark; nil: none is
	// Visit is called for each rule that a packet may match, in order. It returns
	// what becomes of packets that match a rule whose target is no chain of the
	// table. For a call Ends means that the chain is not entered, and nothing returns
	// from it.
	Visit func(Step) Effect
}

// Effect is what a rule does with a packet that matches it.
type Effect int

// The effects of a rule.
const (
	Continues Effect = iota // the next rule follows
	Ends                    // the walk
	MayEnd                  // either of them
)

// maxDepth bounds the depth of calls from chain to chain. The kernel allows 16
// with nft, and any without loops with legacy iptables.
const maxDepth = 100

// From returns the ports of packets that may reach the end of a built-in chain,
// of those that enter it.
func (w *Walk) From(chain string, ports PortSet) PortSet {
	w.Packet.table, w.Packet.hook = w.Name, chain
	return w.through(chain, Step{Ports: ports, Plain: true}, 0).all
}

// flow is the ports of packets at one point of a walk.
type flow struct {
	all  PortSet
	past PortSet // may have met the mark
}

// or returns both flows together.
func (f flow) or(o flow) flow { return flow{f.all.Or(o.all), f.past.Or(o.past)} }

// minus returns the flow without some ports.
func (f flow) minus(ports PortSet) flow { return flow{f.all.Minus(ports), f.past.Minus(ports)} }

// through returns the packets that may return from a chain that a step has
// called.
func (w *Walk) through(chain string, by Step, depth int) (returned flow) {
	here := flow{by.Ports, by.Past}
	if depth > maxDepth {
		return here
	}
	for i, rule := range w.Table.parsedRules(chain) {
		m := w.Packet.matchAll(rule.Conditions)
		s := Step{
			Rule: rule, Program: w.Program, Table: w.Name, Chain: chain, Index: i, Depth: depth, Text: w.Table[chain].Rules[i], Calls: w.Table.Has(rule.Target),
			Ports: here.all.And(m.may), Must: here.all.And(m.must), Past: here.past.And(m.may),
			NamesPorts: by.NamesPorts || m.namesPorts, NamesOut: by.NamesOut || rule.Condition("-o").Value != "", Plain: by.Plain && rule.isPlain(),
		}
		if len(s.Ports) == 0 {
			continue
		}
		if w.Mark != nil && w.Mark(s) {
			s.Past, here.past = s.Ports, here.past.Or(s.Ports)
		}
		matched, rest := flow{s.Ports, s.Past}, here.minus(m.must)
		effect := w.Visit(s)
		switch {
		case effect == Ends:
			here = rest
		case rule.Target == "RETURN":
			returned, here = returned.or(matched), rest
		case s.Calls && rule.Verb == "-g":
			returned, here = returned.or(w.through(rule.Target, s, depth+1)), rest
		case s.Calls:
			here = rest.or(w.through(rule.Target, s, depth+1))
		case rule.marks():
			w.Packet.Marked = w.Packet.Marked.Or(s.Ports)
		}
	}
	return returned.or(here)
}

// isPlain reports whether the rule selects packets by interface and the state
// NEW at most: if it matches a new connection from an uplink it matches all of
// them.
func (r Rule) isPlain() bool {
	return !slices.ContainsFunc(r.Conditions, func(c Condition) bool { return !c.isPlain() })
}

// SelectsByProtocol reports whether the rule selects packets by protocol,
// interface and the state NEW at most.
func (r Rule) SelectsByProtocol() bool {
	return !slices.ContainsFunc(r.Conditions, func(c Condition) bool { return c.Option != "-p" && !c.isPlain() })
}

// isPlain reports whether the condition is about the interface or the state NEW.
func (c Condition) isPlain() bool {
	switch c.Option {
	case "-i", "-o", "--comment":
		return true
	case "-m":
		return slices.Contains([]string{"comment", "conntrack", "state"}, c.Value)
	case "--ctstate", "--state":
		return slices.Contains(strings.Split(c.Value, ","), "NEW") != c.Negated
	}
	return false
}

// marks reports whether the target may change the packet's mark.
func (r Rule) marks() bool {
	return slices.Contains([]string{"MARK", "CONNMARK", "HMARK"}, r.Target) || !slices.Contains(passing[:], r.Target) && !isVerdict(r.Target)
}

// passing are targets after which the next rule follows.
var passing = [...]string{
	"", "AUDIT", "CHECKSUM", "CLASSIFY", "CONNMARK", "CONNSECMARK", "CT", "DSCP", "ECN", "FLOWOFFLOAD", "HL", "HMARK", "IDLETIMER", "LED",
	"LOG", "MARK", "NFLOG", "NOTRACK", "RATEEST", "RETURN", "SECMARK", "SET", "TCPMSS", "TCPOPTSTRIP", "TEE", "TOS", "TRACE", "TTL", "ULOG",
}

// isVerdict reports whether a target ends the walk through a table.
func isVerdict(target string) bool {
	switch target {
	case "ACCEPT", "DROP", "REJECT", "TARPIT", "DNAT", "REDIRECT", "NETMAP", "SNAT", "MASQUERADE":
		return true
	}
	return false
}

// EffectOf returns the effect of a target that is no chain.
func EffectOf(target string) Effect {
	switch {
	case isVerdict(target):
		return Ends
	case slices.Contains(passing[:], target):
		return Continues
	}
	return MayEnd
}
