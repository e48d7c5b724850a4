package packetlab

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"igdd/pkg/netlink"

	"golang.org/x/sys/unix"
)

// etherTypeBarrier is the EtherType of frames that only follow others: one for local
// experiments (IEEE 802).
const etherTypeBarrier = 0x88b5

// patience bounds the wait for a frame, in seconds; each takes microseconds unless the
// machine is busy.
const patience = 60

// networkOrder swaps the bytes of an EtherType, as packet sockets want it.
func networkOrder(kind uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, kind))
}

// packetSocket opens a socket for whole frames of one EtherType; with 0, of
// none.
func packetSocket(kind uint16) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(networkOrder(kind)))
	if err != nil {
		return -1, err
	}
	return fd, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: patience})
}

// readUntilBarrier reads frames until the barrier of the packet sent last, and returns
// the source and destination of that packet if it was before it.
func (l *Lab) readUntilBarrier(fd int) (from, to netip.AddrPort, err error) {
	var b [2048]byte
	for {
		n, _, err := unix.Recvfrom(fd, b[:], 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n < ethernetLen+4 {
			return from, to, errors.Join(err, errShort(n))
		}
		kind, payload := binary.BigEndian.Uint16(b[12:]), b[ethernetLen:n]
		if kind == etherTypeBarrier && binary.BigEndian.Uint32(payload) == l.tag {
			return from, to, nil
		}
		if f, a, tag, ok := decode(payload); ok && tag == l.tag {
			from, to = f, a
		}
	}
}

// errShort returns an error if a frame has no room for what each frame has.
func errShort(n int) error {
	if n < ethernetLen+4 {
		return errors.New("short frame")
	}
	return nil
}

// raw is a socket that hears what the router delivers to its own programs.
type raw struct {
	fd, family, protocol int
}

// newRaw opens the socket for one protocol of one family.
func newRaw(family, protocol int) (*raw, error) {
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, err
	}
	if family == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	}
	return &raw{fd, family, protocol}, err
}

// receive returns the destination of the packet with the tag, if it has come.
func (r *raw) receive(tag uint32) (to netip.AddrPort, ok bool, err error) {
	var b [2048]byte
	var control [128]byte
	for {
		n, nc, _, _, err := unix.Recvmsg(r.fd, b[:], control[:], 0)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return to, ok, nil
		case err != nil:
			return to, false, err
		}
		if a, t, is := r.decode(b[:n], control[:nc]); is && t == tag {
			to, ok = a, true
		}
	}
}

// decode returns the destination and tag of what the socket received: a packet,
// or with IPv6 what follows the header.
func (r *raw) decode(b, control []byte) (to netip.AddrPort, tag uint32, ok bool) {
	if r.family == unix.AF_INET {
		_, to, tag, ok = decode(b)
		return to, tag, ok
	}
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(messages) != 1 || len(messages[0].Data) < 16 {
		return to, 0, false
	}
	_, to, tag, ok = decodeTransport(netip.Addr{}, netip.AddrFrom16([16]byte(messages[0].Data)), r.protocol, b)
	return to, tag, ok
}

// Attributes of a connection in netlink (linux/netfilter/nfnetlink_conntrack.h).
const (
	attrTuple, attrIP, attrProtocol    = 1, 1, 2
	attrNumber, attrSource, attrTarget = 1, 2, 3
	attrIPv4, attrIPv6                 = 1, 3     // the source; the destination's is the next
	deleteConnection                   = 1<<8 | 2 // NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE
)

// forget removes the connection that the packet began, if the kernel has noted
// one. The thread must be in the router's namespace.
func forget(p Packet) error {
	family, first := uint8(unix.AF_INET), uint16(attrIPv4)
	if p.Source.Addr().Is6() {
		family, first = unix.AF_INET6, attrIPv6
	}
	ip := netlink.AppendAttribute(nil, first, p.Source.Addr().AsSlice())
	ip = netlink.AppendAttribute(ip, first+1, p.Destination.Addr().AsSlice())
	ports := netlink.AppendAttribute(nil, attrNumber, []byte{byte(p.Protocol)})
	ports = netlink.AppendAttribute(ports, attrSource, binary.BigEndian.AppendUint16(nil, p.Source.Port()))
	ports = netlink.AppendAttribute(ports, attrTarget, binary.BigEndian.AppendUint16(nil, p.Destination.Port()))
	tuple := netlink.AppendAttribute(nil, attrIP|unix.NLA_F_NESTED, ip)
	tuple = netlink.AppendAttribute(tuple, attrProtocol|unix.NLA_F_NESTED, ports)
	data := netlink.AppendAttribute([]byte{family, 0, 0, 0}, attrTuple|unix.NLA_F_NESTED, tuple)
	_, err := netlink.Execute(unix.NETLINK_NETFILTER, netlink.Message{Type: deleteConnection, Flags: unix.NLM_F_REQUEST | unix.NLM_F_ACK, Data: data})
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}
