package portmap

// Ports that a PCP server must never hand out over UDP (RFC 6887, section 11.3).
const (
	announcePort = 5350
	serverPort   = 5351
)

// firstFree is the lowest port that is given to a client that did not name it.
const firstFree = 1024

// choose finds the key of a new mapping. With a refusal it returns also the
// mapping that is in the way, if there is one.
func (d *allocator) choose(req *Request) (Key, *Mapping, Refusal) {
	if req.Internal.Addr().Is6() {
		return d.choosePinhole(req)
	}
	if wanted := req.wanted(); wanted != 0 {
		m, r := d.obstacle(req, wanted)
		if r == Granted || req.exact() {
			return Key{Protocol: req.Protocol, External: wanted}, m, r
		}
	}
	k, r := d.search(req)
	return k, nil, r
}

// wanted returns the external port that a new port mapping gets if it is free;
// 0: any.
func (req *Request) wanted() uint16 {
	if req.External == 0 && req.Internal.Port() >= firstFree {
		return req.Internal.Port()
	}
	return req.External
}

// exact reports whether no other port than the suggested one will do: PEER's
// suggestions are of that kind (RFC 6887, section 12.3).
func (req *Request) exact() bool { return req.External != 0 && (req.Exact || req.Remote.IsValid()) }

// choosePinhole opens the target itself: without translation the outside
// dials the inside address (RFC 6887, section 11.3).
func (d *allocator) choosePinhole(req *Request) (Key, *Mapping, Refusal) {
	port := req.Internal.Port()
	if r := d.permits(port, d.aim(req), req.Description); r != Granted {
		return Key{}, nil, r
	}
	switch {
	case d.network.NoIPv6:
		return Key{}, nil, NoFirewall
	case d.blockFor(req.Protocol, port, req.Internal.Addr()) != nil:
		return Key{}, nil, NotAuthorized
	case req.exact() && req.External != port:
		return Key{}, nil, Conflict
	}
	return Key{Protocol: req.Protocol, Pinhole: req.Internal}, nil, Granted
}

// obstacle says why the request cannot have this external port, and which
// mapping is in the way if one is.
func (d *allocator) obstacle(req *Request, port uint16) (*Mapping, Refusal) {
	host := req.Internal.Addr()
	key := Key{Protocol: req.Protocol, External: port}
	if !d.policy.Permits(port, d.aim(req), req.Description) || d.blockFor(req.Protocol, port, host) != nil {
		return nil, NotAuthorized
	}
	if m := d.index.byKey[key]; m != nil {
		return m, Conflict
	}
	if d.index.companion[req.Protocol].Has(port) {
		m := d.index.byKey[Key{Protocol: otherProtocol(req.Protocol), External: port}]
		if m.Internal.Addr() != host {
			return m, Conflict
		}
	}
	if d.holdDown.blocks(key, host, d.now) && d.holdDown.blocks(key, req.Former, d.now) {
		return nil, Conflict
	}
	if d.reserved(req.Protocol, port) || d.listening(req.Protocol, port) {
		return nil, PortInUse
	}
	return nil, Granted
}

// search finds any port that the rules allow and nothing else uses.
func (d *allocator) search(req *Request) (Key, Refusal) {
	candidates := d.policy.Ports(d.aim(req), req.Description)
	d.removeBlocked(candidates, req)
	if candidates.empty() {
		return Key{}, NotAuthorized
	}
	candidates.subtract(d.index.taken[req.Protocol])
	candidates.subtract(d.index.companion[req.Protocol])
	d.reserve(candidates, req.Protocol)
	for k, p := range d.holdDown.ports {
		if k.Protocol == req.Protocol && p.until.After(d.now) {
			candidates.Remove(k.External)
		}
	}
	candidates.RemoveRange(PortRange{Last: firstFree - 1})
	port, ok := candidates.next(max(req.External, req.Internal.Port(), firstFree))
	for ok && d.listening(req.Protocol, port) {
		candidates.Remove(port)
		port, ok = candidates.next(port)
	}
	if !ok {
		return Key{}, NoPorts
	}
	return Key{Protocol: req.Protocol, External: port}, Granted
}

// reserved reports whether the port is the administrator's forward or PCP's own.
func (d *allocator) reserved(p Protocol, port uint16) bool {
	_, forwarded := d.network.forward(p, port)
	return forwarded || p == UDP && (port == announcePort || port == serverPort)
}

// reserve takes the reserved ports out of a set.
func (d *allocator) reserve(ports *PortSet, p Protocol) {
	for _, f := range d.network.Forwards {
		if f.Protocol == p {
			ports.RemoveRange(f.External)
		}
	}
	if p == UDP {
		ports.Remove(announcePort)
		ports.Remove(serverPort)
	}
}
