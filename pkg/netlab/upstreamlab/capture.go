package upstreamlab

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"

	"igdd/pkg/netlab"

	"golang.org/x/sys/unix"
)

// Packet is an IPv4 packet that left by an uplink.
type Packet struct {
	Protocol uint8          // IANA protocol number
	To       netip.AddrPort // the port is 0 unless the protocol is TCP or UDP
	TTL      uint8
}

// Capture hears what leaves by a device until the test ends.
type Capture struct{ fd int }

// everything is ETH_P_ALL in network order: sockets for other protocols do not hear what
// leaves.
const everything = unix.ETH_P_ALL>>8&0xff | unix.ETH_P_ALL&0xff<<8

// room is for what leaves before the test asks, in octets.
const room = 8 << 20

// NewCapture starts to hear.
func NewCapture(t testing.TB, host *netlab.Namespace, device string) *Capture {
	t.Helper()
	c := new(Capture)
	if err := host.Do(func() error { return c.open(device) }); err != nil {
		t.Fatalf("upstreamlab: capture at %s: %v", device, err)
	}
	t.Cleanup(func() { unix.Close(c.fd) })
	return c
}

// open opens the socket.
func (c *Capture) open(device string) error {
	dev, err := net.InterfaceByName(device)
	if err != nil {
		return err
	}
	c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	return errors.Join(
		unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room),
		unix.Bind(c.fd, &unix.SockaddrLinklayer{Protocol: everything, Ifindex: dev.Index}))
}

// Sent returns the packets that have left since the call before. What left before the
// call is there: the kernel hands it over before the device has it.
func (c *Capture) Sent(t testing.TB) (list []Packet) {
	t.Helper()
	var b [128]byte
	for {
		n, from, err := unix.Recvfrom(c.fd, b[:], 0)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return list
		case err != nil:
			t.Fatalf("upstreamlab: capture: %v", err)
		}
		link, _ := from.(*unix.SockaddrLinklayer)
		if p, ok := parsePacket(b[:n]); ok && link != nil && link.Pkttype == unix.PACKET_OUTGOING {
			list = append(list, p)
		}
	}
}

// parsePacket decodes the start of an IPv4 packet (RFC 791, section 3.1).
func parsePacket(b []byte) (Packet, bool) {
	const minLen = 20
	if len(b) < minLen || b[0]>>4 != 4 {
		return Packet{}, false
	}
	p := Packet{Protocol: b[9], TTL: b[8]}
	var port uint16
	if head := int(b[0]&0xf) * 4; (p.Protocol == unix.IPPROTO_UDP || p.Protocol == unix.IPPROTO_TCP) && len(b) >= head+4 {
		port = binary.BigEndian.Uint16(b[head+2:])
	}
	p.To = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[16:])), port)
	return p, true
}
