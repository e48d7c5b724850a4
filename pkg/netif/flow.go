package netif

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlink"
)

// Constants of linux/netfilter/nfnetlink_conntrack.h that x/sys lacks.
const (
	ctSubsystem = 1 // NFNL_SUBSYS_CTNETLINK
	ctNew       = 0 // IPCTNL_MSG_CT_NEW
	ctGet       = 1 // IPCTNL_MSG_CT_GET

	ctTupleOrig       = 1 // CTA_TUPLE_ORIG
	ctTupleReply      = 2 // CTA_TUPLE_REPLY
	ctTupleIP         = 1 // CTA_TUPLE_IP
	ctTupleProto      = 2 // CTA_TUPLE_PROTO
	ctSource          = 1 // CTA_IP_V4_SRC
	ctDestination     = 2 // CTA_IP_V4_DST
	ctProtocol        = 1 // CTA_PROTO_NUM
	ctSourcePort      = 2 // CTA_PROTO_SRC_PORT
	ctDestinationPort = 3 // CTA_PROTO_DST_PORT
)

// nfgenmsgLen is the size of struct nfgenmsg.
const nfgenmsgLen = 4

// FlowPort returns the external port that a flow of "tcp" or "udp" over IPv4
// has now, if the kernel knows it.
func FlowPort(protocol string, from, to netip.AddrPort) (uint16, bool) {
	reply, err := netlink.Execute(unix.NETLINK_NETFILTER, flowRequest(protocolNumbers[protocol], from, to))
	if err != nil || len(reply) == 0 || reply[0].Type != ctSubsystem<<8|ctNew || len(reply[0].Data) < nfgenmsgLen {
		return 0, false
	}
	return replyPort(reply[0].Data[nfgenmsgLen:])
}

// flowRequest returns the request for one flow, by its original tuple.
func flowRequest(protocol byte, from, to netip.AddrPort) netlink.Message {
	source, destination := from.Addr().As4(), to.Addr().As4()
	addrs := netlink.AppendAttribute(nil, ctSource, source[:])
	addrs = netlink.AppendAttribute(addrs, ctDestination, destination[:])
	ports := netlink.AppendAttribute(nil, ctProtocol, []byte{protocol})
	ports = netlink.AppendAttribute(ports, ctSourcePort, binary.BigEndian.AppendUint16(nil, from.Port()))
	ports = netlink.AppendAttribute(ports, ctDestinationPort, binary.BigEndian.AppendUint16(nil, to.Port()))
	tuple := netlink.AppendAttribute(nil, ctTupleIP|unix.NLA_F_NESTED, addrs)
	tuple = netlink.AppendAttribute(tuple, ctTupleProto|unix.NLA_F_NESTED, ports)

	header := []byte{unix.AF_INET, unix.NFNETLINK_V0, 0, 0} // struct nfgenmsg
	return netlink.Message{
		Type: ctSubsystem<<8 | ctGet,
		Data: netlink.AppendAttribute(header, ctTupleOrig|unix.NLA_F_NESTED, tuple),
	}
}

// replyPort returns the port that the flow's replies are sent to, which is the one
// that remote hosts see.
func replyPort(attrs []byte) (uint16, bool) {
	for _, kind := range []uint16{ctTupleReply, ctTupleProto} {
		attrs = netlink.Attribute(attrs, kind)
	}
	port := netlink.Attribute(attrs, ctDestinationPort)
	if len(port) < 2 {
		return 0, false
	}
	return binary.BigEndian.Uint16(port), true
}
