package portmap

import (
	"net/netip"
	"slices"
)

// Host is what is known of the host that has an address.
type Host struct {
	// Hardware is the hardware address as net.HardwareAddr formats it; empty:
	// not known.
	Hardware string
	// IPv4 lists the IPv4 addresses of the host that has an IPv6 address. It is
	// empty if none is known, and for the host of an IPv4 address.
	IPv4 []netip.Addr
}

// mayBe reports whether h and o, which have had the same address, can be the
// same host.
func (h Host) mayBe(o Host) bool {
	return h.Hardware == "" || o.Hardware == "" || h.Hardware == o.Hardware
}

// Destination is the internal end of a mapping as the rules see it.
type Destination struct {
	netip.AddrPort
	// Host is the host that has the address.
	Host
	// Networks lists the IPv4 networks of the host's LAN.
	Networks []netip.Prefix
}

// destination returns what the rules see of an address of h.
func (al *allocator) destination(to netip.AddrPort, h Host) Destination {
	if to.Addr().Is4() {
		return Destination{AddrPort: to, Host: h}
	}
	return Destination{AddrPort: to, Host: h, Networks: al.network.Networks(to.Addr())}
}

// destinationOf returns what the rules see of the target of a request.
func (al *allocator) destinationOf(req *Request) Destination {
	return al.destination(req.Internal, req.Host)
}

// knownHost returns the host of m: as a request for it says, or as it was known
// before if the request knows less.
func (req *Request) knownHost(m *Mapping) Host {
	if len(req.Host.IPv4) > 0 || req.Host.Hardware != "" && req.Host.Hardware != m.Host.Hardware {
		return req.Host
	}
	return m.Host
}

// hostToKeep returns the host of m after the request joins it. While a PCP
// client has a claim on m, only that client, by its nonce, can change the
// hardware address. Otherwise the next host with the same address could join m
// through another protocol and then renew the client's claim with any nonce.
func (req *Request) hostToKeep(m *Mapping) Host {
	foreign := func(c Claim) bool { return c.Origin == PCP && !(req.Origin == PCP && req.provesOwnership(m, c)) }
	h := req.knownHost(m)
	if !m.Host.mayBe(h) && slices.ContainsFunc(m.Claims, foreign) {
		h.Hardware = m.Host.Hardware
	}
	return h
}

// checkRenewal checks a renewal against rules that depend on the host: it may
// be another host than before, or more of its addresses may be known.
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

// checkStored checks an existing mapping against the present rules and static
// port forwards. It is dormant, and not refused, if the answer depends on its
// unknown host, or if it is a pinhole and there is no IPv6 firewall.
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

// lacksFirewall reports whether the key is a pinhole and there is no IPv6
// firewall to open it.
func (al *allocator) lacksFirewall(k Key) bool { return k.Family() == IPv6 && al.network.NoIPv6 }

// checkRules checks whether the rules let external reach a destination. The
// answer is UnknownHost if that depends on what is not known of the host.
func (al *allocator) checkRules(external uint16, to Destination, description string) Refusal {
	switch {
	case al.policy.Permits(external, to, description):
		return Granted
	case al.policy.mayPermit(external, to, description):
		return UnknownHost
	}
	return NotAuthorized
}

// recheck closes m, makes it dormant or puts it in force, as the present
// settings require for a mapping of h.
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

// recheckDormant rechecks the dormant mappings: known returns the host of an
// address, if it is known now. Other mappings without a hardware address get
// it.
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
