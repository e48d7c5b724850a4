// Package lan is a LAN as servers see it: sockets bound to its interface, and which
// host a client is.
package lan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bufferLen is the number of octets of a datagram that are kept: more than any
// service accepts, so that it notices a longer one.
const bufferLen = 2048

// Interface is a network interface with clients.
type Interface interface {
	Name() string
	Index() int
	// Prefixes returns the router's current addresses on the interface, each with
	// the length of its network.
	Prefixes() []netip.Prefix
}

// Socket is a UDP socket of one address family on one interface.
type Socket struct {
	options Options
	on      Interface
	hosts   *Hosts
	udp     *net.UDPConn
	raw     syscall.RawConn

	packets sync.Pool // of *packet
}

// Sockets are the sockets of a service on an interface, one for each family.
type Sockets []*Socket

// Datagram is a datagram of a host on the LAN. The payload is valid until the next
// one is received.
type Datagram struct {
	From    netip.AddrPort
	To      netip.Addr // one of the router's own addresses, a group of the socket, or 255.255.255.255 if it has groups
	Host    Host       // the sender
	Payload []byte
}

// Listen opens a socket on the interface for each of the options whose family the
// kernel supports. Datagrams are buffered until Receive reads them.
func Listen(on Interface, hosts *Hosts, options ...Options) (Sockets, error) {
	var sockets Sockets
	for _, o := range options {
		s, err := open(on, hosts, o)
		switch {
		case errors.Is(err, unix.EAFNOSUPPORT):
		case err != nil:
			sockets.Close()
			return nil, fmt.Errorf("lan: listen on %s: %w", on.Name(), err)
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
func open(on Interface, hosts *Hosts, o Options) (*Socket, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		controlErr := raw.Control(func(fd uintptr) { err = o.prepare(int(fd), on) })
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
	s := &Socket{options: o, on: on, hosts: hosts, udp: c.(*net.UDPConn)}
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

// Receive calls handle for each datagram of a host on the LAN that is sent to the
// router, until the socket is closed: one after another, but at any time for those
// whose senders had to be resolved first.
func (s *Socket) Receive(handle func(*Socket, Datagram)) error {
	payload, control := make([]byte, bufferLen), make([]byte, 128)
	for {
		n, controlLen, _, from, err := s.udp.ReadMsgUDPAddrPort(payload, control)
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case isPassing(err):
			time.Sleep(errorPause)
			continue
		case err != nil:
			return fmt.Errorf("lan: receive on %s: %w", s.on.Name(), err)
		}
		to, ok := destination(control[:controlLen])
		if ok && isAdmitted(s.on.Prefixes(), s.hosts.routed(s.on), from, to, len(s.options.Groups) > 0) {
			s.identify(Datagram{From: from, To: to, Payload: payload[:n]}, handle)
		}
	}
}

// identify finds out which host sent a datagram and passes it on.
func (s *Socket) identify(d Datagram, handle func(*Socket, Datagram)) {
	n := neighbour{s.on.Index(), d.From.Addr().WithZone("")}
	if host, known := s.hosts.known(n); known {
		d.Host = host
		s.pass(d, handle)
		return
	}
	d.Payload = bytes.Clone(d.Payload)
	s.hosts.await(n, func(host Host) { d.Host = host; s.pass(d, handle) })
}

// pass calls handle, unless the sender gets no answer. A panic ends nothing but the
// handling of this datagram.
func (s *Socket) pass(d Datagram, handle func(*Socket, Datagram)) {
	defer Recover(s.hosts.log, d.From.Addr(), func() {})
	if !s.hosts.hides(s.on.Index(), d.From.Addr()) {
		handle(s, d)
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
