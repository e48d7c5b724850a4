// Package lansock provides UDP sockets on one LAN interface that know to which
// address a datagram was sent and choose the address to respond from.
package lansock

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// bufferLen is the number of octets of a datagram that are kept: more than any
// service accepts, so that it notices a longer one.
const bufferLen = 2048

// LAN is a network interface with clients.
type LAN interface {
	Name() string
	Index() int
	// Prefixes returns the router's current addresses on the interface, each with
	// the length of its network.
	Prefixes() []netip.Prefix
}

// Socket is a UDP socket of one address family on one interface.
type Socket struct {
	options Options
	udp     *net.UDPConn
	raw     syscall.RawConn
	name    string // of the interface
	index   int

	packets sync.Pool // of *packet
}

// Sockets are the sockets of a service on an interface, one for each family.
type Sockets []*Socket

// Datagram is a received datagram. The payload is valid until the next one is
// received.
type Datagram struct {
	From    netip.AddrPort
	To      netip.Addr
	Payload []byte
}

// Listen opens a socket on the interface for each of the options whose family the
// kernel supports. Datagrams are buffered until Receive reads them.
func Listen(lan LAN, options ...Options) (Sockets, error) {
	var sockets Sockets
	for _, o := range options {
		s, err := open(lan, o)
		switch {
		case errors.Is(err, unix.EAFNOSUPPORT):
		case err != nil:
			sockets.Close()
			return nil, fmt.Errorf("lansock: listen on %s: %w", lan.Name(), err)
		default:
			sockets = append(sockets, s)
		}
	}
	return sockets, nil
}

// Close closes all sockets, which ends Receive. It may be called twice.
func (all Sockets) Close() {
	for _, s := range all {
		s.udp.Close()
	}
}

// open opens a socket on the interface.
func open(lan LAN, o Options) (*Socket, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		controlErr := raw.Control(func(fd uintptr) { err = o.prepare(int(fd), lan) })
		return errors.Join(controlErr, err)
	}}
	network := "udp6" // IPv6 only
	if o.At.Addr().Is4() {
		network = "udp4"
	}
	c, err := config.ListenPacket(context.Background(), network, o.At.String())
	if err != nil {
		return nil, err
	}
	s := &Socket{options: o, udp: c.(*net.UDPConn), name: lan.Name(), index: lan.Index()}
	if s.raw, err = s.udp.SyscallConn(); err != nil {
		s.udp.Close()
		return nil, err
	}
	s.packets.New = func() any { return s.newPacket() }
	return s, nil
}

// Family returns the unspecified address of the socket's family.
func (s *Socket) Family() netip.Addr { return s.options.At.Addr() }

// HasGroup reports whether the socket has joined a multicast group.
func (s *Socket) HasGroup(group netip.Addr) bool { return slices.Contains(s.options.Groups, group) }

// Receive calls handle for each datagram, one after another, until the socket is
// closed.
func (s *Socket) Receive(handle func(*Socket, Datagram)) error {
	payload, control := make([]byte, bufferLen), make([]byte, 128)
	for {
		n, controlLen, _, from, err := s.udp.ReadMsgUDPAddrPort(payload, control)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("lansock: receive on %s: %w", s.name, err)
		}
		if to, ok := destination(control[:controlLen]); ok {
			handle(s, Datagram{From: from, To: to, Payload: payload[:n]})
		}
	}
}

// destination returns the address that a datagram was sent to: the last field of
// struct in_pktinfo or the first of struct in6_pktinfo.
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
