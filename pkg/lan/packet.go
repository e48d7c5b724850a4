package lan

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// packet is an outgoing datagram with what sendmsg(2) takes. A socket reuses its
// packets, so that sending allocates no memory.
type packet struct {
	payload []byte
	control []byte                // in_pktinfo or in6_pktinfo
	source  []byte                // the part of control that is the source address
	to      unix.Sockaddr         // SockaddrInet4 or SockaddrInet6
	send    func(fd uintptr) bool // sends the packet without waiting and sets err
	err     error
}

// newPacket returns a packet of the socket's family.
func (s *Socket) newPacket() *packet {
	p := &packet{payload: make([]byte, 0, bufferLen)}
	if s.Family().Is4() {
		p.to, p.control = new(unix.SockaddrInet4), unix.PktInfo4(new(unix.Inet4Pktinfo))
		p.source = p.control[unix.CmsgLen(4):] // behind ipi_ifindex
	} else {
		p.to, p.control = new(unix.SockaddrInet6), unix.PktInfo6(&unix.Inet6Pktinfo{Ifindex: uint32(s.on.Index())})
		p.source = p.control[unix.CmsgLen(0):]
	}
	p.send = func(fd uintptr) bool {
		_, p.err = unix.SendmsgN(int(fd), p.payload, p.control, p.to, unix.MSG_DONTWAIT)
		return true
	}
	return p
}

// setAddrs sets the source address and the destination.
func (p *packet) setAddrs(s *Socket, from netip.Addr, to netip.AddrPort) {
	switch a := p.to.(type) {
	case *unix.SockaddrInet4:
		*a = unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
		source := from.As4()
		copy(p.source, source[:])
	case *unix.SockaddrInet6:
		*a = unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port()), ZoneId: uint32(s.on.Index())}
		source := from.As16()
		copy(p.source, source[:])
	}
}

// Send sends what encode appends to an empty buffer, from one of the router's
// addresses on the interface. It never waits: a client whose link is congested must
// not delay the others.
func (s *Socket) Send(encode func([]byte) []byte, from netip.Addr, to netip.AddrPort) error {
	p := s.packets.Get().(*packet)
	defer s.packets.Put(p)
	p.payload, p.err = encode(p.payload[:0]), nil
	p.setAddrs(s, from, to)
	if err := s.raw.Write(p.send); err != nil {
		return err
	}
	return p.err
}

// WhenResolved calls send, which sends to a host that may have left: at once if the kernel
// knows its hardware address, else when it has found it out. send is never called if the
// kernel cannot, or if too many wait.
func (s *Socket) WhenResolved(to netip.Addr, send func()) {
	n := neighbour{s.on.Index(), to.WithZone("")}
	if _, known := s.hosts.known(n); known {
		send()
		return
	}
	s.hosts.await(n, func(Host) { send() })
}
