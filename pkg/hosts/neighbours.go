package hosts

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlink"
)

// answeringStates are the states of a neighbour that the kernel would send to.
const answeringStates = unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE | unix.NUD_PERMANENT | unix.NUD_NOARP

// confirmedStates are the states of a neighbour that answered within the last half
// minute or so, or that the administrator has entered.
const confirmedStates = unix.NUD_REACHABLE | unix.NUD_PERMANENT

// verifiableStates are the states of a neighbour that the kernel has probed and is
// not probing again.
const verifiableStates = unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY

// readNeighbours returns the kernel's neighbours of both families. An address may
// occur once for each interface.
func readNeighbours() ([]Host, error) {
	messages, err := netlink.Dump(unix.RTM_GETNEIGH)
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

// parseNeighbour decodes an RTM_NEWNEIGH message: struct ndmsg, of which octets 4
// to 7 are the interface and 8 and 9 the state, and attributes.
func parseNeighbour(m netlink.Message) (Host, bool) {
	if m.Type != unix.RTM_NEWNEIGH || len(m.Data) < unix.SizeofNdMsg {
		return Host{}, false
	}
	var h Host
	for kind, value := range netlink.Attributes(m.Data[unix.SizeofNdMsg:]) {
		switch kind {
		case unix.NDA_DST:
			h.Addr, _ = netip.AddrFromSlice(value)
		case unix.NDA_LLADDR:
			h.Hardware = slices.Clone(net.HardwareAddr(value))
		}
	}
	h.Index = int(int32(binary.NativeEndian.Uint32(m.Data[4:])))
	h.state = binary.NativeEndian.Uint16(m.Data[8:])
	h.Answers = h.state&answeringStates != 0
	return h, h.Addr.IsValid()
}

// Probe makes the kernel find out whether a host on the interface with that index
// answers; Read returns the result some seconds later. It needs CAP_NET_ADMIN. A
// host that the administrator has entered is not probed: since Linux 5.16 the entry
// would become an ordinary one.
func Probe(host netip.Addr, index int) error {
	if isPermanent(host, index) {
		return nil
	}
	if err := execute(useMessage(host, index)); err != nil {
		return fmt.Errorf("hosts: probe %v: %w", host, err)
	}
	return nil
}

// isPermanent reports whether the administrator has entered a neighbour.
func isPermanent(host netip.Addr, index int) bool {
	var socket netlink.Socket
	defer socket.Close()
	h, err := getNeighbour(&socket, index, host)
	return err == nil && h.state&unix.NUD_PERMANENT != 0
}

// execute sends the kernel a request about a neighbour.
func execute(m netlink.Message) error {
	_, err := netlink.Execute(unix.NETLINK_ROUTE, m)
	return err
}

// useMessage returns the request to treat a neighbour as if a packet were to be
// sent to it (NTF_USE).
func useMessage(host netip.Addr, index int) netlink.Message {
	return message(unix.RTM_NEWNEIGH, host, index, unix.NLM_F_ACK|unix.NLM_F_CREATE, unix.NUD_NONE, unix.NTF_USE)
}

// removeMessage returns the request to remove a neighbour.
func removeMessage(host netip.Addr, index int) netlink.Message {
	return message(unix.RTM_DELNEIGH, host, index, unix.NLM_F_ACK, unix.NUD_NONE, 0)
}

// probeMessage returns the request to verify at once that a neighbour still has its
// hardware address. The kernel refuses it where it knows none.
func probeMessage(host netip.Addr, index int) netlink.Message {
	return message(unix.RTM_NEWNEIGH, host, index, unix.NLM_F_ACK|unix.NLM_F_REPLACE, unix.NUD_PROBE, 0)
}

// message returns a request about a neighbour: a struct ndmsg and the address.
func message(kind uint16, host netip.Addr, index int, flags, state uint16, neighbourFlags byte) netlink.Message {
	family := byte(unix.AF_INET6)
	if host.Is4() {
		family = unix.AF_INET
	}
	b := []byte{family, 0, 0, 0}
	b = binary.NativeEndian.AppendUint32(b, uint32(index))
	b = binary.NativeEndian.AppendUint16(b, state)
	b = append(b, neighbourFlags, 0)
	return netlink.Message{Type: kind, Flags: flags, Data: netlink.AppendAttribute(b, unix.NDA_DST, host.AsSlice())}
}
