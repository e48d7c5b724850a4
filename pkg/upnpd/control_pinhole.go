package upnpd

import (
	"context"
	"net/netip"
	"time"

	"igdd/pkg/portmap"
	"igdd/pkg/upnp"
)

// wildCardProtocol is any protocol, and longestPinhole the highest lease time
// (WANIPv6FirewallControl:1, section 2.4).
const (
	wildCardProtocol = 65535
	longestPinhole   = 86400 * time.Second
)

// addPinhole opens an internal address and port to the Internet.
func addPinhole(i *invocation) ([]string, error) {
	req, err := i.pinhole()
	if err != nil {
		return nil, err
	}
	req.Alias = i.alias(req.Internal.Addr())
	a, err := i.decide(req)
	if err != nil {
		return nil, err
	}
	if a.Refusal != portmap.Granted {
		return nil, pinholeFault(a.Refusal)
	}
	return []string{decimal16(a.ID)}, nil
}

// alias returns an address if it is another address of the client's host: a host has
// several IPv6 addresses and may send requests from any. The zero Addr means that it
// is not, or that this is not known.
func (i *invocation) alias(a netip.Addr) netip.Addr {
	if a == i.client || i.opts.SameHost == nil || !i.opts.SameHost(context.Background(), i.device, i.client, a) {
		return netip.Addr{}
	}
	return a
}

// pinhole reads the arguments of AddPinhole.
func (i *invocation) pinhole() (req portmap.Request, err error) {
	client, err := parseIPv6(i.Text("InternalClient"))
	if err != nil {
		return req, err
	}
	if req.Filters, err = remotePeer(i.Text("RemoteHost"), i.Port("RemotePort")); err != nil {
		return req, err
	}
	if req.Lifetime, err = i.leaseTime("LeaseTime"); err != nil {
		return req, err
	}
	switch i.Number("Protocol") {
	case uint32(portmap.TCP), uint32(portmap.UDP):
		req.Protocol = portmap.Protocol(i.Number("Protocol"))
	case wildCardProtocol:
		return req, upnp.WildCardProtocol
	default:
		return req, upnp.ProtocolNotSupported
	}
	if i.Port("InternalPort") == 0 {
		return req, upnp.WildCardPinholePort
	}
	req.Internal = netip.AddrPortFrom(client, i.Port("InternalPort"))
	return req, nil
}

// parseIPv6 parses a literal address. Names are not resolved.
func parseIPv6(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Is6() || a.Is4In6() || a.Zone() != "" {
		return netip.Addr{}, upnp.InvalidArgs
	}
	return a, nil
}

// remotePeer returns the filter for RemoteHost and RemotePort; "" and 0 are
// any.
func remotePeer(host string, port uint16) ([]portmap.Filter, error) {
	if host == "" {
		if port == 0 {
			return nil, nil
		}
		return []portmap.Filter{{Prefix: netip.PrefixFrom(netip.IPv6Unspecified(), 0), Port: port}}, nil
	}
	a, err := parseIPv6(host)
	if err != nil || !a.IsGlobalUnicast() {
		return nil, upnp.InvalidArgs
	}
	return []portmap.Filter{{Prefix: netip.PrefixFrom(a, a.BitLen()), Port: port}}, nil
}

// leaseTime returns the lease time; pinholes cannot last for ever.
func (i *invocation) leaseTime(name string) (time.Duration, error) {
	t := time.Duration(i.Number(name)) * time.Second
	if t == 0 || t > longestPinhole {
		return 0, upnp.InvalidArgs
	}
	return t, nil
}

// pinholeFault returns the fault for the table's refusal.
func pinholeFault(r portmap.Refusal) upnp.Fault {
	switch r {
	case portmap.NotFound:
		return upnp.NoSuchPinhole
	case portmap.NotAuthorized, portmap.NotOwner, portmap.Blocked, portmap.UnknownHost, portmap.BadTarget:
		return upnp.NotAuthorized
	case portmap.QuotaExceeded, portmap.TableFull, portmap.NoPorts:
		return upnp.PinholeSpaceExhausted
	}
	return upnp.ActionFailed
}

// updatePinhole renews a pinhole.
func updatePinhole(i *invocation) ([]string, error) {
	lifetime, err := i.leaseTime("NewLeaseTime")
	if err != nil {
		return nil, err
	}
	return nil, i.decideByID(portmap.Request{Op: portmap.Open, Lifetime: lifetime})
}

// deletePinhole deletes a pinhole.
func deletePinhole(i *invocation) ([]string, error) {
	return nil, i.decideByID(portmap.Request{Op: portmap.Close})
}

// decideByID submits a request for the pinhole with this UniqueID.
func (i *invocation) decideByID(req portmap.Request) error {
	if req.ID = i.Port("UniqueID"); req.ID == 0 {
		return upnp.NoSuchPinhole
	}
	if m, ok := i.opts.Table.Pinhole(req.ID); ok {
		req.Alias = i.alias(m.Internal.Addr())
	}
	a, err := i.decide(req)
	switch {
	case err != nil:
		return err
	case a.Refusal != portmap.Granted:
		return pinholeFault(a.Refusal)
	}
	return nil
}

// getPinholePackets returns the number of packets that a pinhole has passed.
func getPinholePackets(i *invocation) ([]string, error) {
	packets, err := i.packets()
	return []string{counter(packets)}, err
}

// checkPinholeWorking returns whether a pinhole has passed any packet.
func checkPinholeWorking(i *invocation) ([]string, error) {
	packets, err := i.packets()
	if err == nil && packets == 0 {
		err = upnp.NoTrafficReceived
	}
	return []string{upnp.FormatBoolean(true)}, err
}

// packets returns how many packets the client's own pinhole has passed.
func (i *invocation) packets() (uint64, error) {
	m, ok := i.opts.Table.Pinhole(i.Port("UniqueID"))
	switch {
	case !ok:
		return 0, upnp.NoSuchPinhole
	case m.Internal.Addr() != i.client && !i.alias(m.Internal.Addr()).IsValid():
		return 0, upnp.NotAuthorized
	}
	return i.opts.Packets(m)
}
