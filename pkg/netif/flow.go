package netif

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// What x/sys lacks of linux/netfilter/nfnetlink_conntrack.h.
const (
	ctSubsystem = 1 // NFNL_SUBSYS_CTNETLINK
	ctNew       = 0 // IPCTNL_MSG_CT_NEW
	ctGet       = 1 // IPCTNL_MSG_CT_GET

	ctTupleOrig  = 1 // CTA_TUPLE_ORIG
	ctTupleReply = 2 // CTA_TUPLE_REPLY
	ctTupleIP    = 1 // CTA_TUPLE_IP
	ctTupleProto = 2 // CTA_TUPLE_PROTO
	ctSource     = 1 // CTA_IP_V4_SRC
	ctTarget     = 2 // CTA_IP_V4_DST
	ctProtocol   = 1 // CTA_PROTO_NUM
	ctSourcePort = 2 // CTA_PROTO_SRC_PORT
	ctTargetPort = 3 // CTA_PROTO_DST_PORT
)

const nfgenmsgLen = 4

// FlowPort returns the external port that a flow of "tcp" or "udp" over IPv4
// has now, if the kernel knows it.
func FlowPort(protocol string, from, to netip.AddrPort) (uint16, bool) {
	reply, err := ask(unix.NETLINK_NETFILTER, flowMessage(diagProtocols[protocol], from, to))
	if err != nil || len(reply) < unix.SizeofNlMsghdr+nfgenmsgLen ||
		binary.NativeEndian.Uint16(reply[4:]) != ctSubsystem<<8|ctNew {
		return 0, false
	}
	return replyPort(reply[unix.SizeofNlMsghdr+nfgenmsgLen:])
}

// flowMessage asks for one flow by its original tuple.
func flowMessage(protocol byte, from, to netip.AddrPort) []byte {
	source, target := from.Addr().As4(), to.Addr().As4()
	tuple := appendAttr(nil, ctTupleIP|unix.NLA_F_NESTED, appendAttr(appendAttr(nil, ctSource, source[:]), ctTarget, target[:]))
	ports := appendAttr(nil, ctProtocol, []byte{protocol})
	ports = appendAttr(ports, ctSourcePort, binary.BigEndian.AppendUint16(nil, from.Port()))
	ports = appendAttr(ports, ctTargetPort, binary.BigEndian.AppendUint16(nil, to.Port()))
	tuple = appendAttr(tuple, ctTupleProto|unix.NLA_F_NESTED, ports)

	b := make([]byte, unix.SizeofNlMsghdr+nfgenmsgLen)
	binary.NativeEndian.PutUint16(b[4:], ctSubsystem<<8|ctGet)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST)
	b[unix.SizeofNlMsghdr] = unix.AF_INET
	b = appendAttr(b, ctTupleOrig|unix.NLA_F_NESTED, tuple)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	return b
}

// replyPort returns where the flow's replies go to: the port that the outside
// sees.
func replyPort(attrs []byte) (uint16, bool) {
	for _, kind := range []uint16{ctTupleReply, ctTupleProto} {
		attrs = findAttr(attrs, kind)
	}
	port := findAttr(attrs, ctTargetPort)
	if len(port) < 2 {
		return 0, false
	}
	return binary.BigEndian.Uint16(port), true
}

// appendAttr appends a netlink attribute.
func appendAttr(b []byte, kind uint16, data []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofNlAttr+len(data)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, data...)
	return append(b, make([]byte, -len(data)&3)...)
}

// findAttr returns the data of the first attribute of a kind.
func findAttr(b []byte, kind uint16) []byte {
	for len(b) >= unix.SizeofNlAttr {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofNlAttr || n > len(b) {
			return nil
		}
		if binary.NativeEndian.Uint16(b[2:])&^unix.NLA_F_NESTED == kind {
			return b[unix.SizeofNlAttr:n]
		}
		b = b[min(len(b), (n+3)&^3):]
	}
	return nil
}
