package packetlab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"igdd/pkg/netlink"

	"golang.org/x/sys/unix"
)

// Set is an ipset: of addresses, ports or both.
type Set struct {
	Name, Kind string
	Members    []string // "203.0.113.0/24", "80", "8000-8010", "192.0.2.1,tcp:80"
}

// Commands and attributes of ipset in netlink (linux/netfilter/ipset/ip_set.h).
const (
	ipsetCreate, ipsetDestroy, ipsetAdd = 2, 3, 9

	setVersion, setName, setType, setRevision, setFamily, setData       = 1, 2, 3, 4, 5, 7
	memberIP, memberPrefixLen, firstPort, lastPort, memberProtocol      = 1, 3, 4, 5, 7
	memberIPv4, memberIPv6                                              = 1, 2
	protocolVersion                                                byte = 6
)

// DestroySets destroys all sets of the thread's network namespace.
func DestroySets() error { return ipsetCommand(ipsetDestroy, nil) }

// Create makes the set in the thread's network namespace.
func (s Set) Create(family byte) error {
	text := func(word string) []byte { return append([]byte(word), 0) }
	b := netlink.AppendAttribute(nil, setName, text(s.Name))
	b = netlink.AppendAttribute(b, setType, text(s.Kind))
	b = netlink.AppendAttribute(b, setRevision, []byte{0})
	data := []byte(nil)
	if s.Kind == "bitmap:port" {
		family, data = unix.AF_UNSPEC, ports(0, 65535)
	}
	b = netlink.AppendAttribute(b, setFamily, []byte{family})
	b = netlink.AppendAttribute(b, setData|unix.NLA_F_NESTED, data)
	if err := ipsetCommand(ipsetCreate, b); err != nil {
		return fmt.Errorf("set %s: %w", s.Name, err)
	}
	for _, m := range s.Members {
		data, err := member(m)
		if err != nil {
			return fmt.Errorf("set %s: %w", s.Name, err)
		}
		b := netlink.AppendAttribute(nil, setName, text(s.Name))
		b = netlink.AppendAttribute(b, setData|unix.NLA_F_NESTED, data)
		if err := ipsetCommand(ipsetAdd, b); err != nil {
			return fmt.Errorf("set %s: member %s: %w", s.Name, m, err)
		}
	}
	return nil
}

// ipsetCommand sends a command.
func ipsetCommand(command uint16, attributes []byte) error {
	data := netlink.AppendAttribute([]byte{unix.AF_INET, 0, 0, 0}, setVersion, []byte{protocolVersion})
	_, err := netlink.Execute(unix.NETLINK_NETFILTER, netlink.Message{
		Type: 6<<8 | command, Flags: unix.NLM_F_ACK | unix.NLM_F_CREATE | unix.NLM_F_EXCL, Data: append(data, attributes...), // NFNL_SUBSYS_IPSET
	})
	return err
}

// member encodes a member.
func member(text string) ([]byte, error) {
	first, last, isRange := strings.Cut(text, "-")
	if port, err := strconv.ParseUint(first, 10, 16); err == nil {
		if !isRange {
			return ports(uint16(port), uint16(port)), nil
		}
		end, err := strconv.ParseUint(last, 10, 16)
		return ports(uint16(port), uint16(end)), err
	}
	network, service, hasService := strings.Cut(text, ",")
	data, err := networkMember(network)
	if err != nil || !hasService {
		return data, err
	}
	protocol, port, _ := strings.Cut(service, ":")
	number, err := strconv.ParseUint(port, 10, 16)
	data = append(data, ports(uint16(number), uint16(number))...)
	return netlink.AppendAttribute(data, memberProtocol, []byte{map[string]byte{"tcp": 6, "udp": 17}[protocol]}), err
}

// networkMember encodes "192.0.2.1" and "192.0.2.0/24".
func networkMember(text string) ([]byte, error) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, errors.New("no address, network or port")
		}
		prefix = netip.PrefixFrom(a, a.BitLen())
	}
	kind := uint16(memberIPv4)
	if prefix.Addr().Is6() {
		kind = memberIPv6
	}
	ip := netlink.AppendAttribute(nil, kind|unix.NLA_F_NET_BYTEORDER, prefix.Addr().AsSlice())
	data := netlink.AppendAttribute(nil, memberIP|unix.NLA_F_NESTED, ip)
	if prefix.IsSingleIP() {
		return data, nil
	}
	return netlink.AppendAttribute(data, memberPrefixLen, []byte{byte(prefix.Bits())}), nil
}

// ports encodes a range of ports.
func ports(first, last uint16) []byte {
	b := netlink.AppendAttribute(nil, firstPort|unix.NLA_F_NET_BYTEORDER, binary.BigEndian.AppendUint16(nil, first))
	return netlink.AppendAttribute(b, lastPort|unix.NLA_F_NET_BYTEORDER, binary.BigEndian.AppendUint16(nil, last))
}
