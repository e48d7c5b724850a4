// Package netif reads the state of links, addresses, sockets and flows from the
// kernel, and follows the changes of links and addresses.
package netif

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sort"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlink"
)

// Link is the state of one network interface at one moment.
type Link struct {
	Name     string
	Index    int
	Up       bool // enabled, and with carrier
	Hardware net.HardwareAddr
	// Addrs are the interface's own addresses with the lengths of their networks,
	// IPv4 first, otherwise in the kernel's order. IPv6 addresses that are still
	// being checked for duplicates are omitted.
	Addrs []netip.Prefix
	// Peer is the IPv4 address of the other end of a point-to-point link; the zero
	// Addr: none is known.
	Peer netip.Addr
}

// Equal reports whether both states are the same.
func (l Link) Equal(o Link) bool {
	return l.Name == o.Name && l.Index == o.Index && l.Up == o.Up &&
		bytes.Equal(l.Hardware, o.Hardware) && slices.Equal(l.Addrs, o.Addrs) && l.Peer == o.Peer
}

// IPv4 returns the link's first IPv4 address.
func (l Link) IPv4() (netip.Prefix, bool) {
	for _, a := range l.Addrs {
		if a.Addr().Is4() {
			return a, true
		}
	}
	return netip.Prefix{}, false
}

// Links reads the state of all interfaces, by name.
func Links() (map[string]Link, error) {
	byIndex, err := readLinks()
	if err != nil {
		return nil, fmt.Errorf("netif: list interfaces: %w", err)
	}
	if err := readAddrs(byIndex); err != nil {
		return nil, fmt.Errorf("netif: list addresses: %w", err)
	}
	links := make(map[string]Link, len(byIndex))
	for _, l := range byIndex {
		sort.SliceStable(l.Addrs, func(i, j int) bool { return l.Addrs[i].Addr().BitLen() < l.Addrs[j].Addr().BitLen() })
		links[l.Name] = *l
	}
	return links, nil
}

func readLinks() (map[int]*Link, error) {
	links := make(map[int]*Link)
	messages, err := netlink.Dump(unix.RTM_GETLINK)
	for _, m := range messages {
		if l, ok := parseLink(m); ok {
			links[l.Index] = l
		}
	}
	return links, err
}

// parseLink decodes an RTM_NEWLINK message: struct ifinfomsg and attributes.
func parseLink(m netlink.Message) (*Link, bool) {
	if m.Type != unix.RTM_NEWLINK || len(m.Data) < unix.SizeofIfInfomsg {
		return nil, false
	}
	flags := binary.NativeEndian.Uint32(m.Data[8:12])
	l := &Link{
		Index: int(int32(binary.NativeEndian.Uint32(m.Data[4:8]))),
		Up:    flags&unix.IFF_UP != 0 && flags&unix.IFF_LOWER_UP != 0,
	}
	for kind, value := range netlink.Attributes(m.Data[unix.SizeofIfInfomsg:]) {
		switch kind {
		case unix.IFLA_IFNAME:
			l.Name = string(bytes.TrimRight(value, "\x00"))
		case unix.IFLA_ADDRESS:
			l.Hardware = slices.Clone(net.HardwareAddr(value))
		}
	}
	return l, l.Name != ""
}

func readAddrs(links map[int]*Link) error {
	messages, err := netlink.Dump(unix.RTM_GETADDR)
	for _, m := range messages {
		index, addr, peer, ok := parseAddr(m)
		if l := links[index]; ok && l != nil {
			l.Addrs = append(l.Addrs, addr)
			if peer.Is4() && !l.Peer.IsValid() {
				l.Peer = peer
			}
		}
	}
	return err
}

// parseAddr decodes an RTM_NEWADDR message: struct ifaddrmsg and attributes. The own
// address is IFA_LOCAL where the link has a peer, whose address is then IFA_ADDRESS, and
// IFA_ADDRESS elsewhere.
func parseAddr(m netlink.Message) (index int, addr netip.Prefix, peer netip.Addr, ok bool) {
	if m.Type != unix.RTM_NEWADDR || len(m.Data) < unix.SizeofIfAddrmsg {
		return 0, addr, peer, false
	}
	attrs := m.Data[unix.SizeofIfAddrmsg:]
	flags := uint32(m.Data[2])
	if value := netlink.Attribute(attrs, unix.IFA_FLAGS); len(value) == 4 {
		flags = binary.NativeEndian.Uint32(value)
	}
	own, isLocal := netip.AddrFromSlice(netlink.Attribute(attrs, unix.IFA_LOCAL))
	other, _ := netip.AddrFromSlice(netlink.Attribute(attrs, unix.IFA_ADDRESS))
	switch {
	case !isLocal:
		own = other
	case other != own:
		peer = other
	}
	if !own.IsValid() || flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 && flags&unix.IFA_F_OPTIMISTIC == 0 {
		return 0, addr, peer, false
	}
	addr = netip.PrefixFrom(own, int(m.Data[1]))
	return int(binary.NativeEndian.Uint32(m.Data[4:8])), addr, peer, addr.IsValid()
}
