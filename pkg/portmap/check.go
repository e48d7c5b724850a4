package portmap

import (
	"cmp"
	"net/netip"
)

// checkMapping returns whether the settings and the network allow that m is in
// force now, given what the rules say: a new mapping, a renewed one, a saved one
// or one that exists. An existing mapping is dormant while the refusal
// isTemporary, and closed for any other. What depends on other mappings is not
// checked here.
func (al *allocator) checkMapping(m *Mapping, rules Refusal) Refusal {
	target := al.network.checkTarget(m.Internal.Addr())
	switch {
	case target == BadTarget:
		return BadTarget
	case rules == NotAuthorized:
		return NotAuthorized
	case m.External != 0 && al.isForwarded(m.Protocol, m.External):
		return Forwarded
	case m.External != 0 && isServers(m.Protocol, m.External):
		return PortInUse
	case m.External != 0 && !al.policy.provides(m.External):
		return NotProvided
	case target == NoNetwork:
		return NoNetwork
	case rules == UnknownHost:
		return UnknownHost
	case m.Family() == IPv6 && al.network.NoIPv6:
		return NoFirewall
	case m.External != 0 && !al.isInForce(m.Key) && al.listening(m.Protocol, m.External):
		return PortInUse
	}
	return Granted
}

// isInForce reports whether the mapping of a key exists and is not dormant. It
// keeps its port from a program of the router that begins to listen there.
func (al *allocator) isInForce(k Key) bool {
	m := al.index.byKey[k]
	return m != nil && !m.Dormant
}

// checkRules checks whether the rules let external reach a destination. The
// answer is UnknownHost if that depends on what is not known of the host yet: of one
// behind another router no more will ever be.
func (al *allocator) checkRules(external uint16, to Destination, description string) Refusal {
	switch {
	case al.policy.Permits(external, to, description):
		return Granted
	case !to.Routed && al.policy.mayPermit(external, to, description):
		return UnknownHost
	}
	return NotAuthorized
}

// renewed returns m with the target of a renewal, and as the renewal leaves it
// otherwise, apart from its claims; or the reason why it is refused. A mapping
// is renewed without its network or firewall, and stays dormant, but not for an
// unknown host: it may be another one than before.
func (al *allocator) renewed(m *Mapping, to netip.AddrPort, req *Request) (Mapping, Refusal) {
	n := *m
	n.Internal, n.Host = to, req.knownHost(m)
	r := al.checkMapping(&n, al.checkRules(m.ExternalPort(), al.destination(to, n.Host, req.Origin), cmp.Or(req.Description, m.Description())))
	switch {
	case r == UnknownHost && m.Family() == IPv4:
		return n, NotAuthorized
	case r == UnknownHost || r != Granted && !r.isTemporary():
		return n, r
	}
	n.Host = al.hostToKeep(req, m)
	n.setState(r)
	n.Claims = al.permittedBeside(&n, req.Origin)
	return n, Granted
}
