package portmap

import (
	"cmp"
	"net/netip"
	"slices"
)

// target is where a mapping leads.
type target struct {
	Protocol
	netip.AddrPort
}

// index is one set of mappings with an index for every question that is asked
// of it. The Table keeps two: what it has decided and what is in force.
type index struct {
	byKey     map[Key]*Mapping
	byTarget  map[target][]*Mapping     // oldest first
	byID      map[uint16]*Mapping       // by a claim's UniqueID
	byHost    map[netip.Addr][]*Mapping // by internal address, oldest first
	order     []*Mapping                // by Serial
	ports     []*Mapping                // those of order that let others in at an external port
	taken     map[Protocol]*PortSet     // external ports in use
	companion map[Protocol]*PortSet     // ports that NAT-PMP holds in the other protocol
}

func newIndex() *index {
	return &index{
		byKey:     make(map[Key]*Mapping),
		byTarget:  make(map[target][]*Mapping),
		byID:      make(map[uint16]*Mapping),
		byHost:    make(map[netip.Addr][]*Mapping),
		taken:     map[Protocol]*PortSet{TCP: {}, UDP: {}},
		companion: map[Protocol]*PortSet{TCP: {}, UDP: {}},
	}
}

// apply carries out c: the only way a book changes.
func (b *index) apply(c Change) {
	if c.renewal() {
		b.reindexIDs(c.Before, nil)
		b.reindexIDs(c.After, c.After)
		b.replace(c.After)
		return
	}
	if c.Before != nil {
		b.remove(c.Before)
	}
	if c.After != nil {
		b.insert(c.After)
	}
}

// replace puts m where its earlier self stood; all indices but the claims agree.
func (b *index) replace(m *Mapping) {
	b.byKey[m.Key] = m
	for _, list := range [...][]*Mapping{b.byTarget[target{m.Protocol, m.Internal}], b.byHost[m.Internal.Addr()], b.order, b.ports} {
		if i, found := position(list, m); found {
			list[i] = m
		}
	}
	if m.External != 0 {
		b.reserve(m)
	}
}

// reserve notes what a NAT-PMP claim keeps for its owner in the other
// protocol (RFC 6886, section 3.3).
func (b *index) reserve(m *Mapping) {
	if _, ok := m.Claim(NATPMP); ok {
		b.companion[otherProtocol(m.Protocol)].Add(m.External)
	} else {
		b.companion[otherProtocol(m.Protocol)].Remove(m.External)
	}
}

// reindexIDs makes the UniqueIDs of m's claims lead to now, or to nothing.
func (b *index) reindexIDs(m, now *Mapping) {
	for _, c := range m.Claims {
		if c.ID != 0 && now != nil {
			b.byID[c.ID] = now
		} else if c.ID != 0 {
			delete(b.byID, c.ID)
		}
	}
}

func (b *index) insert(m *Mapping) {
	b.byKey[m.Key] = m
	b.reindexIDs(m, m)
	t := target{m.Protocol, m.Internal}
	b.byTarget[t] = insertBySerial(b.byTarget[t], m)
	b.order = insertBySerial(b.order, m)
	host := m.Internal.Addr()
	b.byHost[host] = insertBySerial(b.byHost[host], m)
	if m.External != 0 {
		b.taken[m.Protocol].Add(m.External)
		b.reserve(m)
	}
	if m.port() {
		b.ports = insertBySerial(b.ports, m)
	}
}

func (b *index) remove(m *Mapping) {
	delete(b.byKey, m.Key)
	b.reindexIDs(m, nil)
	removeFrom(b.byTarget, target{m.Protocol, m.Internal}, m)
	removeFrom(b.byHost, m.Internal.Addr(), m)
	b.order = removeBySerial(b.order, m)
	if m.External != 0 {
		b.ports = removeBySerial(b.ports, m)
		b.taken[m.Protocol].Remove(m.External)
		b.companion[otherProtocol(m.Protocol)].Remove(m.External)
	}
}

// family returns the mappings of a family in order of creation.
func (b *index) family(v Family) []*Mapping {
	return slices.DeleteFunc(slices.Clone(b.order), func(m *Mapping) bool { return m.Family() != v })
}

// inRange returns the mappings whose external ports lie in r.
func (b *index) inRange(p Protocol, r PortRange) []*Mapping {
	var list []*Mapping
	for port, ok := b.taken[p].in(r); ok; port, ok = b.taken[p].in(r) {
		list = append(list, b.byKey[Key{Protocol: p, External: port}])
		if port == r.Last {
			break
		}
		r.First = port + 1
	}
	return list
}

// otherProtocol returns the protocol that shares port numbers with p at a NAT-PMP
// gateway (RFC 6886, section 3.3).
func otherProtocol(p Protocol) Protocol {
	if p == TCP {
		return UDP
	}
	return TCP
}

// position returns where m stands, or would stand, in list.
func position(list []*Mapping, m *Mapping) (int, bool) {
	return slices.BinarySearchFunc(list, m.Serial, func(e *Mapping, s uint64) int { return cmp.Compare(e.Serial, s) })
}

func insertBySerial(list []*Mapping, m *Mapping) []*Mapping {
	i, _ := position(list, m)
	return slices.Insert(list, i, m)
}

func removeBySerial(list []*Mapping, m *Mapping) []*Mapping {
	if i, found := position(list, m); found {
		return slices.Delete(list, i, i+1)
	}
	return list
}

// removeFrom takes m out of the list that index has for k.
func removeFrom[K comparable](index map[K][]*Mapping, k K, m *Mapping) {
	if left := removeBySerial(index[k], m); len(left) > 0 {
		index[k] = left
	} else {
		delete(index, k)
	}
}
