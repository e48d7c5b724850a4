// Package hosts identifies the hosts on the LANs and notices which have left: by
// the kernel's neighbour table and dnsmasq's leases.
package hosts

import (
	"fmt"
	"net"
	"net/netip"
	"time"
)

// Host is what is known of one address.
type Host struct {
	Addr     netip.Addr
	Hardware net.HardwareAddr // empty: not known
	Name     string           // from dnsmasq's lease; empty: not known
	Index    int              // of the interface that it is a neighbour on; 0: none
	// Answers is set unless the kernel has never probed the host or got no answer.
	Answers bool
	// Leased is set while the host holds a DHCP lease.
	Leased bool

	state uint16 // of the neighbour, NUD_*
}

// Present reports whether the host answers or holds a lease.
func (h Host) Present() bool { return h.Answers || h.Leased }

// Read returns the hosts that the kernel and dnsmasq know now. The leases file
// may be missing; its path may be empty.
func Read(leases string) (map[netip.Addr]Host, error) {
	known := make(map[netip.Addr]Host)
	neighbours, err := readNeighbours()
	if err != nil {
		return nil, fmt.Errorf("hosts: read the neighbour table: %w", err)
	}
	for _, h := range neighbours {
		if !known[h.Addr].Answers {
			known[h.Addr] = h
		}
	}
	if leases == "" {
		return known, nil
	}
	if err := addLeases(known, leases, time.Now()); err != nil {
		return known, fmt.Errorf("hosts: read DHCP leases: %w", err)
	}
	return known, nil
}
