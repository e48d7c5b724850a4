package netif

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlink"
)

// The modes of the reverse path filter (RFC 3704, section 2) that reject packets: by the
// link of the route back, or by whether there is any.
const (
	filterStrict = 1
	filterLoose  = 2
)

// From linux/netconf.h.
const (
	netconfAllLinks   = -1 // NETCONFA_IFINDEX_ALL
	netconfLinkIndex  = 1  // NETCONFA_IFINDEX
	netconfRPFilter   = 3  // NETCONFA_RP_FILTER
	sizeOfNetconfMsg  = 4  // struct netconfmsg, padded
	netconfValueBytes = 4
)

// reversePathFilter returns the mode of the kernel's filter for IPv4 packets that come in
// by a link: the higher of its own and that for all links. It is asked by netlink, as
// the sandbox has no /proc/sys. 0: the filter is off, or that is not known.
func reversePathFilter(link int) int {
	return max(ownFilter(link), ownFilter(netconfAllLinks))
}

// ownFilter returns the mode that is set for a link; 0: off, or not known.
func ownFilter(link int) int {
	header := make([]byte, sizeOfNetconfMsg)
	header[0] = unix.AF_INET
	data := netlink.AppendAttribute(header, netconfLinkIndex, binary.NativeEndian.AppendUint32(nil, uint32(int32(link))))
	reply, err := netlink.Execute(unix.NETLINK_ROUTE, netlink.Message{Type: unix.RTM_GETNETCONF, Data: data})
	if err != nil || len(reply) == 0 {
		return 0
	}
	return parseFilter(reply[0])
}

// parseFilter decodes the mode in an RTM_NEWNETCONF message; 0: off, or there is none.
func parseFilter(m netlink.Message) int {
	if m.Type != unix.RTM_NEWNETCONF || len(m.Data) < sizeOfNetconfMsg {
		return 0
	}
	mode := netlink.Attribute(m.Data[sizeOfNetconfMsg:], netconfRPFilter)
	if len(mode) != netconfValueBytes {
		return 0
	}
	return int(int32(binary.NativeEndian.Uint32(mode)))
}
