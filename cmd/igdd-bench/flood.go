package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/pcp"
)

// The addresses of the attacker, as bench-lab.sh makes it, and of others for IPv6.
var (
	attackerAddr  = netip.MustParseAddr("192.168.51.1")
	routerULA     = netip.MustParseAddr("fd00:50::1")
	honestULA     = netip.MustParseAddr("fd00:50::64")
	attackerULA   = netip.MustParseAddr("fd00:50::1:1")
	searchGroup   = netip.MustParseAddr("239.255.255.250")
	searchGroupLL = netip.MustParseAddr("ff02::c")
)

// What bench-lab.sh gives the attacker of each family, and how many hosts that nobody
// is are invented.
const (
	attackerAddresses = 100
	inventedAddresses = 8192
)

const (
	floodRate  = 2000 // requests per second
	floodTick  = 5 * time.Millisecond
	floodBurst = 40 // requests at most per tick, where the machine is late
)

// sources are the sources of a flood: of its i-th request.
type sources struct {
	what string
	at   func(i int) netip.Addr
}

var (
	oneHost  = sources{"one host", func(int) netip.Addr { return attackerAddr }}
	hundred  = sources{"one host with 100 addresses", func(i int) netip.Addr { return nth(attackerAddr, i%attackerAddresses) }}
	invented = sources{"8,192 invented hosts", func(i int) netip.Addr {
		i %= inventedAddresses
		return netip.AddrFrom4([4]byte{192, 168, 64 + byte(i>>8), byte(i)})
	}}
	forged       = sources{"the honest client's own address", func(int) netip.Addr { return firstClient }}
	hundredULA   = sources{"one host with 100 IPv6 addresses", func(i int) netip.Addr { return withSuffix(attackerULA, 0x10001+i%attackerAddresses) }}
	inventedULA  = sources{"8,192 invented IPv6 hosts", func(i int) netip.Addr { return withSuffix(attackerULA, 0x20000+i%inventedAddresses) }}
	inventedLink = sources{"8,192 invented link-local hosts", func(i int) netip.Addr {
		return withSuffix(netip.MustParseAddr("fe80::"), 0x20000+i%inventedAddresses)
	}}
)

// withSuffix returns a with its last four octets replaced.
func withSuffix(a netip.Addr, suffix int) netip.Addr {
	raw := a.As16()
	binary.BigEndian.PutUint32(raw[12:], uint32(suffix))
	return netip.AddrFrom16(raw)
}

// flood sends requests of one kind, as many per second as floodRate says.
type flood struct {
	kind    kind
	from    sources
	to      netip.AddrPort
	begin   time.Time
	stopped atomic.Bool
	sent    int
	done    chan error
}

// startFlood starts a flood from the attacker.
func (l *lab) startFlood(k kind, from sources) (*flood, error) {
	to, err := l.destination(k, from.at(0))
	if err != nil {
		return nil, err
	}
	f := &flood{kind: k, from: from, to: to, begin: time.Now(), done: make(chan error, 1)}
	go func() { f.done <- l.attacker.Do(f.send) }()
	return f, nil
}

// stop ends the flood and returns how many requests it sent per second.
func (f *flood) stop() (float64, error) {
	f.stopped.Store(true)
	err := <-f.done
	return float64(f.sent) / time.Since(f.begin).Seconds(), err
}

// send is the flood itself. What the device has no room for is not counted.
func (f *flood) send() error {
	device, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	fd, err := transparentSocket(f.to.Addr().Is6())
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for n := 0; !f.stopped.Load(); time.Sleep(floodTick) {
		due := int(time.Since(f.begin).Seconds() * floodRate)
		for end := min(due, n+floodBurst); n < end; n++ {
			from := f.from.at(n)
			err := unix.Sendmsg(fd, f.kind.request(n, from), sourceMessage(from, device.Index), socketAddress(f.to, device.Index), unix.MSG_DONTWAIT)
			switch {
			case err == nil:
				f.sent++
			case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.ENOBUFS):
				return fmt.Errorf("send from %v to %v: %w", from, f.to, err)
			}
		}
	}
	return nil
}

// transparentSocket opens a UDP socket that may send from any address.
func transparentSocket(is6 bool) (int, error) {
	family, level, option := unix.AF_INET, unix.IPPROTO_IP, unix.IP_TRANSPARENT
	if is6 {
		family, level, option = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_TRANSPARENT
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	return fd, unix.SetsockoptInt(fd, level, option, 1)
}

// sourceMessage is the control message that sets the source of a datagram and the
// device that it leaves by.
func sourceMessage(from netip.Addr, device int) []byte {
	if from.Is4() {
		return unix.PktInfo4(&unix.Inet4Pktinfo{Ifindex: int32(device), Spec_dst: from.As4()})
	}
	return unix.PktInfo6(&unix.Inet6Pktinfo{Ifindex: uint32(device), Addr: from.As16()})
}

// socketAddress returns an address as the kernel takes it.
func socketAddress(to netip.AddrPort, device int) unix.Sockaddr {
	if to.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
	}
	return &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port()), ZoneId: uint32(device)}
}

// addIPv6 gives the router and the LAN host, unless they have them, the addresses that
// IPv6 floods need.
func (l *lab) addIPv6() error {
	for _, add := range []*exec.Cmd{
		l.onRouter("ip", "address", "replace", routerULA.String()+"/64", "dev", "eth1"),
		exec.Command("ip", "address", "replace", honestULA.String()+"/64", "dev", "eth0"),
	} {
		if out, err := add.CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w: %s", add, err, out)
		}
	}
	return nil
}

// destination returns where a request of one kind goes to from an address.
func (l *lab) destination(k kind, from netip.Addr) (netip.AddrPort, error) {
	to := routerLAN
	switch {
	case k.port != pcp.ServerPort && from.Is4():
		to = searchGroup
	case k.port != pcp.ServerPort:
		to = searchGroupLL
	case from.IsLinkLocalUnicast() && from.Is6():
		var err error
		if to, err = l.linkLocal(l.router.Do, "eth1"); err != nil {
			return netip.AddrPort{}, err
		}
	case from.Is6():
		to = routerULA
	}
	return netip.AddrPortFrom(to, k.port), nil
}

// linkLocal returns the link-local address of a device in a namespace.
func (l *lab) linkLocal(in func(func() error) error, name string) (found netip.Addr, err error) {
	err = in(func() error {
		device, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		addrs, err := device.Addrs()
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
				found = p.Addr()
			}
		}
		return err
	})
	if err == nil && !found.IsValid() {
		err = fmt.Errorf("no link-local address on %s", name)
	}
	return found, err
}
