package hosts

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Leased returns the IPv4 addresses that dnsmasq has leased to hosts with a name,
// which is compared without domain and case. The file may be missing; its path may
// be empty.
func Leased(path, name string) ([]netip.Addr, error) {
	if path == "" {
		return nil, nil
	}
	leases, err := readLeases(path, time.Now())
	if err != nil {
		return nil, fmt.Errorf("hosts: read DHCP leases: %w", err)
	}
	var addrs []netip.Addr
	for _, l := range leases {
		if host, _, _ := strings.Cut(l.name, "."); l.addr.Is4() && host != "" && strings.EqualFold(host, name) {
			addrs = append(addrs, l.addr)
		}
	}
	return addrs, nil
}
