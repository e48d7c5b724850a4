package daemon_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
	"igdd/pkg/pcp"
)

// burstSize is how many requests a host sends while the daemon cannot run.
const burstSize = 1000

// sender is a client's socket, with room for the answers to a burst.
type sender struct {
	*net.UDPConn
	gateway netip.AddrPort
}

// newSender opens a socket on a host.
func newSender(t *testing.T, host *netlab.Namespace, source, gateway netip.Addr) sender {
	t.Helper()
	netlab.NeedRoot(t, "SO_RCVBUFFORCE")
	s := sender{gateway: netip.AddrPortFrom(gateway, 5351)}
	err := host.Do(func() (err error) {
		s.UDPConn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(source, 0)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	raw, err := s.SyscallConn()
	if err == nil {
		raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// unread returns the memory of the datagrams that wait in the daemon's sockets,
// and how many were dropped.
func (r *rig) unread(t *testing.T) (octets, dropped int) {
	t.Helper()
	for line := range strings.Lines(r.Router.Run(t, "cat", "/proc/net/udp", "/proc/net/udp6")) {
		fields := strings.Fields(line)
		if !strings.HasSuffix(fields[1], ":14E7") { // 5351
			continue
		}
		waits, drops := 0, 0
		fmt.Sscanf(fields[4], "%08X:%08X", new(int), &waits)
		fmt.Sscan(fields[len(fields)-1], &drops)
		octets, dropped = octets+waits, dropped+drops
	}
	return octets, dropped
}

// fill sends requests of one length to a daemon that does not read, a few at a
// time: the devices' queues are not what is tested. None may be dropped.
func (s sender) fill(t *testing.T, r *rig, requests [][]byte) {
	t.Helper()
	before, lost := r.unread(t)
	each := 1 // octets that one takes, by the first
	for i, request := range requests {
		if _, err := s.WriteToUDPAddrPort(request, s.gateway); err != nil {
			t.Fatal(err)
		}
		if i%50 > 0 && i < len(requests)-1 {
			continue
		}
		await(t, "datagrams to arrive", func() bool {
			octets, dropped := r.unread(t)
			if dropped > lost {
				t.Fatalf("%d of %d datagrams are dropped", dropped-lost, i+1)
			}
			if i == 0 {
				each = max(1, octets-before)
			}
			return octets >= before+(i+1)*each
		})
	}
}

// demandAnswers demands an answer to each of n requests, which differ in the
// port that an answer is about.
func (s sender) demandAnswers(t *testing.T, n int, port func([]byte) (uint16, error)) {
	t.Helper()
	seen, buf := make(map[uint16]bool), make([]byte, 2048)
	for len(seen) < n {
		s.SetReadDeadline(time.Now().Add(patience))
		size, err := s.Read(buf)
		if err != nil {
			t.Fatalf("%d of %d requests are answered: %v", len(seen), n, err)
		}
		p, err := port(buf[:size])
		if err != nil {
			t.Fatalf("answer %x: %v", buf[:size], err)
		}
		seen[p] = true
	}
}

// natpmpPort and pcpPort return the internal port that a success is about.
func natpmpPort(answer []byte) (uint16, error) {
	a, err := natpmp.ParseResponse(answer)
	if err == nil && a.Result != natpmp.Success {
		err = fmt.Errorf("result %d", a.Result)
	}
	return a.InternalPort, err
}

func pcpPort(answer []byte) (uint16, error) {
	a, err := pcp.ParseResponse(answer)
	if err == nil && a.Result != pcp.Success {
		err = fmt.Errorf("result %v", a.Result)
	}
	return a.InternalPort, err
}

// mappings returns requests in NAT-PMP for ports from the first one on.
func mappings(first uint16, n int) (requests [][]byte) {
	for i := range n {
		port := first + uint16(i)
		requests = append(requests, mapping(natpmp.MapTCP, port, port, time.Hour).Append(nil))
	}
	return requests
}

// pcpMappings returns such requests in PCP.
func pcpMappings(client netip.Addr, first uint16, n int) (requests [][]byte) {
	for i := range n {
		port := first + uint16(i)
		requests = append(requests, pcpMap(client, 6, port, port).Append(nil))
	}
	return requests
}

// longest makes PCP requests as long as they may be, by an option that no
// server knows and every server may ignore.
func longest(requests [][]byte) [][]byte {
	for i, r := range requests {
		option := make([]byte, pcp.MaxLen-len(r))
		option[0] = 200
		binary.BigEndian.PutUint16(option[2:], uint16(len(option)-4))
		requests[i] = append(r, option...)
	}
	return requests
}

// TestBurstFindsRoom suspends the daemon, as a busy processor would, while one host
// sends all its requests: each is answered afterwards.
func TestBurstFindsRoom(t *testing.T) {
	t.Parallel()
	r := newRig(t, "nft", netlab.Layout{Clients: 2, IPv6: true})
	r.firewallIPv6(t)
	r.start(t, "ipv6=yes", "max_per_host=0")
	ip4, ip6 := families[0], families[1]
	for name, test := range map[string]struct {
		family   family
		requests [][]byte
		port     func([]byte) (uint16, error)
	}{
		"NAT-PMP":                 {ip4, mappings(10000, burstSize), natpmpPort},
		"PCP":                     {ip4, pcpMappings(ip4.client, 20000, burstSize), pcpPort},
		"PCP over IPv6":           {ip6, pcpMappings(ip6.client, 30000, burstSize), pcpPort},
		"PCP, of greatest length": {ip4, longest(pcpMappings(ip4.client, 40000, burstSize)), pcpPort},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSender(t, r.Clients[0], test.family.client, test.family.gateway)
			suspend(t, r.pid())
			defer r.kill(syscall.SIGCONT)
			s.fill(t, r, test.requests)
			r.kill(syscall.SIGCONT)
			s.demandAnswers(t, len(test.requests), test.port)
		})
	}
}

// TestBurstLeavesRoom has one host send a burst to a suspended daemon, and another
// host send requests after it: both are served.
func TestBurstLeavesRoom(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{Clients: 2, IPv6: true})
	r.firewallIPv6(t)
	r.start(t, "ipv6=yes")
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			one := newSender(t, r.Clients[0], f.client, f.gateway)
			other := newSender(t, r.Clients[1], f.other, f.gateway)
			suspend(t, r.pid())
			defer r.kill(syscall.SIGCONT)
			one.fill(t, r, pcpMappings(f.client, 20000, burstSize))
			other.fill(t, r, pcpMappings(f.other, 40000, 3))
			r.kill(syscall.SIGCONT)
			other.demandAnswers(t, 3, pcpPort)
			one.demandAnswers(t, burstSize, pcpPort)
		})
	}
}

// TestBurstOnLateLAN sends a burst on an interface that was created after the
// daemon had dropped its privileges.
func TestBurstOnLateLAN(t *testing.T) {
	t.Parallel()
	r := newRig(t, "nft", netlab.Layout{})
	r.installed()
	r.start(t, "listening_ip=lan7", "allow 1024-65535 192.168.70.0/24 1024-65535")
	host, client, gateway := netlab.New(t, "late"), netip.MustParseAddr("192.168.70.10"), netip.MustParseAddr("192.168.70.1")
	r.Router.Connect(t, "lan7", host, "eth0")
	r.Router.Address(t, "lan7", netip.PrefixFrom(gateway, 24))
	host.Address(t, "eth0", netip.PrefixFrom(client, 24))
	await(t, "an answer on the new interface", func() bool {
		reply, _ := exchange(t, host, client, gateway, []byte{0, 0}, hush)
		return reply != nil
	})
	s := newSender(t, host, client, gateway)
	suspend(t, r.pid())
	defer r.kill(syscall.SIGCONT)
	s.fill(t, r, mappings(10000, burstSize))
	r.kill(syscall.SIGCONT)
	s.demandAnswers(t, burstSize, natpmpPort)
}
