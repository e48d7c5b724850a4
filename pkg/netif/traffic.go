package netif

import (
	"encoding/binary"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Traffic is what the kernel counted on a link since the link was made.
type Traffic struct {
	BytesSent, BytesReceived     uint64
	PacketsSent, PacketsReceived uint64
}

// ReadTraffic returns the counters of the link of that name.
func ReadTraffic(name string) (Traffic, error) {
	var found *Traffic
	err := dump(unix.RTM_GETLINK, func(m syscall.NetlinkMessage) {
		if l, ok := parseLink(m); ok && l.Name == name {
			found = parseTraffic(m)
		}
	})
	switch {
	case err != nil:
		return Traffic{}, fmt.Errorf("netif: read counters: %w", err)
	case found == nil:
		return Traffic{}, fmt.Errorf("netif: no counters of %s", name)
	}
	return *found, nil
}

// parseTraffic reads struct rtnl_link_stats64 of an RTM_NEWLINK message:
// packets received and sent, then octets received and sent, 64 bits each.
func parseTraffic(m syscall.NetlinkMessage) *Traffic {
	for kind, value := range attributes(m.Data[unix.SizeofIfInfomsg:]) {
		if kind == unix.IFLA_STATS64 && len(value) >= 32 {
			number := binary.NativeEndian.Uint64
			return &Traffic{
				PacketsReceived: number(value[0:]), PacketsSent: number(value[8:]),
				BytesReceived: number(value[16:]), BytesSent: number(value[24:]),
			}
		}
	}
	return nil
}
