package netfilter

import (
	"cmp"
	"slices"

	"igdd/pkg/portmap"
)

// portSet is a set of destination ports of TCP and UDP: ranges in ascending
// order that do not touch. It is immutable.
type portSet []span

// span is a range of ports. UDP's numbers follow TCP's.
type span struct{ first, last uint32 }

// numPorts is how many ports a protocol has, including port 0.
const numPorts = 1 << 16

// everyPort is all of TCP and UDP.
var everyPort = portSet{{0, 2*numPorts - 1}}

// portsOf returns the ports of a range in the protocols given.
func portsOf(r portmap.PortRange, protocols ...portmap.Protocol) portSet {
	var set portSet
	for _, p := range protocols {
		set = set.or(portSet{{base(p) + uint32(r.First), base(p) + uint32(r.Last)}})
	}
	return set
}

// base returns the number of a protocol's port 0.
func base(p portmap.Protocol) uint32 {
	if p == portmap.UDP {
		return numPorts
	}
	return 0
}

// and returns the intersection of both sets.
func (s portSet) and(o portSet) portSet {
	var both portSet
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

// not returns the complement of the set.
func (s portSet) not() portSet {
	var rest portSet
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

// minus returns the ports in s that are not in o.
func (s portSet) minus(o portSet) portSet { return s.and(o.not()) }

// or returns the union of both sets.
func (s portSet) or(o portSet) portSet {
	all, _ := union(s, o)
	return all
}

// union returns the ports in any of the sets, and those in more than one.
func union(sets ...portSet) (all, shared portSet) {
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
func (s portSet) with(r span) portSet {
	if n := len(s); n > 0 && r.first <= s[n-1].last+1 {
		s[n-1].last = max(s[n-1].last, r.last)
		return s
	}
	return append(s, r)
}

// ranges returns the set's ports of one protocol.
func (s portSet) ranges(p portmap.Protocol) []portmap.PortRange {
	var list []portmap.PortRange
	for _, r := range s.and(portsOf(portmap.PortRange{Last: numPorts - 1}, p)) {
		list = append(list, portmap.PortRange{First: uint16(r.first - base(p)), Last: uint16(r.last - base(p))})
	}
	return list
}
