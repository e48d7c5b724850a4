package lansock

import (
	"errors"
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

// The memory that the kernel may hold for a socket, in octets. It counts what a
// datagram takes, not how long it is: 768 to 1,280 for a short one, 2,304 for
// one of 1,100 octets, and 4,352 for any where the network driver gives each
// packet a page (4,096, and 256 for struct sk_buff).
//
// While the program does not run, because the processor is busy with receiving,
// a burst of 1,000 from one host must find room: 4.2 MiB in pages. What is
// beyond is for other hosts, and for datagrams that were read and are still
// counted, which are a quarter of the buffer at most (udp_rmem_release in
// Linux). It is in use only while datagrams wait, and all UDP sockets together
// get no more than net.ipv4.udp_mem for that: three sixteenths of what was free
// at boot, or 4.5 MiB where that was 24 MiB.
//
// The answers to a burst, 1,280 each, must find room while the network driver
// has them. That memory is in no other limit, so there is no more of it.
const (
	receiveBuffer = 6 << 20
	sendBuffer    = 1024 * 1280
)

// prepare sets up a socket before it is bound: two can have the port only if
// each belongs to another device, or both share it.
func (o Options) prepare(fd int, lan LAN) error {
	if err := unix.BindToDevice(fd, lan.Name()); err != nil {
		return fmt.Errorf("bind to device: %w", err)
	}
	for _, n := range o.sockopts() {
		if err := unix.SetsockoptInt(fd, n.level, n.name, n.value); err != nil {
			return fmt.Errorf("socket option %d: %w", n.name, err)
		}
	}
	if err := errors.Join(
		enlarge(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, receiveBuffer),
		enlarge(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, sendBuffer),
	); err != nil {
		return fmt.Errorf("buffer: %w", err)
	}
	for _, group := range o.Groups {
		if err := join(fd, group, lan.Index()); err != nil {
			return fmt.Errorf("join %v: %w", group, err)
		}
	}
	return nil
}

// enlarge sets the size of a buffer by an option that takes CAP_NET_ADMIN or,
// without that, up to net.core.rmem_max or wmem_max by the other option. Linux
// doubles what it is told (socket(7)).
func enlarge(fd, force, option, size int) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, size/2)
	if errors.Is(err, unix.EPERM) {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, size/2)
	}
	return err
}

// sockopt is a socket option with a number for its value.
type sockopt struct{ level, name, value int }

func (o Options) sockopts() []sockopt {
	shared := min(1, len(o.Groups))
	if o.At.Addr().Is4() {
		return []sockopt{
			{unix.SOL_SOCKET, unix.SO_REUSEADDR, shared},
			{unix.IPPROTO_IP, unix.IP_PKTINFO, 1},
			{unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0},
			{unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, 0},
			{unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, o.Hops},
		}
	}
	return []sockopt{
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
