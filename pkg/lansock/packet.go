package lansock

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// packet is a datagram on its way, in the kernel's words. A socket uses its
// letters again and again, so that answering costs no memory.
type packet struct {
	payload []byte
	control []byte                // in_pktinfo or in6_pktinfo
	source  []byte                // where the own address stands in control
	to      unix.Sockaddr         // SockaddrInet4 or SockaddrInet6
	send    func(fd uintptr) bool // sends it, and never waits
	err     error                 // what came of that
}

// newPacket returns a letter of the socket's family.
func (s *Socket) newPacket() *packet {
	l := &packet{payload: make([]byte, 0, bufferLen)}
	if s.At.Addr().Is4() {
		l.to, l.control = new(unix.SockaddrInet4), unix.PktInfo4(new(unix.Inet4Pktinfo))
		l.source = l.control[unix.CmsgLen(4):] // behind ipi_ifindex
	} else {
		l.to, l.control = new(unix.SockaddrInet6), unix.PktInfo6(&unix.Inet6Pktinfo{Ifindex: uint32(s.index)})
		l.source = l.control[unix.CmsgLen(0):]
	}
	l.send = func(fd uintptr) bool {
		_, l.err = unix.SendmsgN(int(fd), l.payload, l.control, l.to, unix.MSG_DONTWAIT)
		return true
	}
	return l
}

// setAddrs says where the letter goes and which own address it comes from.
func (l *packet) setAddrs(s *Socket, from netip.Addr, to netip.AddrPort) {
	switch a := l.to.(type) {
	case *unix.SockaddrInet4:
		*a = unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
		own := from.As4()
		copy(l.source, own[:])
	case *unix.SockaddrInet6:
		*a = unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port()), ZoneId: uint32(s.index)}
		own := from.As16()
		copy(l.source, own[:])
	}
}

// Send sends what word appends to an empty buffer, from an own address of the
// interface. It never waits: a client whose link is stuck must not hold up the
// others.
func (s *Socket) Send(word func([]byte) []byte, from netip.Addr, to netip.AddrPort) error {
	l := s.packets.Get().(*packet)
	defer s.packets.Put(l)
	l.payload, l.err = word(l.payload[:0]), nil
	l.setAddrs(s, from, to)
	if err := s.raw.Write(l.send); err != nil {
		return err
	}
	return l.err
}
