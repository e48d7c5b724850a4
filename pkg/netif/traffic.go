package netif

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlink"
)

// Traffic holds the counters of a link since it was created.
type Traffic struct {
	BytesSent, BytesReceived     uint64
	PacketsSent, PacketsReceived uint64
}

// ReadTraffic returns the counters of the link of that name.
func ReadTraffic(name string) (Traffic, error) {
	messages, err := netlink.Dump(unix.RTM_GETLINK)
	if err != nil {
		return Traffic{}, fmt.Errorf("netif: read counters: %w", err)
	}
	for _, m := range messages {
		if l, ok := parseLink(m); ok && l.Name == name {
			if t, ok := parseTraffic(m); ok {
				return t, nil
			}
		}
	}
	return Traffic{}, fmt.Errorf("netif: no counters of %s", name)
}

// parseTraffic decodes struct rtnl_link_stats64 of an RTM_NEWLINK message: packets
// received and sent, then bytes received and sent, 64 bits each.
func parseTraffic(m netlink.Message) (Traffic, bool) {
	stats := netlink.Attribute(m.Data[unix.SizeofIfInfomsg:], unix.IFLA_STATS64)
	if len(stats) < 32 {
		return Traffic{}, false
	}
	number := binary.NativeEndian.Uint64
	return Traffic{
		PacketsReceived: number(stats[0:]), PacketsSent: number(stats[8:]),
		BytesReceived: number(stats[16:]), BytesSent: number(stats[24:]),
	}, true
}
