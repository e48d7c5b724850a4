package portmap

import "net/netip"

// reservedPortShare is the part of the ports that the provider forwards, a quarter, that is
// kept for hosts with few: more than of MaxTotal, since the ports may be no more than 16.
const reservedPortShare = 4

// numbers counts, for each host that shares the ports with others, the mappings and
// hold-downs that it has of a port number, in both protocols: NAT-PMP reserves a number in
// both.
type numbers map[hostKey]map[uint16]uint16

// add counts one more use of a port number; 0 is none.
func (n numbers) add(sharer hostKey, port uint16) {
	if port == 0 {
		return
	}
	if n[sharer] == nil {
		n[sharer] = make(map[uint16]uint16)
	}
	n[sharer][port]++
}

// remove counts one use of a port number less.
func (n numbers) remove(sharer hostKey, port uint16) {
	if port == 0 {
		return
	}
	own := n[sharer]
	if own[port]--; own[port] == 0 {
		delete(own, port)
	}
	if len(own) == 0 {
		delete(n, sharer)
	}
}

// sharerOf returns whose share of the ports those of a host with an address and a name
// are: the host's own. All hosts behind another router share one, since the addresses
// there cost nothing to invent.
func (al *allocator) sharerOf(a netip.Addr, name string) hostKey {
	if _, isRouted := al.network.routed(a); name == "" || isRouted {
		return hostKey{lan: al.network.lanNumber(a)}
	}
	return hostKey{name: name}
}

// sharer returns whose share of the ports a request for a new mapping takes.
func (al *allocator) sharer(req *Request) hostKey {
	host, _ := al.quotaOf(&Mapping{Internal: req.Internal, Host: req.Host})
	return al.sharerOf(req.Internal.Addr(), host.name)
}

// recountHeld counts the ports in hold-down under a new network state.
func (al *allocator) recountHeld() {
	for k, p := range al.holdDown.ports {
		p.sharer = al.sharerOf(p.to.Addr(), p.host.name)
		al.holdDown.ports[k] = p
		al.numbers.add(p.sharer, k.External)
	}
}

// checkShare checks whether the host of a request for a new mapping may have one of the
// ports that the provider forwards: a number that it has already, or one more.
func (al *allocator) checkShare(port uint16, req *Request) Refusal {
	if al.policy.ExternalPorts == nil || al.numbers[al.sharer(req)][port] > 0 || al.mayHaveMore(req) {
		return Granted
	}
	return ShareExceeded
}

// mayHaveMore reports whether the host of a request may have one more number of the ports
// that the provider forwards. Of the last part a host that has any may have no more than
// are left.
func (al *allocator) mayHaveMore(req *Request) bool {
	ports := al.policy.Ports(al.destinationOf(req), req.Description)
	al.policy.restrict(ports)
	al.removeReserved(ports, req.Protocol)
	all := ports.Len()
	for _, p := range [...]Protocol{TCP, UDP} {
		ports.subtract(al.index.taken[p])
		ports.subtract(al.holdDown.held[p])
	}
	left, own := ports.Len(), len(al.numbers[al.sharer(req)])
	return left > all/reservedPortShare || own == 0 || own < left
}

// searchShared ends a search among the ports that the provider forwards, also those below
// firstFree, since the administrator has named them. It prefers the number that the
// request's target has in the other protocol, and then one that it had last. Its time
// grows with the numbers that the host itself has.
func (al *allocator) searchShared(candidates *PortSet, req *Request) (Key, Refusal) {
	candidates.subtract(al.index.taken[req.Protocol])
	al.removeReserved(candidates, req.Protocol)
	own := al.ownPorts(candidates, req)
	al.removeBusy(candidates, req)
	candidates.unite(own)
	if _, ok := al.nextUnheard(candidates, req); !ok {
		return Key{}, NoPorts
	}
	if !al.mayHaveMore(req) {
		candidates.intersect(own)
	}
	for _, list := range [...]*PortSet{al.twins(own, req), al.formerPorts(own, req), candidates} {
		if port, ok := al.nextUnheard(list, req); ok {
			return Key{Protocol: req.Protocol, External: port}, Granted
		}
	}
	return Key{}, ShareExceeded
}

// ownPorts returns those of the candidates whose number the request's host has already, in
// the other protocol or in hold-down, and can have.
func (al *allocator) ownPorts(candidates *PortSet, req *Request) *PortSet {
	own := new(PortSet)
	for port := range al.numbers[al.sharer(req)] {
		if candidates.Has(port) && al.index.foreignCompanion(req, port) == nil && !al.isHeldDown(req, port) {
			own.Add(port)
		}
	}
	return own
}

// twins returns those of a host's own ports that lead to the request's target in the
// other protocol.
func (al *allocator) twins(own *PortSet, req *Request) *PortSet {
	list := new(PortSet)
	for _, m := range al.index.toTarget(target{otherProtocol(req.Protocol), req.Internal}) {
		if own.Has(m.External) {
			list.Add(m.External)
		}
	}
	return list
}

// formerPorts returns those of a host's own ports that led to the request's target and are
// in hold-down since.
func (al *allocator) formerPorts(own *PortSet, req *Request) *PortSet {
	list, held := new(PortSet), *own
	held.intersect(al.holdDown.held[req.Protocol])
	for port, ok := held.next(0); ok; port, ok = held.next(port) {
		held.Remove(port)
		if al.holdDown.ports[Key{Protocol: req.Protocol, External: port}].to == req.Internal {
			list.Add(port)
		}
	}
	return list
}
