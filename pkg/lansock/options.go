package lansock

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Options are what a socket is for.
type Options struct {
	At     netip.AddrPort // the port, at the unspecified address of the family
	Groups []netip.Addr   // to be heard too; other programs may then have the port as well
	Hops   int            // how far datagrams to a group go: TTL or hop limit
}

// prepare sets up a socket before it is bound: two can have the port only if
// each belongs to another device, or both share it.
func (o Options) prepare(fd int, lan LAN) error {
	if err := unix.BindToDevice(fd, lan.Name()); err != nil {
		return fmt.Errorf("bind to device: %w", err)
	}
	for _, n := range o.numbers() {
		if err := unix.SetsockoptInt(fd, n.level, n.name, n.value); err != nil {
			return fmt.Errorf("socket option %d: %w", n.name, err)
		}
	}
	for _, group := range o.Groups {
		if err := join(fd, group, lan.Index()); err != nil {
			return fmt.Errorf("join %v: %w", group, err)
		}
	}
	return nil
}

// number is a socket option with a number for its value.
type number struct{ level, name, value int }

func (o Options) numbers() []number {
	shared := min(1, len(o.Groups))
	if o.At.Addr().Is4() {
		return []number{
			{unix.SOL_SOCKET, unix.SO_REUSEADDR, shared},
			{unix.IPPROTO_IP, unix.IP_PKTINFO, 1},
			{unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0},
			{unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, 0},
			{unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, o.Hops},
		}
	}
	return []number{
		{unix.SOL_SOCKET, unix.SO_REUSEADDR, shared},
		{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1},
		{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP, 0},
		{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, o.Hops},
	}
}

// join makes a socket hear a group on one interface.
func join(fd int, group netip.Addr, index int) error {
	if group.Is4() {
		return unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP,
			&unix.IPMreqn{Multiaddr: group.As4(), Ifindex: int32(index)})
	}
	return unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP,
		&unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(index)})
}
