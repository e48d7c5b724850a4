package netif

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlink"
)

// Route is where the kernel routes a packet.
type Route struct {
	Out     string     // the link that it leaves by; "": it is local
	Local   bool       // it is for the router itself
	NextHop netip.Addr // the router that it is sent to, or its destination
}

// RouteIn returns where the kernel routes an unmarked packet that comes in by a link.
// The error says why the kernel drops it: for instance because there is no route, or
// because the reverse path filter (RFC 3704, section 2.2) expects its source behind
// another link.
func RouteIn(in Link, source, to netip.Addr) (Route, error) {
	reply, err := netlink.Execute(unix.NETLINK_ROUTE, incomingRequest(in.Index, source, to))
	if err == nil && len(reply) == 0 {
		err = errors.New("no reply")
	}
	if err != nil {
		return Route{}, incomingError(err, in, source, to)
	}
	index, local := parseIncoming(reply[0])
	if local {
		return Route{Local: true}, nil
	}
	link, err := net.InterfaceByIndex(index)
	if err != nil {
		return Route{}, fmt.Errorf("no route to %v", to)
	}
	next, isGateway := netip.AddrFromSlice(netlink.Attribute(reply[0].Data[unix.SizeofRtMsg:], unix.RTA_GATEWAY))
	if !isGateway {
		next = to
	}
	return Route{Out: link.Name, NextHop: next}, nil
}

// incomingRequest returns the request for the route of a packet that comes in by a link:
// struct rtmsg, the addresses and the link.
func incomingRequest(in int, source, to netip.Addr) netlink.Message {
	header := make([]byte, unix.SizeofRtMsg)
	header[0], header[1], header[2] = unix.AF_INET, byte(to.BitLen()), byte(source.BitLen())
	if to.Is6() {
		header[0] = unix.AF_INET6
	}
	data := netlink.AppendAttribute(header, unix.RTA_DST, to.AsSlice())
	data = netlink.AppendAttribute(data, unix.RTA_SRC, source.AsSlice())
	data = netlink.AppendAttribute(data, unix.RTA_IIF, binary.NativeEndian.AppendUint32(nil, uint32(in)))
	return netlink.Message{Type: unix.RTM_GETROUTE, Data: data}
}

// parseIncoming decodes an RTM_NEWROUTE message, as parseRoute does; the packet may also
// be for the router.
func parseIncoming(m netlink.Message) (out int, local bool) {
	if m.Type != unix.RTM_NEWROUTE || len(m.Data) < unix.SizeofRtMsg {
		return 0, false
	}
	return parseRoute(m), m.Data[7] == unix.RTN_LOCAL
}

// incomingError returns why the kernel drops a packet, by its error for the route.
func incomingError(err error, in Link, source, to netip.Addr) error {
	isSource := errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EINVAL)
	switch {
	case isSource && source.Is4():
		if why := sourceError(err, in, source); why != nil {
			return why
		}
	case errors.Is(err, unix.ENETUNREACH):
		return fmt.Errorf("no route to %v", to)
	case errors.Is(err, unix.EHOSTUNREACH):
		return fmt.Errorf("no route to %v, or forwarding is disabled for %s", to, in.Name)
	}
	return fmt.Errorf("no route from %v to %v: %w", source, to, err)
}

// sourceError returns why the kernel rejects an IPv4 source, nil if it does not, as far as
// is known. For the reverse path filter its error is EXDEV, and since Linux 6.13 EINVAL as
// for much else.
func sourceError(err error, in Link, source netip.Addr) error {
	link, kind := routeTo(source)
	filter := reversePathFilter(in.Index)
	switch {
	case kind == unix.RTN_LOCAL:
		return fmt.Errorf("martian source: %v is an address of the router", source)
	case kind == unix.RTN_BROADCAST, kind == unix.RTN_MULTICAST:
		return fmt.Errorf("martian source: %v is not the address of a host", source)
	case filter == filterLoose && link == 0:
		return fmt.Errorf("reverse path filter (rp_filter): no route to %v", source)
	case filter == filterStrict && link != in.Index, errors.Is(err, unix.EXDEV):
		return fmt.Errorf("reverse path filter (rp_filter): the route to %v does not leave by %s", source, in.Name)
	}
	return nil
}
