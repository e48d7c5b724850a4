package hosts

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// ShortName returns a host's name as names are compared: without domain, in lower
// case.
func ShortName(name string) string {
	short, _, _ := strings.Cut(name, ".")
	return strings.ToLower(short)
}

// Named returns the addresses, of both families, that dnsmasq has leased to hosts
// with a name, as ShortName returns it.
func (f *Finder) Named(name string) []netip.Addr {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current().named(name)
}

func (s *snapshot) named(name string) (addrs []netip.Addr) {
	for _, l := range s.leases {
		if name != "" && l.isValid(s.readAt) && ShortName(l.name) == name {
			addrs = append(addrs, l.addr)
		}
	}
	return addrs
}

// LeasedTo returns the addresses that dnsmasq has leased to a hardware address.
func (f *Finder) LeasedTo(hardware net.HardwareAddr) []netip.Addr {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current().leasedTo(hardware)
}

func (s *snapshot) leasedTo(hardware net.HardwareAddr) (addrs []netip.Addr) {
	for _, l := range s.leases {
		if l.isValid(s.readAt) && len(hardware) > 0 && bytes.Equal(l.hardware, hardware) {
			addrs = append(addrs, l.addr)
		}
	}
	return addrs
}

// Names returns the names, as ShortName returns them, in the lease of an address, or
// else in those of the hardware address and the IPv4 addresses of its host.
func (f *Finder) Names(a netip.Addr, host Identity) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current().names(a, host)
}

func (s *snapshot) names(a netip.Addr, host Identity) []string {
	if names := s.namesWhere(func(l lease) bool { return l.addr == a }); len(names) > 0 {
		return names
	}
	return s.namesWhere(func(l lease) bool {
		return len(host.Hardware) > 0 && bytes.Equal(l.hardware, host.Hardware) || slices.Contains(host.IPv4, l.addr)
	})
}

// namesWhere returns the names in the leases for which which is true.
func (s *snapshot) namesWhere(which func(lease) bool) (names []string) {
	for _, l := range s.leases {
		if name := ShortName(l.name); name != "" && l.isValid(s.readAt) && which(l) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// HardwareOf returns the hardware addresses of the host that has an address, on any
// interface: those of the neighbour, or else those in its leases. None is returned
// that the host shares with others.
func (f *Finder) HardwareOf(a netip.Addr) []net.HardwareAddr {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current().hardwareAnywhere(a)
}

func (s *snapshot) hardwareAnywhere(a netip.Addr) (list []net.HardwareAddr) {
	isNeighbour := false
	for _, h := range s.neighbours {
		if h.Addr == a && h.answersOn(h.Index) {
			isNeighbour = true
			if !s.isShared(h.Index, a, h.Hardware) {
				list = append(list, h.Hardware)
			}
		}
	}
	for _, l := range s.leases {
		if !isNeighbour && l.addr == a && l.isValid(s.readAt) && len(l.hardware) > 0 {
			list = append(list, l.hardware)
		}
	}
	return list
}
