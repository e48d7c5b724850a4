package portmap

import (
	"cmp"
	"slices"
)

// order compares mappings for a sorted list of them. No two mappings of a list are equal
// in it, but for the versions of one mapping.
type order func(a, b *Mapping) int

// bySerial is the order of creation.
func bySerial(a, b *Mapping) int { return cmp.Compare(a.Serial, b.Serial) }

// byPort sorts the mappings to one address by port and protocol, then the oldest first.
func byPort(a, b *Mapping) int {
	return cmp.Or(comparePorts(a, target{b.Protocol, b.Internal}), bySerial(a, b))
}

// comparePorts compares the port and the protocol of m's internal end with t's.
func comparePorts(m *Mapping, t target) int {
	return cmp.Or(cmp.Compare(m.Internal.Port(), t.Port()), cmp.Compare(m.Protocol, t.Protocol))
}

// insert adds m to a list.
func (o order) insert(list []*Mapping, m *Mapping) []*Mapping {
	i, _ := slices.BinarySearchFunc(list, m, o)
	return slices.Insert(list, i, m)
}

// remove removes m from a list, if it is there.
func (o order) remove(list []*Mapping, m *Mapping) []*Mapping {
	if i, found := slices.BinarySearchFunc(list, m, o); found {
		return slices.Delete(list, i, i+1)
	}
	return list
}

// replace puts m in the place of its earlier version in a list.
func (o order) replace(list []*Mapping, m *Mapping) {
	if i, found := slices.BinarySearchFunc(list, m, o); found {
		list[i] = m
	}
}
