package pcpd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"igdd/pkg/pcp"
)

// bufferLen holds more than the longest packet that is legal, so that longer
// ones are seen as such (RFC 6887, section 8.2).
const bufferLen = 2048

// family is what differs between the sockets of IPv4 and IPv6.
type family struct {
	network string // "udp6" has no part in IPv4
	any     netip.Addr
	options []option
}

// option is a socket option with a number for its value.
type option struct{ level, name, value int }

var (
	ipv4 = family{"udp4", netip.IPv4Unspecified(), []option{
		{unix.IPPROTO_IP, unix.IP_PKTINFO, 1},
		{unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, 1},
		{unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, 0},
	}}
	ipv6 = family{"udp6", netip.IPv6Unspecified(), []option{
		{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1},
		{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 1},
		{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP, 0},
	}}
)

// conn is a socket on port 5351 that knows nothing but its interface.
type conn struct {
	udp   *net.UDPConn
	raw   syscall.RawConn
	any   netip.Addr
	name  string
	index int

	letters sync.Pool // of *letter
}

// datagram is what came from the network. The payload is valid until the next
// one is received.
type datagram struct {
	from    netip.AddrPort
	to      netip.Addr
	payload []byte
}

// listen opens a socket on the interface. It returns nil if the kernel does
// not have the address family.
func listen(f family, lan LAN) (*conn, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		controlErr := raw.Control(func(fd uintptr) { err = f.prepare(int(fd), lan.Name()) })
		return errors.Join(controlErr, err)
	}}
	at := netip.AddrPortFrom(f.any, pcp.ServerPort)
	socket, err := config.ListenPacket(context.Background(), f.network, at.String())
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("pcpd: listen on %s: %w", lan.Name(), err)
	}
	return newConn(socket.(*net.UDPConn), f, lan)
}

// newConn returns a conn that closes the socket.
func newConn(udp *net.UDPConn, f family, lan LAN) (*conn, error) {
	raw, err := udp.SyscallConn()
	if err != nil {
		udp.Close()
		return nil, fmt.Errorf("pcpd: listen on %s: %w", lan.Name(), err)
	}
	c := &conn{udp: udp, raw: raw, any: f.any, name: lan.Name(), index: lan.Index()}
	c.letters.New = func() any { return c.newLetter() }
	return c, nil
}

// prepare sets the options of a socket before it is bound: two sockets can have
// the port only if each belongs to another device.
func (f family) prepare(fd int, device string) error {
	if err := unix.BindToDevice(fd, device); err != nil {
		return fmt.Errorf("bind to device: %w", err)
	}
	for _, o := range f.options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return fmt.Errorf("socket option %d: %w", o.name, err)
		}
	}
	return nil
}

// receive hands every datagram to handle, one after another, until the socket
// is closed.
func (c *conn) receive(handle func(*conn, datagram)) error {
	payload, control := make([]byte, bufferLen), make([]byte, 128)
	for {
		n, controlLen, _, from, err := c.udp.ReadMsgUDPAddrPort(payload, control)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("pcpd: receive on %s: %w", c.name, err)
		}
		if to, ok := destination(control[:controlLen]); ok {
			handle(c, datagram{from: from, to: to, payload: payload[:n]})
		}
	}
}

// destination returns the address that a datagram was sent to: the last field
// of struct in_pktinfo, the first of struct in6_pktinfo.
func destination(control []byte) (netip.Addr, bool) {
	for len(control) > 0 {
		header, data, rest, err := unix.ParseOneSocketControlMessage(control)
		switch {
		case err != nil:
			return netip.Addr{}, false
		case header.Level == unix.IPPROTO_IP && header.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			return netip.AddrFrom4([4]byte(data[unix.SizeofInet4Pktinfo-4:])), true
		case header.Level == unix.IPPROTO_IPV6 && header.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			return netip.AddrFrom16([16]byte(data)), true
		}
		control = rest
	}
	return netip.Addr{}, false
}

// close ends receive. Closing twice does no harm.
func (c *conn) close() { c.udp.Close() }
