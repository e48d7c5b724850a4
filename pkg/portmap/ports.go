package portmap

import (
	"math/bits"
	"strings"
)

// Ports is a list of ports and ranges of ports; empty: every port.
type Ports []PortRange

// Contains reports whether port is one of them.
func (p Ports) Contains(port uint16) bool {
	for _, r := range p {
		if r.Contains(port) {
			return true
		}
	}
	return len(p) == 0
}

// String returns the list as text: "80,443,5000-5063".
func (p Ports) String() string {
	var words []string
	for _, r := range p.ranges() {
		words = append(words, r.String())
	}
	return strings.Join(words, ",")
}

// ranges returns the list, with the range of all ports for every port.
func (p Ports) ranges() []PortRange {
	if len(p) == 0 {
		return []PortRange{{Last: 1<<16 - 1}}
	}
	return p
}

// PortSet is a set of ports, one bit each.
type PortSet [1 << 16 / 64]uint64

// Has reports whether p is in the set.
func (s *PortSet) Has(p uint16) bool { return s[p/64]&(1<<(p%64)) != 0 }

// Add adds p to the set.
func (s *PortSet) Add(p uint16) { s[p/64] |= 1 << (p % 64) }

// Remove removes p from the set.
func (s *PortSet) Remove(p uint16) { s[p/64] &^= 1 << (p % 64) }

// AddRange adds all ports of r to the set.
func (s *PortSet) AddRange(r PortRange) {
	for w := int(r.First / 64); w <= int(r.Last/64); w++ {
		s[w] |= r.word(w)
	}
}

// RemoveRange removes all ports of r from the set.
func (s *PortSet) RemoveRange(r PortRange) {
	for w := int(r.First / 64); w <= int(r.Last/64); w++ {
		s[w] &^= r.word(w)
	}
}

// word returns the range's bits in word w of a PortSet.
func (r PortRange) word(w int) uint64 {
	m := ^uint64(0)
	if w == int(r.First/64) {
		m &= ^uint64(0) << (r.First % 64)
	}
	if w == int(r.Last/64) {
		m &= ^uint64(0) >> (63 - r.Last%64)
	}
	return m
}

// unite adds all ports of o to the set.
func (s *PortSet) unite(o *PortSet) {
	for w := range s {
		s[w] |= o[w]
	}
}

// subtract removes all ports of o from the set.
func (s *PortSet) subtract(o *PortSet) {
	for w := range s {
		s[w] &^= o[w]
	}
}

// intersect removes all ports from the set that o does not have.
func (s *PortSet) intersect(o *PortSet) {
	for w := range s {
		s[w] &= o[w]
	}
}

// Intersects reports whether the set and o have a port in common.
func (s *PortSet) Intersects(o *PortSet) bool {
	both := *s
	both.intersect(o)
	return !both.empty()
}

// Len returns the number of ports in the set.
func (s *PortSet) Len() (n int) {
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// Ranges returns the ports of the set as ranges, the lowest first, without those that
// could be joined.
func (s *PortSet) Ranges() (list []PortRange) {
	for p := range 1 << 16 {
		port := uint16(p)
		switch n := len(list); {
		case !s.Has(port):
		case n > 0 && int(list[n-1].Last)+1 == p:
			list[n-1].Last = port
		default:
			list = append(list, PortRange{port, port})
		}
	}
	return list
}

// String returns the ports as text: "1234-1299 5000", "" for none.
func (s *PortSet) String() string {
	var words []string
	for _, r := range s.Ranges() {
		words = append(words, r.String())
	}
	return strings.Join(words, " ")
}

// empty reports whether the set has no ports.
func (s *PortSet) empty() bool { return *s == PortSet{} }

// in returns the first port of the set within r.
func (s *PortSet) in(r PortRange) (uint16, bool) {
	for w := int(r.First / 64); w <= int(r.Last/64); w++ {
		if m := s[w] & r.word(w); m != 0 {
			return uint16(w*64 + bits.TrailingZeros64(m)), true
		}
	}
	return 0, false
}

// next returns the first port of the set at or after from, wrapping around
// once.
func (s *PortSet) next(from uint16) (uint16, bool) {
	if p, ok := s.in(PortRange{from, 1<<16 - 1}); ok {
		return p, true
	}
	return s.in(PortRange{0, from})
}
