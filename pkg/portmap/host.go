package portmap

import (
	"cmp"
	"net/netip"
	"slices"
)

// Host is what is known of the host that has an address.
type Host struct {
	// Name names the host, the same for all of its addresses: its mappings count
	// together. It is not saved; empty: the hardware address names the host.
	Name string
	// Hardware is the hardware address as net.HardwareAddr formats it; empty:
	// not known.
	Hardware string
	// IPv4 lists the IPv4 addresses of the host that has an IPv6 address. It is
	// empty if none is known, and for the host of an IPv4 address.
	IPv4 []netip.Addr
	// NoHardware is set if the host is on a link without hardware addresses.
	NoHardware bool
	// Names lists the names in the host's DHCP leases, in lower case and without
	// domain. It is empty unless a block is by name.
	Names []string
}

// mayBe reports whether h and o, which have had the same address, can be the
// same host.
func (h Host) mayBe(o Host) bool {
	return h.Hardware == "" || o.Hardware == "" || h.Hardware == o.Hardware
}

// learns reports whether o tells the hardware address that h lacks, or that there
// is none.
func (h Host) learns(o Host) bool {
	return h.Hardware == "" && (o.Hardware != "" || o.NoHardware && !h.NoHardware)
}

// Destination is the internal end of a mapping as the rules see it.
type Destination struct {
	netip.AddrPort
	// Host is the host that has the address.
	Host
	// Networks lists the IPv4 networks of the host's LAN.
	Networks []netip.Prefix
	// Interface is the one that the host is behind; "": not known.
	Interface string
	// Origin is the protocol that the client asks by.
	Origin Origin
	// Routed is set if the host is behind another router, so that its hardware address
	// is never known.
	Routed bool
}

// destination returns what the rules see of an address of h that is asked for by o.
func (al *allocator) destination(to netip.AddrPort, h Host, o Origin) Destination {
	_, isRouted := al.network.routed(to.Addr())
	d := Destination{AddrPort: to, Host: h, Interface: al.network.device(to.Addr()), Origin: o, Routed: isRouted}
	if to.Addr().Is6() {
		d.Networks = al.network.Networks(to.Addr())
	}
	return d
}

// destinationOf returns what the rules see of the target of a request.
func (al *allocator) destinationOf(req *Request) Destination {
	return al.destination(req.Internal, req.Host, req.Origin)
}

// destinationIn returns what the rules see of the target of a request for m.
func (al *allocator) destinationIn(m *Mapping, to netip.AddrPort, req *Request) Destination {
	return al.destination(to, req.knownHost(m), req.Origin)
}

// nameHost names the host of the target as the client's, if the client asks for
// itself.
func (req *Request) nameHost() {
	if req.comesFrom(req.Internal.Addr()) {
		req.Host.Name = cmp.Or(req.ClientHost, req.Host.Name)
	}
}

// knownHost returns the host of m: as a request for it says, or as it was known
// before if the request knows less.
func (req *Request) knownHost(m *Mapping) Host {
	h := m.Host
	if len(req.Host.IPv4) > 0 || req.Host.Hardware != "" && req.Host.Hardware != m.Host.Hardware {
		h = req.Host
	}
	h.Name = cmp.Or(req.Host.Name, m.Host.Name)
	h.NoHardware = h.Hardware == "" && (h.NoHardware || req.Host.NoHardware)
	return h
}

// hostToKeep returns the host of m after the request joins it. While a PCP
// client has a claim on m, only that client, by its nonce, can change the
// hardware address, and the name with it. Otherwise the next host with the same
// address could join m through another protocol and then renew the client's
// claim with any nonce.
func (al *allocator) hostToKeep(req *Request, m *Mapping) Host {
	foreign := func(c Claim) bool { return c.Origin == PCP && !(req.Origin == PCP && al.provesOwnership(req, m, c)) }
	h := req.knownHost(m)
	if !m.Host.mayBe(h) && slices.ContainsFunc(m.Claims, foreign) {
		h.Hardware, h.Name = m.Host.Hardware, m.Host.Name
	}
	return h
}
