package portmap

import (
	"net/netip"
	"slices"
)

// target is the protocol and the internal end of a mapping.
type target struct {
	Protocol
	netip.AddrPort
}

// index is a set of mappings that can be looked up in every way that is needed.
// The Table has two: what it has decided and what is in force.
type index struct {
	byKey     map[Key]*Mapping
	byOuter   map[Key]*Mapping          // those that their clients know by another port than their key's
	byID      map[uint16]*Mapping       // by a claim's UniqueID
	byHost    map[netip.Addr][]*Mapping // by internal address, in the order byPort
	order     []*Mapping                // by Serial
	ports     []*Mapping                // the inbound port mappings in order
	taken     map[Protocol]*PortSet     // external ports in use
	companion map[Protocol]*PortSet     // ports that NAT-PMP has mapped in the other protocol
}

func newIndex() *index {
	return &index{
		byKey:     make(map[Key]*Mapping),
		byOuter:   make(map[Key]*Mapping),
		byID:      make(map[uint16]*Mapping),
		byHost:    make(map[netip.Addr][]*Mapping),
		taken:     map[Protocol]*PortSet{TCP: {}, UDP: {}},
		companion: map[Protocol]*PortSet{TCP: {}, UDP: {}},
	}
}

// apply carries out c. An index changes in no other way.
func (ix *index) apply(c Change) {
	if c.isRenewal() {
		ix.reindexIDs(c.Before, nil)
		ix.reindexIDs(c.After, c.After)
		ix.removeOuter(c.Before)
		ix.replace(c.After)
		return
	}
	if c.Before != nil {
		ix.remove(c.Before)
	}
	if c.After != nil {
		ix.insert(c.After)
	}
}

// replace puts m in the place of the mapping with its serial, which differs in
// its claims only.
func (ix *index) replace(m *Mapping) {
	ix.byKey[m.Key] = m
	ix.insertOuter(m)
	order(byPort).replace(ix.byHost[m.Internal.Addr()], m)
	order(bySerial).replace(ix.order, m)
	order(bySerial).replace(ix.ports, m)
	if m.External != 0 {
		ix.reserve(m)
	}
}

// reserve reserves m's port in the other protocol if m has a NAT-PMP claim
// (RFC 6886, section 3.3), and frees it if not.
func (ix *index) reserve(m *Mapping) {
	if _, ok := m.Claim(NATPMP); ok {
		ix.companion[otherProtocol(m.Protocol)].Add(m.External)
	} else {
		ix.companion[otherProtocol(m.Protocol)].Remove(m.External)
	}
}

// reindexIDs maps the UniqueIDs of m's claims to now, or deletes them for nil.
func (ix *index) reindexIDs(m, now *Mapping) {
	for _, c := range m.Claims {
		if c.ID != 0 && now != nil {
			ix.byID[c.ID] = now
		} else if c.ID != 0 {
			delete(ix.byID, c.ID)
		}
	}
}

func (ix *index) insert(m *Mapping) {
	ix.byKey[m.Key] = m
	ix.insertOuter(m)
	ix.reindexIDs(m, m)
	ix.order = order(bySerial).insert(ix.order, m)
	host := m.Internal.Addr()
	ix.byHost[host] = order(byPort).insert(ix.byHost[host], m)
	if m.External != 0 {
		ix.taken[m.Protocol].Add(m.External)
		ix.reserve(m)
	}
	if m.isPortMapping() {
		ix.ports = order(bySerial).insert(ix.ports, m)
	}
}

func (ix *index) remove(m *Mapping) {
	delete(ix.byKey, m.Key)
	ix.removeOuter(m)
	ix.reindexIDs(m, nil)
	ix.removeFromHost(m)
	ix.order = order(bySerial).remove(ix.order, m)
	if m.External != 0 {
		ix.ports = order(bySerial).remove(ix.ports, m)
		ix.taken[m.Protocol].Remove(m.External)
		ix.companion[otherProtocol(m.Protocol)].Remove(m.External)
	}
}

