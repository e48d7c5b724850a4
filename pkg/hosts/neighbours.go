package hosts

import (
	"encoding/binary"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// answering are the states of a neighbour that the kernel would send to.
const answering = unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE | unix.NUD_PERMANENT | unix.NUD_NOARP

// confirming are the states of a neighbour that answered within the last half
// minute or so, or that the administrator has entered.
const confirming = unix.NUD_REACHABLE | unix.NUD_PERMANENT

// provable are the states of a neighbour that the kernel has asked, and is not
// asking again.
const provable = unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY

// readNeighbours returns the kernel's neighbours of both families. One address
// may be there once for each interface.
func readNeighbours() ([]Host, error) {
	table, err := syscall.NetlinkRIB(unix.RTM_GETNEIGH, unix.AF_UNSPEC)
	if err != nil {
		return nil, err
	}
	messages, err := syscall.ParseNetlinkMessage(table)
	if err != nil {
		return nil, err
	}
	var list []Host
	for _, m := range messages {
		if h, ok := parseNeighbour(m); ok {
			list = append(list, h)
		}
	}
	return list, nil
}

// parseNeighbour reads an RTM_NEWNEIGH message: struct ndmsg, of which octets 4
// to 7 are the interface and 8 and 9 the state, and attributes.
func parseNeighbour(m syscall.NetlinkMessage) (Host, bool) {
	if m.Header.Type != unix.RTM_NEWNEIGH || len(m.Data) < unix.SizeofNdMsg {
		return Host{}, false
	}
	var h Host
	for kind, value := range attributes(m.Data[unix.SizeofNdMsg:]) {
		switch kind {
		case unix.NDA_DST:
			h.Addr, _ = netip.AddrFromSlice(value)
		case unix.NDA_LLADDR:
			h.Hardware = slices.Clone(net.HardwareAddr(value))
		}
	}
	h.Index = int(int32(binary.NativeEndian.Uint32(m.Data[4:])))
	h.state = binary.NativeEndian.Uint16(m.Data[8:])
	h.Answers = h.state&answering != 0
	return h, h.Addr.IsValid()
}

// attributes walks the attributes behind a message's fixed part: length, type
// and value, each at a multiple of four octets.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofRtAttr {
			length := int(binary.NativeEndian.Uint16(b))
			if length < unix.SizeofRtAttr || length > len(b) ||
				!yield(binary.NativeEndian.Uint16(b[2:]), b[unix.SizeofRtAttr:length]) {
				return
			}
			b = b[min(len(b), (length+3)&^3):]
		}
	}
}

// Probe makes the kernel find out whether a host on the interface with that
// index answers: some seconds later Read tells. It needs CAP_NET_ADMIN. Where
// the administrator has entered the host, nobody is asked: since Linux 5.16 the
// entry would become an ordinary one.
func Probe(host netip.Addr, index int) error {
	if entered(host, index) {
		return nil
	}
	if err := tell(probeMessage(host, index)); err != nil {
		return fmt.Errorf("hosts: ask for %v: %w", host, err)
	}
	return nil
}

// entered reports whether the administrator has entered a neighbour by hand.
func entered(host netip.Addr, index int) bool {
	reply, err := exchange(message(unix.RTM_GETNEIGH, host, index, 0, unix.NUD_NONE, 0))
	if err != nil {
		return false
	}
	messages, err := syscall.ParseNetlinkMessage(reply)
	if err != nil || len(messages) == 0 {
		return false
	}
	h, ok := parseNeighbour(messages[0])
	return ok && h.state&unix.NUD_PERMANENT != 0
}

// tell has the kernel change a neighbour.
func tell(message []byte) error {
	reply, err := exchange(message)
	if err != nil {
		return err
	}
	// struct nlmsgerr: a negative errno, 0 for success.
	if len(reply) >= unix.SizeofNlMsghdr+4 {
		if errno := int32(binary.NativeEndian.Uint32(reply[unix.SizeofNlMsghdr:])); errno != 0 {
			return unix.Errno(-errno)
		}
	}
	return nil
}

// exchange sends the kernel a netlink message and returns its reply.
func exchange(message []byte) ([]byte, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	reply := make([]byte, 512)
	n, _, err := unix.Recvfrom(fd, reply, 0)
	if err != nil {
		return nil, err
	}
	return reply[:n], nil
}

// probeMessage words the request to treat a neighbour as if a packet were to be sent
// to it (NTF_USE).
func probeMessage(host netip.Addr, index int) []byte {
	return message(unix.RTM_NEWNEIGH, host, index, unix.NLM_F_ACK|unix.NLM_F_CREATE, unix.NUD_NONE, unix.NTF_USE)
}

// probe words the request to ask a neighbour at once whether it still has its
// hardware address. The kernel refuses where it knows none.
func probe(host netip.Addr, index int) []byte {
	return message(unix.RTM_NEWNEIGH, host, index, unix.NLM_F_ACK|unix.NLM_F_REPLACE, unix.NUD_PROBE, 0)
}

// message words a request about a neighbour: a struct nlmsghdr, a struct ndmsg
// and the address.
func message(kind uint16, host netip.Addr, index int, how, state uint16, flags byte) []byte {
	family, to := byte(unix.AF_INET6), host.AsSlice()
	if host.Is4() {
		family = unix.AF_INET
	}
	attribute := unix.SizeofRtAttr + len(to)
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+unix.SizeofNdMsg+attribute))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|how)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0) // sequence and port
	b = append(b, family, 0, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, uint32(index))
	b = binary.NativeEndian.AppendUint16(b, state)
	b = append(b, flags, 0)
	b = binary.NativeEndian.AppendUint16(b, uint16(attribute))
	b = binary.NativeEndian.AppendUint16(b, unix.NDA_DST)
	return append(b, to...)
}
