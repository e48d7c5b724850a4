package lan

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Options configure a Socket.
type Options struct {
	At     netip.AddrPort // the port, at the unspecified address of the family
	Groups []netip.Addr   // multicast groups to join; the port may then be shared with other programs
	Hops   int            // TTL or hop limit of datagrams to a group
}

// Sizes of the kernel's buffers for a socket, in bytes. The kernel counts the memory
// that a datagram takes, not its length: 768 to 1,280 for a short one, 2,304 for one
// of 1,100 octets, and 4,352 for any where the network driver uses a page for each
// packet (4,096, and 256 for struct sk_buff).
//
// While the program does not run, because the processor is busy with receiving, the
// receive buffer must have room for a burst of 1,000 datagrams from one host: 4.2 MiB
// in pages. The rest is for other hosts, and for datagrams that were read and are
// still counted, up to a quarter of the buffer (udp_rmem_release in Linux). The
// memory is in use only while datagrams wait, and net.ipv4.udp_mem limits it for all
// UDP sockets together: to three sixteenths of what was free at boot, or 4.5 MiB
// where that was 24 MiB.
//
// The send buffer must have room for the responses to such a burst, 1,280 each, while
// the network driver has them. No other limit covers that memory, so it is no larger.
const (
	receiveBuffer = 6 << 20
	sendBuffer    = 1024 * 1280
)

// prepare configures a socket before it is bound. Two sockets can have the same port
// only on different devices, or if both share it.
func (o Options) prepare(fd int, on Interface) error {
	if err := unix.BindToDevice(fd, on.Name()); err != nil {
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
		if err := join(fd, group, on.Index()); err != nil {
			return fmt.Errorf("join %v: %w", group, err)
		}
	}
	return nil
}

// enlarge sets the size of a buffer by the option force, which needs CAP_NET_ADMIN,
// or without that by the other option, which is limited to net.core.rmem_max or
// wmem_max. Linux doubles the value (socket(7)).
func enlarge(fd, force, option, size int) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, size/2)
	if errors.Is(err, unix.EPERM) {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, size/2)
	}
	return err
}

// sockopt is a socket option with an integer value.
type sockopt struct{ level, name, value int }

// sockopts returns the socket options for the family.
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

// join joins a multicast group on one interface.
func join(fd int, group netip.Addr, index int) error {
	if group.Is4() {
		return unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP,
			&unix.IPMreqn{Multiaddr: group.As4(), Ifindex: int32(index)})
	}
	return unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP,
		&unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(index)})
}
