package xtables

import (
	"cmp"
	"slices"
)

// Protocol is an IANA transport protocol number.
type Protocol uint8

// The protocols whose packets are traced.
const (
	TCP Protocol = 6
	UDP Protocol = 17
)

// protocols are those that a PortSet has ports of.
var protocols = [...]Protocol{TCP, UDP}

// PortRange is a range of ports, First to Last.
type PortRange struct{ First, Last uint16 }

// PortSet is a set of destination ports of TCP and UDP: ranges in ascending
// order that do not touch. It is immutable.
type PortSet []span

// span is a range of ports. UDP's numbers follow TCP's.
type span struct{ first, last uint32 }

// numPorts is how many ports a protocol has, including port 0.
const numPorts = 1 << 16

// everyPort is all of TCP and UDP.
var everyPort = PortSet{{0, 2*numPorts - 1}}

// EveryPort returns all ports of these protocols but port 0; without protocols,
// of TCP and UDP.
func EveryPort(of ...Protocol) PortSet {
	if len(of) == 0 {
		of = protocols[:]
	}
	return PortsOf(PortRange{First: 1, Last: numPorts - 1}, of...)
}

// PortsOf returns the ports of a range in the protocols given.
func PortsOf(r PortRange, protocols ...Protocol) PortSet {
	var set PortSet
	for _, p := range protocols {
		set = set.Or(PortSet{{base(p) + uint32(r.First), base(p) + uint32(r.Last)}})
	}
	return set
}

// base returns the number of a protocol's port 0.
func base(p Protocol) uint32 {
	if p == UDP {
		return numPorts
	}
	return 0
}

// And returns the intersection of both sets.
func (s PortSet) And(o PortSet) PortSet {
	var both PortSet
	for len(s) > 0 && len(o) > 0 {
		if first, last := max(s[0].first, o[0].first), min(s[0].last, o[0].last); first <= last {
			both = append(both, span{first, last})
		}
		if s[0].last < o[0].last {
			s = s[1:]
		} else {
			o = o[1:]
		}
	}
	return both
}

// Not returns the complement of the set.
func (s PortSet) Not() PortSet {
	var rest PortSet
	next := uint32(0)
	for _, r := range s {
		if r.first > next {
			rest = append(rest, span{next, r.first - 1})
		}
		next = r.last + 1
	}
	if next < 2*numPorts {
		rest = append(rest, span{next, 2*numPorts - 1})
	}
	return rest
}

// Minus returns the ports in s that are not in o.
func (s PortSet) Minus(o PortSet) PortSet { return s.And(o.Not()) }

// Or returns the union of both sets.
func (s PortSet) Or(o PortSet) PortSet {
	all, _ := Union(s, o)
	return all
}

// Union returns the ports in any of the sets, and those in more than one.
func Union(sets ...PortSet) (all, shared PortSet) {
	spans := slices.Concat(sets...)
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	for _, r := range spans {
		if n := len(all); n > 0 && r.first <= all[n-1].last {
			shared = shared.with(span{r.first, min(r.last, all[n-1].last)})
		}
		all = all.with(r)
	}
	return all, shared
}

// with returns the set with a range that does not begin before its last one. It
// may change s.
func (s PortSet) with(r span) PortSet {
	if n := len(s); n > 0 && r.first <= s[n-1].last+1 {
		s[n-1].last = max(s[n-1].last, r.last)
		return s
	}
	return append(s, r)
}

// Ranges returns the set's ports of one protocol.
func (s PortSet) Ranges(p Protocol) []PortRange {
	var list []PortRange
	for _, r := range s.And(PortsOf(PortRange{Last: numPorts - 1}, p)) {
		list = append(list, PortRange{First: uint16(r.first - base(p)), Last: uint16(r.last - base(p))})
	}
	return list
}
