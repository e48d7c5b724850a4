package netif

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlink"
)

// Constants of linux/xfrm.h that x/sys lacks.
const (
	xfrmNewPolicyInfo = 0x24 // XFRM_MSG_NEWSPDINFO
	xfrmGetPolicyInfo = 0x25 // XFRM_MSG_GETSPDINFO
	xfrmPolicyInfo    = 1    // XFRMA_SPD_INFO
	xfrmFlagsLen      = 4    // before the attributes
)

// NoIPsec reports whether it is known that the kernel has no policy of IPsec for packets
// that leave.
func NoIPsec() bool {
	reply, err := netlink.Execute(unix.NETLINK_XFRM, netlink.Message{Type: xfrmGetPolicyInfo, Data: make([]byte, xfrmFlagsLen)})
	if err != nil || len(reply) == 0 {
		return false
	}
	policies, known := parsePolicyInfo(reply[0])
	return known && policies == 0
}

// parsePolicyInfo decodes an XFRM_MSG_NEWSPDINFO message. It returns how many policies
// there are for packets that leave: outcnt of struct xfrmu_spdinfo.
func parsePolicyInfo(m netlink.Message) (policies uint32, ok bool) {
	if m.Type != xfrmNewPolicyInfo || len(m.Data) < xfrmFlagsLen {
		return 0, false
	}
	info := netlink.Attribute(m.Data[xfrmFlagsLen:], xfrmPolicyInfo)
	if len(info) < 8 {
		return 0, false
	}
	return binary.NativeEndian.Uint32(info[4:]), true
}
