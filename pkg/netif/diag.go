package netif

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// Sizes of struct inet_diag_req_v2 and of a message that holds one.
const (
	diagRequestLen = 56
	diagMessageLen = unix.SizeofNlMsghdr + diagRequestLen
)

var diagProtocols = map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP}

// Ports knows at which ports the router's own programs answer.
type Ports struct {
	diag map[string]bool // protocols about which the kernel answers single questions
}

// NewPorts finds out what can be asked of the kernel.
func NewPorts() *Ports {
	p := &Ports{diag: make(map[string]bool)}
	for name, protocol := range diagProtocols {
		// A list of sockets in no state: empty, or an error if the kernel
		// was built without inet_diag.
		_, err := askDiag(diagMessage(protocol, unix.NLM_F_DUMP, netip.AddrPort{}))
		p.diag[name] = err == nil
	}
	return p
}

// Taken reports whether one of the router's own programs answers packets of
// "tcp" or "udp" sent to external at a port. It asks the kernel about this one
// socket where that is possible, and else reads the whole list.
func (p *Ports) Taken(protocol string, external netip.Addr, port uint16) bool {
	if p.diag[protocol] && external.Is4() {
		at := netip.AddrPortFrom(external, port)
		if found, err := askDiag(diagMessage(diagProtocols[protocol], 0, at)); err == nil {
			return found
		}
	}
	return slices.Contains(Listening(protocol, external), port)
}

// diagMessage asks for the socket that would get a packet sent to at. UDP has
// source and destination the other way round, "for historical reasons" as
// net/ipv4/udp_diag.c says.
func diagMessage(protocol byte, flags uint16, at netip.AddrPort) []byte {
	b := make([]byte, diagMessageLen)
	binary.NativeEndian.PutUint32(b, diagMessageLen)
	binary.NativeEndian.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|flags)
	r := b[unix.SizeofNlMsghdr:]
	r[0], r[1] = unix.AF_INET, protocol
	port, address := r[8:], r[12:]
	if protocol == unix.IPPROTO_UDP {
		port, address = r[10:], r[28:]
	}
	if at.IsValid() {
		four := at.Addr().As4()
		binary.BigEndian.PutUint16(port, at.Port())
		copy(address, four[:])
	}
	for i := range 8 { // INET_DIAG_NOCOOKIE: any socket will do
		r[diagRequestLen-8+i] = 0xff
	}
	return b
}

// askDiag sends a question about sockets and reports whether one was found.
func askDiag(message []byte) (bool, error) {
	reply, err := ask(unix.NETLINK_SOCK_DIAG, message)
	if err != nil {
		return false, err
	}
	return readDiag(reply, binary.NativeEndian.Uint16(message[6:])&unix.NLM_F_DUMP != 0)
}

// ask sends one message to a part of the kernel and returns what comes back
// first.
func ask(family int, message []byte) ([]byte, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, family)
	if err != nil {
		return nil, fmt.Errorf("netif: open netlink family %d: %w", family, err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("netif: ask netlink family %d: %w", family, err)
	}
	// The kernel has answered before sending returns.
	reply := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, reply, unix.MSG_DONTWAIT)
	if err != nil {
		return nil, fmt.Errorf("netif: hear netlink family %d: %w", family, err)
	}
	return reply[:n], nil
}

// readDiag reads the first message of the kernel's answer: a socket, the end
// of a list, or an error.
func readDiag(b []byte, list bool) (found bool, err error) {
	if len(b) < unix.SizeofNlMsghdr+4 {
		return false, fmt.Errorf("netif: sock_diag answers %d octets", len(b))
	}
	status := syscall.Errno(-int32(binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr:])))
	switch kind := binary.NativeEndian.Uint16(b[4:]); {
	case kind == unix.SOCK_DIAG_BY_FAMILY:
		return true, nil
	case kind == unix.NLMSG_ERROR && status == unix.ENOENT && !list, kind == unix.NLMSG_DONE && status == 0:
		return false, nil
	case kind == unix.NLMSG_ERROR, kind == unix.NLMSG_DONE:
		return false, fmt.Errorf("netif: sock_diag: %w", status)
	default:
		return false, fmt.Errorf("netif: sock_diag answers with message %d", kind)
	}
}
