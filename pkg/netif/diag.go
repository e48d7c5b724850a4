package netif

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlink"
)

// diagRequestLen is the size of struct inet_diag_req_v2.
const diagRequestLen = 56

var protocolNumbers = map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP}

// Ports knows at which ports the router's own programs answer.
type Ports struct {
	diag map[string]bool // protocols about which the kernel answers single questions
}

// NewPorts finds out what can be asked of the kernel.
func NewPorts() *Ports {
	p := &Ports{diag: make(map[string]bool)}
	for name, protocol := range protocolNumbers {
		// A list of sockets in no state: empty, or an error if the kernel
		// was built without inet_diag.
		_, err := findSocket(diagRequest(protocol, unix.NLM_F_DUMP, netip.AddrPort{}))
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
		if found, err := findSocket(diagRequest(protocolNumbers[protocol], 0, at)); err == nil {
			return found
		}
	}
	return slices.Contains(Listening(protocol, external), port)
}

// diagRequest returns the request for the socket that would get a packet sent to
// at, or with NLM_F_DUMP for all sockets in no state. UDP has source and
// destination the other way round, "for historical reasons" as net/ipv4/udp_diag.c
// says.
func diagRequest(protocol byte, flags uint16, at netip.AddrPort) netlink.Message {
	r := make([]byte, diagRequestLen)
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
	return netlink.Message{Type: unix.SOCK_DIAG_BY_FAMILY, Flags: flags, Data: r}
}

// findSocket sends a request of sock_diag and reports whether a socket was found.
func findSocket(request netlink.Message) (bool, error) {
	reply, err := netlink.Execute(unix.NETLINK_SOCK_DIAG, request)
	return readDiag(reply, err, request.Flags&unix.NLM_F_DUMP != 0)
}

// readDiag reads the reply of sock_diag to a request for one socket or for a list.
func readDiag(reply []netlink.Message, err error, list bool) (found bool, _ error) {
	switch {
	case errors.Is(err, unix.ENOENT) && !list, err == nil && len(reply) == 0:
		return false, nil
	case err != nil:
		return false, fmt.Errorf("netif: sock_diag: %w", err)
	case reply[0].Type != unix.SOCK_DIAG_BY_FAMILY:
		return false, fmt.Errorf("netif: sock_diag replies with a message of type %d", reply[0].Type)
	}
	return true, nil
}
