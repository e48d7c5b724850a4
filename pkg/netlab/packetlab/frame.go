package packetlab

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Packet is the first packet of a new connection: a TCP segment with SYN, or a UDP
// datagram.
type Packet struct {
	In          string // the router's device that it comes in by; "": the router sends it, by IPv4
	Protocol    int    // unix.IPPROTO_TCP or unix.IPPROTO_UDP
	Source      netip.AddrPort
	Destination netip.AddrPort
}

const (
	ethernetLen = 14
	ipv4Len     = 20
	ipv6Len     = 40
	udpLen      = 8
	tcpLen      = 24 // with the option for the maximum segment size
	hops        = 64
)

// hardwareAddr is an Ethernet address.
type hardwareAddr [6]byte

// ethernet returns the header of a frame.
func ethernet(to, from hardwareAddr, kind uint16) []byte {
	b := append(to[:], from[:]...)
	return binary.BigEndian.AppendUint16(b, kind)
}

// encode returns the packet with its IP header. The tag is in its payload, or
// is a TCP segment's sequence number; no router changes these.
func (p Packet) encode(tag uint32) []byte {
	if p.Source.Addr().Is6() {
		return p.ipv6(p.transport(tag))
	}
	return p.ipv4(p.transport(tag))
}

// ipv4 puts an IPv4 header in front of a segment (RFC 791, section 3.1).
func (p Packet) ipv4(segment []byte) []byte {
	b := []byte{0x45, 0}
	b = binary.BigEndian.AppendUint16(b, uint16(ipv4Len+len(segment)))
	b = append(b, 0, 0, 0, 0, hops, byte(p.Protocol), 0, 0)
	b = append(b, p.Source.Addr().AsSlice()...)
	b = append(b, p.Destination.Addr().AsSlice()...)
	binary.BigEndian.PutUint16(b[10:], checksum(b))
	return append(b, segment...)
}

// ipv6 puts an IPv6 header in front of a segment (RFC 8200, section 3).
func (p Packet) ipv6(segment []byte) []byte {
	b := []byte{0x60, 0, 0, 0}
	b = binary.BigEndian.AppendUint16(b, uint16(len(segment)))
	b = append(b, byte(p.Protocol), hops)
	b = append(b, p.Source.Addr().AsSlice()...)
	b = append(b, p.Destination.Addr().AsSlice()...)
	return append(b, segment...)
}

// transport returns the TCP segment (RFC 9293, section 3.1) or UDP datagram.
func (p Packet) transport(tag uint32) []byte {
	b := binary.BigEndian.AppendUint16(nil, p.Source.Port())
	b = binary.BigEndian.AppendUint16(b, p.Destination.Port())
	sum := 6
	if p.Protocol == unix.IPPROTO_TCP {
		sum = 16
		b = binary.BigEndian.AppendUint32(b, tag)
		b = append(b, 0, 0, 0, 0, tcpLen/4<<4, 0x02, 0xff, 0xff, 0, 0, 0, 0, 2, 4, 0x05, 0xb4)
	} else {
		b = append(b, 0, udpLen+4, 0, 0)
		b = binary.BigEndian.AppendUint32(b, tag)
	}
	pseudo := append(p.Source.Addr().AsSlice(), p.Destination.Addr().AsSlice()...)
	pseudo = append(pseudo, 0, byte(p.Protocol), 0, byte(len(b)))
	binary.BigEndian.PutUint16(b[sum:], checksum(append(pseudo, b...)))
	return b
}

// checksum is the Internet's (RFC 1071) of an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	sum = sum>>16 + sum&0xffff
	return ^uint16(sum>>16 + sum)
}

// decode returns the packet's source, destination and tag, if it is one that encode
// can have made.
func decode(b []byte) (from, to netip.AddrPort, tag uint32, ok bool) {
	switch {
	case len(b) >= ipv4Len && b[0] == 0x45:
		return decodeTransport(netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20])), int(b[9]), b[ipv4Len:])
	case len(b) >= ipv6Len && b[0]>>4 == 6:
		return decodeTransport(netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40])), int(b[6]), b[ipv6Len:])
	}
	return from, to, 0, false
}

// decodeTransport does so for what follows the IP header.
func decodeTransport(source, destination netip.Addr, protocol int, b []byte) (from, to netip.AddrPort, tag uint32, ok bool) {
	at := 4
	if protocol == unix.IPPROTO_UDP {
		at = udpLen
	}
	if protocol != unix.IPPROTO_TCP && protocol != unix.IPPROTO_UDP || len(b) < at+4 {
		return from, to, 0, false
	}
	port := binary.BigEndian.Uint16
	return netip.AddrPortFrom(source, port(b)), netip.AddrPortFrom(destination, port(b[2:])), binary.BigEndian.Uint32(b[at:]), true
}
