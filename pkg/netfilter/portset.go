package netfilter

import (
	"cmp"
	"slices"

	"igdd/pkg/portmap"
)

// portSet is a set of destination ports of TCP and UDP: ranges in ascending
// order that do not touch. It is never changed once made.
type portSet []span

// span is a range of ports. UDP's numbers stand behind TCP's.
type span struct{ first, last uint32 }

// ports is how many there are of one protocol, port 0 included.
const ports = 1 << 16

// everyPort is all of TCP and UDP.
var everyPort = portSet{{0, 2*ports - 1}}

// portsOf returns the ports of a range in the protocols given.
func portsOf(r portmap.PortRange, protocols ...portmap.Protocol) portSet {
	var set portSet
	for _, p := range protocols {
		set = set.or(portSet{{base(p) + uint32(r.First), base(p) + uint32(r.Last)}})
	}
	return set
}

// base is the number of a protocol's port 0.
func base(p portmap.Protocol) uint32 {
	if p == portmap.UDP {
		return ports
	}
	return 0
}

// and returns what is in both sets.
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

// not returns what is not in the set.
func (s portSet) not() portSet {
	var rest portSet
	next := uint32(0)
	for _, r := range s {
		if r.first > next {
			rest = append(rest, span{next, r.first - 1})
		}
		next = r.last + 1
	}
	if next < 2*ports {
		rest = append(rest, span{next, 2*ports - 1})
	}
	return rest
}

// minus returns what is in s alone.
func (s portSet) minus(o portSet) portSet { return s.and(o.not()) }

// or returns what is in either set.
func (s portSet) or(o portSet) portSet {
	either, _ := union(s, o)
	return either
}

// union returns what is in any of the sets, and what is in more than one.
func union(sets ...portSet) (once, again portSet) {
	all := slices.Concat(sets...)
	slices.SortFunc(all, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	for _, r := range all {
		if n := len(once); n > 0 && r.first <= once[n-1].last {
			again = again.with(span{r.first, min(r.last, once[n-1].last)})
		}
		once = once.with(r)
	}
	return once, again
}

// with appends a range that does not begin before the last one.
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
	for _, r := range s.and(portsOf(portmap.PortRange{Last: ports - 1}, p)) {
		list = append(list, portmap.PortRange{First: uint16(r.first - base(p)), Last: uint16(r.last - base(p))})
	}
	return list
}
