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

// protocolNumbers are IP's numbers of the protocols.
var protocolNumbers = map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP}

// Ports finds the ports at which the router's own programs listen.
type Ports struct {
	diag   map[string]bool // protocols whose sockets the kernel looks up one by one (sock_diag(7))
	socket netlink.Socket  // for that
}

// NewPorts finds out which protocols the kernel supports in sock_diag.
func NewPorts() *Ports {
	p := &Ports{diag: make(map[string]bool), socket: netlink.Socket{Protocol: unix.NETLINK_SOCK_DIAG}}
	defer p.Close() // until it is asked
	for name, protocol := range protocolNumbers {
		// A list of sockets in no state: empty, or an error if the kernel
		// was built without inet_diag.
		_, err := p.findSocket(diagRequest(protocol, unix.NLM_F_DUMP, netip.AddrPort{}))
		p.diag[name] = err == nil
	}
	return p
}

// Close releases what it has open.
func (p *Ports) Close() { p.socket.Close() }

// Taken reports whether one of the router's own programs receives packets of "tcp"
// or "udp" sent to external at a port. It looks up this one socket where the kernel
// supports that, and otherwise reads the whole list.
func (p *Ports) Taken(protocol string, external netip.Addr, port uint16) bool {
	if p.diag[protocol] && external.Is4() {
		at := netip.AddrPortFrom(external, port)
		if found, err := p.findSocket(diagRequest(protocolNumbers[protocol], 0, at)); err == nil {
			return found
		}
	}
	return slices.Contains(Listening(protocol, external), port)
}

// diagRequest returns the request for the socket that would receive a packet sent to
// at, or with NLM_F_DUMP for all sockets in no state. UDP has source and destination
// swapped, "for historical reasons" (net/ipv4/udp_diag.c in Linux).
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
	for i := range 8 { // INET_DIAG_NOCOOKIE: any socket matches
		r[diagRequestLen-8+i] = 0xff
	}
	return netlink.Message{Type: unix.SOCK_DIAG_BY_FAMILY, Flags: flags, Data: r}
}

// findSocket sends a request of sock_diag and reports whether a socket was found.
func (p *Ports) findSocket(request netlink.Message) (bool, error) {
	reply, err := p.socket.Execute(request)
	return readDiag(reply, err, request.Flags&unix.NLM_F_DUMP != 0)
}

// readDiag evaluates the reply of sock_diag to a request for one socket or a list.
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
