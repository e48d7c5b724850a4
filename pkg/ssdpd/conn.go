package ssdpd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"igdd/pkg/ssdp"
)

// family is what differs between the sockets of IPv4 and IPv6.
type family struct {
	network string // "udp6" has no part in IPv4
	any     netip.Addr
	groups  []ssdp.Group
	options []option
}

// option is a socket option with a number for its value.
type option struct{ level, name, value int }

// The address is shared, so that other SSDP programs can run beside us. The
// multicast scope is that of UDA 1.1, section 1.1.1, and UDA 2.0, annex A.
var (
	ipv4 = family{"udp4", netip.IPv4Unspecified(), []ssdp.Group{ssdp.IPv4}, []option{
		{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1},
		{unix.IPPROTO_IP, unix.IP_PKTINFO, 1},
		{unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0},
		{unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, 0},
		{unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, 2},
	}}
	ipv6 = family{"udp6", netip.IPv6Unspecified(), []ssdp.Group{ssdp.LinkLocal, ssdp.SiteLocal}, []option{
		{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1},
		{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1},
		{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP, 0},
		{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 10},
	}}
)

// conn is a socket on port 1900 that knows nothing but its interface.
type conn struct {
	family
	udp   *net.UDPConn
	raw   syscall.RawConn
	name  string
	index int
}

// datagram is what came from the network. The payload is valid until the next
// one is received.
type datagram struct {
	from    netip.AddrPort
	to      netip.Addr
	payload []byte
}

// listen opens a socket on the interface and joins the groups there. It
// returns nil if the kernel does not have the address family.
func listen(f family, lan LAN) (*conn, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return control(raw, func(fd int) error { return f.prepare(fd, lan) })
	}}
	at := netip.AddrPortFrom(f.any, ssdp.Port)
	socket, err := config.ListenPacket(context.Background(), f.network, at.String())
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ssdpd: listen on %s: %w", lan.Name(), err)
	}
	udp := socket.(*net.UDPConn)
	raw, err := udp.SyscallConn()
	if err != nil {
		udp.Close()
		return nil, fmt.Errorf("ssdpd: listen on %s: %w", lan.Name(), err)
	}
	return &conn{family: f, udp: udp, raw: raw, name: lan.Name(), index: lan.Index()}, nil
}

// control calls f with the descriptor of a socket.
func control(raw syscall.RawConn, f func(fd int) error) (err error) {
	controlErr := raw.Control(func(fd uintptr) { err = f(int(fd)) })
	return errors.Join(controlErr, err)
}

// prepare binds a socket to its device, sets the options and joins the groups.
func (f family) prepare(fd int, lan LAN) error {
	if err := unix.BindToDevice(fd, lan.Name()); err != nil {
		return fmt.Errorf("bind to device: %w", err)
	}
	for _, o := range f.options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return fmt.Errorf("socket option %d: %w", o.name, err)
		}
	}
	for _, g := range f.groups {
		if err := join(fd, g.Addr(), lan.Index()); err != nil {
			return fmt.Errorf("join %v: %w", g.Addr(), err)
		}
	}
	return nil
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

// receive hands every datagram to handle, one after another, until the socket
// is closed.
func (c *conn) receive(handle func(*conn, datagram)) error {
	payload, oob := make([]byte, ssdp.MaxLen+1), make([]byte, 128)
	for {
		n, oobLen, _, from, err := c.udp.ReadMsgUDPAddrPort(payload, oob)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("ssdpd: receive on %s: %w", c.name, err)
		}
		if to, ok := destination(oob[:oobLen]); ok {
			handle(c, datagram{from: from, to: to, payload: payload[:n]})
		}
	}
}

// destination returns the address that a datagram was sent to: the last field
// of struct in_pktinfo, the first of struct in6_pktinfo.
func destination(oob []byte) (netip.Addr, bool) {
	for len(oob) > 0 {
		header, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		switch {
		case err != nil:
			return netip.Addr{}, false
		case header.Level == unix.IPPROTO_IP && header.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			return netip.AddrFrom4([4]byte(data[unix.SizeofInet4Pktinfo-4:])), true
		case header.Level == unix.IPPROTO_IPV6 && header.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			return netip.AddrFrom16([16]byte(data)), true
		}
		oob = rest
	}
	return netip.Addr{}, false
}

// send sends b from an own address of the interface. It never waits: a client
// whose link is stuck must not hold up the others.
func (c *conn) send(b []byte, from netip.Addr, to netip.AddrPort) error {
	oob, address := c.route(from, to)
	var err error
	rawErr := c.raw.Write(func(fd uintptr) bool {
		_, err = unix.SendmsgN(int(fd), b, oob, address, unix.MSG_DONTWAIT)
		return true
	})
	return errors.Join(rawErr, err)
}

// route words source and destination for the kernel.
func (c *conn) route(from netip.Addr, to netip.AddrPort) ([]byte, unix.Sockaddr) {
	if c.any.Is4() {
		return unix.PktInfo4(&unix.Inet4Pktinfo{Ifindex: int32(c.index), Spec_dst: from.As4()}),
			&unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
	}
	return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: from.As16(), Ifindex: uint32(c.index)}),
		&unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port()), ZoneId: uint32(c.index)}
}

// close ends receive. Closing twice does no harm.
func (c *conn) close() { c.udp.Close() }
