package discovery

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlab"
)

// Patience is how long a test waits for what must come; Quiet is added where
// nothing more may come.
const (
	Patience = 15 * time.Second
	Quiet    = 30 * time.Millisecond
)

const port = 1900

// The groups, and what HOST names them.
var groups = map[netip.Addr]string{
	netip.MustParseAddr("239.255.255.250"): "239.255.255.250:1900",
	netip.MustParseAddr("ff02::c"):         "[FF02::C]:1900",
	netip.MustParseAddr("ff05::c"):         "[FF05::C]:1900",
}

var group4 = netip.MustParseAddr("239.255.255.250")

// Open opens a UDP socket on a host.
func Open(t testing.TB, host *netlab.Namespace, source netip.Addr) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	err := host.Do(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(source, 0)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Send sends a datagram through a host's eth0 to port 1900 at a group or an
// address of the router.
func Send(t testing.TB, host *netlab.Namespace, c *net.UDPConn, to netip.Addr, b []byte) {
	t.Helper()
	err := host.Do(func() error {
		if to.Is6() && (to.IsMulticast() || to.IsLinkLocalUnicast()) {
			to = to.WithZone("eth0")
		}
		_, err := c.WriteToUDPAddrPort(b, netip.AddrPortFrom(to, port))
		return err
	})
	if err != nil {
		t.Fatalf("send to %v: %v", to, err)
	}
}

// Search returns a proper M-SEARCH.
func Search(st string) []byte {
	return []byte("M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: " + st + "\r\n\r\n")
}

// Message is one that was heard.
type Message struct {
	Start  string // its first line
	Fields map[string]string
	From   netip.AddrPort
}

// Receive returns the next message, or false when none comes until the
// deadline.
func Receive(t testing.TB, c *net.UDPConn, deadline time.Time) (Message, bool) {
	t.Helper()
	c.SetReadDeadline(deadline)
	b := make([]byte, 2048)
	n, from, err := c.ReadFromUDPAddrPort(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return Message{}, false
	}
	if err != nil {
		t.Fatal(err)
	}
	m := Message{From: from, Fields: make(map[string]string)}
	text, whole := strings.CutSuffix(string(b[:n]), "\r\n\r\n")
	if !whole || n > 1280 {
		t.Errorf("message %q", b[:n])
	}
	for i, line := range strings.Split(text, "\r\n") {
		name, value, ok := strings.Cut(line, ":")
		switch {
		case i == 0:
			m.Start = line
		case !ok:
			t.Errorf("line %q", line)
		default:
			m.Fields[name] = strings.TrimPrefix(value, " ")
		}
	}
	return m, true
}

// Await sends a proper search from a host until it is answered: then all that
// the host sent before has been dealt with.
func Await(t testing.TB, host *netlab.Namespace, source netip.Addr) Message {
	t.Helper()
	c := Open(t, host, source)
	for end := time.Now().Add(Patience); time.Now().Before(end); {
		Send(t, host, c, group4, Search("upnp:rootdevice"))
		if m, ok := Receive(t, c, time.Now().Add(time.Second)); ok {
			return m
		}
	}
	t.Fatal("a proper search is not answered")
	return Message{}
}

// GroupListener hear what is announced to a group.
type GroupListener struct{ *net.UDPConn }

// Listen joins a group on a host's eth0.
func Listen(t testing.TB, host *netlab.Namespace, group netip.Addr) GroupListener {
	t.Helper()
	var c *net.UDPConn
	err := host.Do(func() error {
		dev, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		c, err = net.ListenMulticastUDP("udp", dev, net.UDPAddrFromAddrPort(netip.AddrPortFrom(group, port)))
		if err != nil {
			return err
		}
		return onlyOwnGroup(c, group)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return GroupListener{c}
}

// onlyOwnGroup keeps from a socket what it hears because others on its host
// joined another group.
func onlyOwnGroup(c *net.UDPConn, group netip.Addr) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	controlErr := raw.Control(func(fd uintptr) {
		if group.Is4() {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0)
		} else {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_ALL, 0)
		}
	})
	return errors.Join(controlErr, err)
}

// Next returns the next messages of a kind, of any if it is empty; it is an
// error if they do not come.
func (e GroupListener) Next(t testing.TB, what string, n int, nts string) (list []Message) {
	t.Helper()
	for deadline := time.Now().Add(Patience); len(list) < n; {
		m, ok := Receive(t, e.UDPConn, deadline)
		if !ok {
			t.Fatalf("heard %d of %d: %s", len(list), n, what)
		}
		if nts == "" || m.Fields["NTS"] == nts {
			list = append(list, m)
		}
	}
	return list
}
