package portmap

import "math/bits"

// PortSet is a set of ports, one bit each.
type PortSet [1 << 16 / 64]uint64

// Has reports whether p is in the set.
func (s *PortSet) Has(p uint16) bool { return s[p/64]&(1<<(p%64)) != 0 }

// Add puts p into the set.
func (s *PortSet) Add(p uint16) { s[p/64] |= 1 << (p % 64) }

// Remove takes p out of the set.
func (s *PortSet) Remove(p uint16) { s[p/64] &^= 1 << (p % 64) }

// AddRange puts all ports of r into the set.
func (s *PortSet) AddRange(r PortRange) {
	for w := int(r.First / 64); w <= int(r.Last/64); w++ {
		s[w] |= r.word(w)
	}
}

// RemoveRange takes all ports of r out of the set.
func (s *PortSet) RemoveRange(r PortRange) {
	for w := int(r.First / 64); w <= int(r.Last/64); w++ {
		s[w] &^= r.word(w)
	}
}

// word returns the bits of the range that fall into word w of a PortSet.
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

// subtract takes all of o out of the set.
func (s *PortSet) subtract(o *PortSet) {
	for w := range s {
		s[w] &^= o[w]
	}
}

// empty reports whether no port is in the set.
func (s *PortSet) empty() bool { return *s == PortSet{} }

// in returns the first member within r.
func (s *PortSet) in(r PortRange) (uint16, bool) {
	for w := int(r.First / 64); w <= int(r.Last/64); w++ {
		if m := s[w] & r.word(w); m != 0 {
			return uint16(w*64 + bits.TrailingZeros64(m)), true
		}
	}
	return 0, false
}

// next returns the first member at or after from, wrapping round once.
func (s *PortSet) next(from uint16) (uint16, bool) {
	if p, ok := s.in(PortRange{from, 1<<16 - 1}); ok {
		return p, true
	}
	return s.in(PortRange{0, from})
}
