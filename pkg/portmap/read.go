package portmap

import (
	"net/netip"
	"slices"
)

// List returns all mappings in order of creation. The mappings are shared and
// must not be changed.
func (t *Table) List() []*Mapping {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.Clone(t.inForce.order)
}

// At returns the i-th port mapping in order of creation, counted from 0.
// Pinholes do not count.
func (t *Table) At(i int) (*Mapping, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if i < 0 || i >= len(t.inForce.ports) {
		return nil, false
	}
	return t.inForce.ports[i], true
}

// Lookup returns the mapping of a key.
func (t *Table) Lookup(k Key) (*Mapping, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	m, ok := t.inForce.byKey[k]
	return m, ok
}

// Pinhole returns the pinhole with this UniqueID of UPnP.
func (t *Table) Pinhole(id uint16) (*Mapping, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	m, ok := t.inForce.byID[id]
	return m, ok
}

// Count returns the number of port mappings, and the number of changes made to
// them since the start, which is UPnP's SystemUpdateID (WANIPConnection:2,
// section 2.3.23). Pinholes do not count.
func (t *Table) Count() (mappings int, updates uint32) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.inForce.ports), t.updates
}

// Unmapped returns how many of these external ports no mapping has.
func (t *Table) Unmapped(p Protocol, ports *PortSet) int {
	left := *ports
	t.mu.RLock()
	defer t.mu.RUnlock()
	left.subtract(t.inForce.taken[p])
	return left.Len()
}

// External returns the announced IPv4 address; the zero Addr means none now.
func (t *Table) External() netip.Addr {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.external
}