// removeFromHost removes m from the list of its host.
func (ix *index) removeFromHost(m *Mapping) {
	host := m.Internal.Addr()
	if left := order(byPort).remove(ix.byHost[host], m); len(left) > 0 {
		ix.byHost[host] = left
	} else {
		delete(ix.byHost, host)
	}
}

// toTarget returns the mappings to a target, oldest first. It is a part of the index.
func (ix *index) toTarget(t target) []*Mapping {
	list := ix.byHost[t.Addr()]
	first, _ := slices.BinarySearchFunc(list, t, comparePorts)
	end := first
	for end < len(list) && comparePorts(list[end], t) == 0 {
		end++
	}
	return list[first:end]
}

// toHost returns the mappings to an address, oldest first.
func (ix *index) toHost(a netip.Addr) []*Mapping {
	list := slices.Clone(ix.byHost[a])
	slices.SortFunc(list, bySerial)
	return list
}

// insertOuter makes m known by the port that its clients know, if that is another one
// than its key's.
func (ix *index) insertOuter(m *Mapping) {
	if m.External != 0 && m.OuterPort() != m.External {
		ix.byOuter[m.outerKey()] = m
	}
}

// removeOuter undoes insertOuter, unless another mapping has the port now.
func (ix *index) removeOuter(m *Mapping) {
	if k := m.outerKey(); ix.byOuter[k] != nil && ix.byOuter[k].Serial == m.Serial {
		delete(ix.byOuter, k)
	}
}

// outer returns the mapping that its clients know by a port; nil if there is none.
func (ix *index) outer(k Key) *Mapping {
	if m := ix.byOuter[k]; m != nil {
		return m
	}
	if m := ix.byKey[k]; m != nil && m.OuterPort() == k.External {
		return m
	}
	return nil
}

// atPort returns the mapping that prevents others from having the key's port: the one
// that its clients know by it, or that has it on this router alone.
func (ix *index) atPort(k Key) *Mapping {
	if m := ix.byOuter[k]; m != nil {
		return m
	}
	return ix.byKey[k]
}

// outerInRange returns the mappings whose clients know them by ports in r.
func (ix *index) outerInRange(p Protocol, r PortRange) (list []*Mapping) {
	isOther := func(m *Mapping) bool { return !r.Contains(m.OuterPort()) }
	list = slices.DeleteFunc(ix.inRange(p, r), isOther)
	for k, m := range ix.byOuter {
		if k.Protocol == p && r.Contains(k.External) && !r.Contains(m.External) {
			list = append(list, m)
		}
	}
	return list
}

// ofFamily returns the mappings of a family in order of creation.
func (ix *index) ofFamily(f Family) []*Mapping {
	return slices.DeleteFunc(slices.Clone(ix.order), func(m *Mapping) bool { return m.Family() != f })
}

// inRange returns the mappings whose external ports are in r.
func (ix *index) inRange(p Protocol, r PortRange) []*Mapping {
	var list []*Mapping
	for port, ok := ix.taken[p].in(r); ok; port, ok = ix.taken[p].in(r) {
		list = append(list, ix.byKey[Key{Protocol: p, External: port}])
		if port == r.Last {
			break
		}
		r.First = port + 1
	}
	return list
}

// companions returns the ports in use in the other protocol that a request can have
// only from the same host: those that NAT-PMP reserves, or all if the request reserves
// its port in both protocols (RFC 6886, section 3.3).
func (ix *index) companions(req *Request) *PortSet {
	other := otherProtocol(req.Protocol)
	if req.reservesIn(other) {
		return ix.taken[other]
	}
	return ix.companion[req.Protocol]
}

// foreignCompanion returns the mapping of another address that keeps a port from a
// request, although it has that port in the other protocol.
func (ix *index) foreignCompanion(req *Request, port uint16) *Mapping {
	if !ix.companions(req).Has(port) {
		return nil
	}
	m := ix.byKey[Key{Protocol: otherProtocol(req.Protocol), External: port}]
	if m.Internal.Addr() == req.Internal.Addr() {
		return nil
	}
	return m
}

// otherProtocol returns UDP for TCP and TCP for UDP.
func otherProtocol(p Protocol) Protocol {
	if p == TCP {
		return UDP
	}
	return TCP
}
