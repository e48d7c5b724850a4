package portmap

// reservedPortShare is the part of the ports that the provider forwards, a quarter, that is
// kept for hosts with few: more than of MaxTotal, since the ports may be no more than 16.
const reservedPortShare = 4

// checkShare checks whether the host of a request for a new mapping may have one more of
// the ports that the provider forwards. A port number counts once for both protocols,
// because NAT-PMP reserves it in both, and while it is held down. Of the last part a host
// that has any may have no more than are left.
func (al *allocator) checkShare(k Key, req *Request) Refusal {
	if al.policy.ExternalPorts == nil || k.External == 0 {
		return Granted
	}
	host, _ := al.quotaOf(&Mapping{Internal: req.Internal, Host: req.Host})
	if al.hasNumber(host, k) {
		return Granted
	}
	ports := al.policy.Ports(al.destinationOf(req), req.Description)
	al.policy.restrict(ports)
	al.removeReserved(ports, k.Protocol)
	all := ports.Len()
	for _, p := range [...]Protocol{TCP, UDP} {
		ports.subtract(al.index.taken[p])
		ports.subtract(al.holdDown.held[p])
	}
	left, q := ports.Len(), al.quotas.hosts[host]
	own := max(q.tcp, q.udp) + al.holdDown.perHost[host]
	if left > all/reservedPortShare || own == 0 || own < left {
		return Granted
	}
	return QuotaExceeded
}

// hasNumber reports whether a host has a port number already: in the other protocol, or
// held down.
func (al *allocator) hasNumber(host hostKey, k Key) bool {
	for _, p := range [...]Protocol{TCP, UDP} {
		at := Key{Protocol: p, External: k.External}
		if m := al.index.byKey[at]; m != nil {
			if owner, _ := al.quotaOf(m); owner == host {
				return true
			}
		}
		if held, found := al.holdDown.ports[at]; found && held.host == host {
			return true
		}
	}
	return false
}
