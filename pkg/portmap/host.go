package portmap

import (
	"net/netip"
	"slices"
)

// Host is who has an address.
type Host struct {
	// Hardware is the hardware address in the form of net.HardwareAddr; empty:
	// not known.
	Hardware string
	// IPv4 are the addresses of IPv4 that the host of an IPv6 address has; none:
	// none is known, or it is the host of an IPv4 address.
	IPv4 []netip.Addr
}

// mayBe reports whether h and o, who have had the same address, are one host for
// all that is known of them.
func (h Host) mayBe(o Host) bool {
	return h.Hardware == "" || o.Hardware == "" || h.Hardware == o.Hardware
}

// Destination is where a mapping leads, as rules see it.
type Destination struct {
	netip.AddrPort
	// Host is who has the address.
	Host
	// Networks are those of IPv4 on the host's LAN.
	Networks []netip.Prefix
}

// destination returns what rules see of an address of h.
func (al *allocator) destination(to netip.AddrPort, h Host) Destination {
	if to.Addr().Is4() {
		return Destination{AddrPort: to, Host: h}
	}
	return Destination{AddrPort: to, Host: h, Networks: al.network.Networks(to.Addr())}
}

// destinationOf returns what rules see of the target of a request.
func (al *allocator) destinationOf(req *Request) Destination {
	return al.destination(req.Internal, req.Host)
}

// knownHost returns whose m is, as far as its owner's request tells: what is not
// known now is remembered.
func (req *Request) knownHost(m *Mapping) Host {
	if len(req.Host.IPv4) > 0 || req.Host.Hardware != "" && req.Host.Hardware != m.Host.Hardware {
		return req.Host
	}
	return m.Host
}

// hostToKeep returns who is kept as the host of m when a request joins it. While a PCP
// client holds m, only who proves to be that client brings another hardware
// address: the next host of its address could otherwise join m by another claim,
// and prolong the client's with any nonce.
func (req *Request) hostToKeep(m *Mapping) Host {
	foreign := func(c Claim) bool { return c.Origin == PCP && !(req.Origin == PCP && req.provesOwnership(m, c)) }
	h := req.knownHost(m)
	if !m.Host.mayBe(h) && slices.ContainsFunc(m.Claims, foreign) {
		h.Hardware = m.Host.Hardware
	}
	return h
}

// checkRenewal judges a renewal where rules depend on the host, which may be another
// than it was, or known by more addresses.
func (al *allocator) checkRenewal(m *Mapping, req *Request) Refusal {
	text := req.Description
	if text == "" {
		text = m.Description()
	}
	to := al.destination(m.Internal, req.knownHost(m))
	switch {
	case m.Pinhole.IsValid():
		return al.checkRules(m.Pinhole.Port(), to, text)
	case al.policy.DependsOnHardware(to.Port()) && !al.policy.Permits(m.External, to, text):
		return NotAuthorized
	}
	return Granted
}

// checkStored says whether today's settings let m be made, and if not, why: the
// rules, or the administrator's own use of the port. One whose host is not
// known, where only that would tell, and a pinhole without a firewall stay
// dormant.
func (al *allocator) checkStored(m *Mapping) (dormant bool, r Refusal) {
	r = al.checkRules(m.externalEndpoint().Port(), al.destination(m.Internal, m.Host), m.Description())
	switch {
	case r == UnknownHost:
		return true, Granted
	case r == Granted && m.External != 0 && al.isReserved(m.Protocol, m.External):
		return false, PortInUse
	}
	return al.lacksFirewall(m.Key), r
}

// lacksFirewall reports whether no rule can open the key now: a pinhole where
// there is no firewall of IPv6.
func (al *allocator) lacksFirewall(k Key) bool { return k.Family() == IPv6 && al.network.NoIPv6 }

// checkRules says whether the rules let external reach a destination, and if not,
// whether that is for sure.
func (al *allocator) checkRules(external uint16, to Destination, description string) Refusal {
	switch {
	case al.policy.Permits(external, to, description):
		return Granted
	case al.policy.mayPermit(external, to, description):
		return UnknownHost
	}
	return NotAuthorized
}

// recheck closes m, or lets it rest or come into force, as today's settings
// want for h.
func (al *allocator) recheck(m *Mapping, h Host) {
	n := *m
	n.Host = h
	dormant, r := al.checkStored(&n)
	switch {
	case r != Granted:
		al.change(Change{Before: m})
	case dormant != m.Dormant:
		n.Dormant = dormant
		al.change(Change{Before: m, After: &n})
	}
}

// recheckDormant judges the dormant mappings again: known returns whose an address is, if
// that is known now. What was not known of other mappings' hosts is noted.
func (al *allocator) recheckDormant(known func(netip.Addr) (Host, bool)) {
	for _, m := range slices.Clone(al.index.order) {
		h, found := known(m.Internal.Addr())
		if !found {
			h = m.Host
		}
		switch {
		case m.Dormant:
			al.recheck(m, h)
		case m.Host.Hardware == "" && h.Hardware != "":
			n := *m
			n.Host = h
			al.change(Change{Before: m, After: &n})
		}
	}
}
