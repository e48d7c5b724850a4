package portmap

// Ports that a PCP server must never map over UDP (RFC 6887, section 11.3).
const (
	announcePort = 5350
	serverPort   = 5351
)

// firstFree is the lowest port that is granted to a client that did not ask for
// it, unless the settings name ports below.
const firstFree = 1024

// choose returns the key of a new mapping. With a refusal it also returns the
// mapping that has the port, if there is one.
func (al *allocator) choose(req *Request) (Key, *Mapping, Refusal) {
	if req.Internal.Addr().Is6() {
		return al.choosePinhole(req)
	}
	if wanted := req.preferredPort(); wanted != 0 {
		m, r := al.obstacle(req, wanted)
		if r == NotProvided && req.Origin == UPnP && req.Exact {
			r = al.refuseUPnP(req)
		}
		if r == Granted {
			r = al.checkShare(wanted, req)
		}
		if r == Granted || req.needsExactPort() {
			return Key{Protocol: req.Protocol, External: wanted}, m, r
		}
	}
	k, r := al.search(req)
	return k, nil, r
}

// refuseUPnP returns the refusal of a port that the provider does not forward. A UPnP
// client tries other ports after a conflict: once there is none for it, it is told so,
// and stops.
func (al *allocator) refuseUPnP(req *Request) Refusal {
	_, r := al.search(req)
	if r == Granted {
		return NotProvided
	}
	return r
}

// preferredPort returns the external port that a new port mapping gets if it is
// free; 0: any.
func (req *Request) preferredPort() uint16 {
	if req.External == 0 && req.Internal.Port() >= firstFree {
		return req.Internal.Port()
	}
	return req.External
}

// needsExactPort reports whether the request accepts no other port than the
// suggested one, as PEER does (RFC 6887, section 12.3).
func (req *Request) needsExactPort() bool {
	return req.External != 0 && (req.Exact || req.Remote.IsValid())
}

// choosePinhole returns the key of a pinhole: without translation the external
// address and port are the internal ones (RFC 6887, section 11.3).
func (al *allocator) choosePinhole(req *Request) (Key, *Mapping, Refusal) {
	port, key := req.Internal.Port(), Key{Protocol: req.Protocol, Pinhole: req.Internal}
	switch r := al.checkNew(key, req); {
	case r != Granted:
		return Key{}, nil, r
	case req.needsExactPort() && req.External != port:
		return Key{}, nil, Conflict
	}
	return key, nil, Granted
}

// checkNew is checkMapping for a new mapping.
func (al *allocator) checkNew(k Key, req *Request) Refusal {
	m := &Mapping{Key: k, Internal: req.Internal, Host: req.Host}
	return al.checkMapping(m, al.checkRules(m.ExternalPort(), al.destinationOf(req), req.Description))
}

// obstacle returns why the request cannot have this external port, and the
// mapping that has it, if there is one; Granted if it can have it.
func (al *allocator) obstacle(req *Request, port uint16) (*Mapping, Refusal) {
	key := Key{Protocol: req.Protocol, External: port}
	r := al.checkNew(key, req)
	switch {
	case al.isBlocked(req, port):
		return nil, Blocked
	case r == NotProvided:
		return nil, r
	case r != Granted && !r.isPortTaken():
		return nil, NotAuthorized
	}
	if m := al.index.atPort(key); m != nil {
		return m, Conflict
	}
	if m := al.index.foreignCompanion(req, port); m != nil {
		return m, Conflict
	}
	if al.isHeldDown(req, port) {
		return nil, HeldDown
	}
	return nil, r
}

// isHeldDown reports whether the hold-down keeps the port from the request's host.
// A port that has a mapping is not held down.
func (al *allocator) isHeldDown(req *Request, port uint16) bool {
	isHeld := func(p Protocol) bool {
		k := Key{Protocol: p, External: port}
		return req.reservesIn(p) && al.holdDown.held[p].Has(port) && al.index.byKey[k] == nil &&
			al.holdDown.blocks(k, req.Internal.Addr(), al.now) && al.holdDown.blocks(k, req.Former, al.now)
	}
	return isHeld(TCP) || isHeld(UDP)
}

// reservesIn reports whether a granted port is the client's in a protocol: NAT-PMP
// reserves it in both (RFC 6886, section 3.3).
func (req *Request) reservesIn(p Protocol) bool { return p == req.Protocol || req.Origin == NATPMP }

// search returns the next port that the rules allow, the provider forwards and nothing
// else uses. Its time does not depend on how many ports those are, nor on how many
// mappings there are: it combines sets of ports.
func (al *allocator) search(req *Request) (Key, Refusal) {
	candidates := al.policy.Ports(al.destinationOf(req), req.Description)
	if candidates.empty() {
		return Key{}, NotAuthorized
	}
	if !al.policy.restrict(candidates) {
		return Key{}, NoPorts
	}
	al.removeBlocked(candidates, req)
	if candidates.empty() {
		return Key{}, Blocked
	}
	if al.policy.ExternalPorts != nil {
		return al.searchShared(candidates, req)
	}
	al.removeBusy(candidates, req)
	candidates.RemoveRange(PortRange{Last: firstFree - 1})
	port, ok := al.nextUnheard(candidates, req)
	if !ok {
		return Key{}, NoPorts
	}
	return Key{Protocol: req.Protocol, External: port}, Granted
}

// removeBusy removes from ports those that mappings have or keep from a request, those
// held down, and those that static port forwards or the PCP server have.
func (al *allocator) removeBusy(ports *PortSet, req *Request) {
	ports.subtract(al.index.taken[req.Protocol])
	ports.subtract(al.index.companions(req))
	for p, held := range al.holdDown.held {
		if req.reservesIn(p) {
			ports.subtract(held)
		}
	}
	al.removeReserved(ports, req.Protocol)
}

// nextUnheard returns the first of the candidates, from the request's port on, at which no
// program of the router listens. It asks for all ports of programs at once as soon as
// one is in the way, and then goes on with those that remain.
func (al *allocator) nextUnheard(candidates *PortSet, req *Request) (uint16, bool) {
	port, ok := candidates.next(max(req.External, req.Internal.Port(), firstFree))
	for first := true; ok && al.listening(req.Protocol, port); first = false {
		candidates.Remove(port)
		if first {
			candidates.subtract(al.listeners(req.Protocol))
		}
		port, ok = candidates.next(port)
	}
	return port, ok
}

// isForwarded reports whether a static port forward has the port.
func (al *allocator) isForwarded(p Protocol, port uint16) bool {
	_, forwarded := al.network.forward(p, port)
	return forwarded
}

// isServers reports whether the port is the PCP server's own.
func isServers(p Protocol, port uint16) bool {
	return p == UDP && (port == announcePort || port == serverPort)
}

// removeReserved removes from a set of ports those that static port forwards or the
// PCP server have.
func (al *allocator) removeReserved(ports *PortSet, p Protocol) {
	for _, f := range al.network.Forwards {
		if f.Protocol == p {
			ports.RemoveRange(f.External)
		}
	}
	if p == UDP {
		ports.Remove(announcePort)
		ports.Remove(serverPort)
	}
}
