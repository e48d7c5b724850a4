package netif

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlink"
)

// internetHosts are one address of each half of the Internet: AstLinux's failover
// and most VPNs leave the default route as it is and add a route to each half. These
// two are ordinary addresses that no connectivity test is known to use: its targets
// have routes of their own. Nothing is sent to them.
var internetHosts = [...]netip.Addr{netip.AddrFrom4([4]byte{64, 0, 0, 1}), netip.AddrFrom4([4]byte{208, 0, 0, 1})}

// InternetLink returns the index of the link by which unmarked packets leave for the
// Internet over IPv4. It returns 0 if there is no such link: a half of the Internet
// cannot be reached, or has a route with several next hops, or the halves have
// different links.
func InternetLink() int {
	first, second := LinkTo(internetHosts[0]), LinkTo(internetHosts[1])
	if first != second {
		return 0
	}
	return first
}

// Gateway returns the IPv4 address of the router by which unmarked packets leave a link
// for the Internet, the zero Addr if there is none or more than one. On a point-to-point
// link whose route names none that is the other end.
func Gateway(link Link) netip.Addr {
	first, second := gatewayTo(internetHosts[0], link), gatewayTo(internetHosts[1], link)
	if first != second {
		return netip.Addr{}
	}
	return first
}

// gatewayTo returns the next hop of the route by a link to an IPv4 host.
func gatewayTo(host netip.Addr, link Link) netip.Addr {
	request := routeRequest(host, unix.RTM_F_FIB_MATCH)
	request.Data = netlink.AppendAttribute(request.Data, unix.RTA_OIF, binary.NativeEndian.AppendUint32(nil, uint32(link.Index)))
	reply, err := netlink.Execute(unix.NETLINK_ROUTE, request)
	if err != nil || len(reply) == 0 || parseRoute(reply[0]) != link.Index {
		return netip.Addr{}
	}
	attrs := reply[0].Data[unix.SizeofRtMsg:]
	gateway, isNamed := netip.AddrFromSlice(netlink.Attribute(attrs, unix.RTA_GATEWAY))
	switch {
	case isNamed:
		return gateway
	case netlink.Attribute(attrs, unix.RTA_VIA) != nil: // of another family
		return netip.Addr{}
	}
	return link.Peer
}

// LinkTo returns the index of the link of the route to a host, 0 if there is none or if
// it has several next hops.
func LinkTo(host netip.Addr) int {
	link, _ := routeTo(host)
	return link
}

// routeTo returns the index of the link of the route to a host, 0 if there is none, and
// the type of the route (rtnetlink(7), rtm_type).
func routeTo(host netip.Addr) (link int, kind uint8) {
	reply, err := netlink.Execute(unix.NETLINK_ROUTE, routeRequest(host, unix.RTM_F_FIB_MATCH))
	if err != nil || len(reply) == 0 || len(reply[0].Data) < unix.SizeofRtMsg {
		return 0, unix.RTN_UNSPEC
	}
	return parseRoute(reply[0]), reply[0].Data[7]
}

// NextLink returns the index of the link by which unmarked packets leave for a host of
// either family: by one next hop, if its route has several. It returns 0 if there is no
// route.
func NextLink(host netip.Addr) int {
	reply, err := netlink.Execute(unix.NETLINK_ROUTE, routeRequest(host, 0))
	if err != nil || len(reply) == 0 {
		return 0
	}
	return parseRoute(reply[0])
}

// routeRequest returns the request for the route that a host has: struct rtmsg and the
// host. With RTM_F_FIB_MATCH the reply is the entry of the routing table; kernels before
// 4.13 do not know that and return one next hop of several.
func routeRequest(host netip.Addr, flags uint32) netlink.Message {
	header := make([]byte, unix.SizeofRtMsg)
	header[0], header[1] = unix.AF_INET, byte(host.BitLen())
	if host.Is6() {
		header[0] = unix.AF_INET6
	}
	binary.NativeEndian.PutUint32(header[8:], flags)
	return netlink.Message{Type: unix.RTM_GETROUTE, Data: netlink.AppendAttribute(header, unix.RTA_DST, host.AsSlice())}
}

// parseRoute decodes an RTM_NEWROUTE message: struct rtmsg and attributes. It returns
// the index of the link, 0 if the route has none or several next hops.
func parseRoute(m netlink.Message) int {
	if m.Type != unix.RTM_NEWROUTE || len(m.Data) < unix.SizeofRtMsg || m.Data[7] != unix.RTN_UNICAST {
		return 0
	}
	attrs := m.Data[unix.SizeofRtMsg:]
	index := netlink.Attribute(attrs, unix.RTA_OIF)
	if netlink.Attribute(attrs, unix.RTA_MULTIPATH) != nil || len(index) != 4 {
		return 0
	}
	return int(binary.NativeEndian.Uint32(index) & (1<<31 - 1))
}

// isRouting reports whether a notice is of a route or a routing rule.
func isRouting(notice []byte) bool {
	if len(notice) < unix.SizeofNlMsghdr {
		return false
	}
	switch binary.NativeEndian.Uint16(notice[4:]) {
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE, unix.RTM_NEWRULE, unix.RTM_DELRULE:
		return true
	}
	return false
}

// specificRoute is the length from which on the prefix of a route is not a
// considerable part of the Internet: the largest networks in use are /8.
const specificRoute = 8

// dropSpecificRoutes has the kernel keep the notices of specific routes from a socket:
// a router that speaks BGP or OSPF may get thousands of them a second.
func dropSpecificRoutes(socket *os.File) error {
	if err := netlink.Filter(socket, routeFilter()); err != nil {
		return fmt.Errorf("netif: %w", err)
	}
	return nil
}

// routeFilter returns the program for dropSpecificRoutes. It reads nlmsg_type, at
// offset 4, and rtm_dst_len, the second octet after struct nlmsghdr.
func routeFilter() []unix.SockFilter {
	load := func(size uint16, offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_ABS | size, K: offset}
	}
	jump := func(comparison uint16, k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | comparison, K: k, Jt: yes, Jf: no}
	}
	ret := func(bytes uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: bytes} }
	return []unix.SockFilter{
		load(unix.BPF_H, 4),
		jump(unix.BPF_JEQ, netlink.FilterOrder(unix.RTM_NEWROUTE), 1, 0),
		jump(unix.BPF_JEQ, netlink.FilterOrder(unix.RTM_DELROUTE), 0, 2),
		load(unix.BPF_B, unix.SizeofNlMsghdr+1),
		jump(unix.BPF_JGE, specificRoute, 1, 0),
		ret(1<<32 - 1), // all of it
		ret(0),
	}
}
