package ssdpd_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlab"
	"igdd/pkg/ssdp"
	"igdd/pkg/ssdpd"
)

// patience is how long a test waits for what must come; quiet is added where
// nothing more may come.
const (
	patience = 15 * time.Second
	quiet    = 30 * time.Millisecond
)

const (
	uuidRoot       = "11111111-2222-3333-4444-5555555555aa"
	uuidWAN        = "11111111-2222-3333-4444-5555555555ab"
	uuidConnection = "11111111-2222-3333-4444-5555555555ac"

	deviceURN  = "urn:schemas-upnp-org:device:"
	serviceURN = "urn:schemas-upnp-org:service:"
)

// The two faces of a gateway with IPv6.
var (
	face1 = &ssdp.Face{Path: "/rootDesc.xml", ConfigID: 1111, Devices: []ssdp.Device{
		{UUID: uuidRoot, Type: deviceURN + "InternetGatewayDevice:1", Services: []string{serviceURN + "Layer3Forwarding:1"}},
		{UUID: uuidWAN, Type: deviceURN + "WANDevice:1", Services: []string{serviceURN + "WANCommonInterfaceConfig:1"}},
		{UUID: uuidConnection, Type: deviceURN + "WANConnectionDevice:1", Services: []string{serviceURN + "WANIPConnection:1"}},
	}}
	face2 = &ssdp.Face{Path: "/rootDesc2.xml", ConfigID: 2222, Devices: []ssdp.Device{
		{UUID: uuidRoot, Type: deviceURN + "InternetGatewayDevice:2", Services: []string{serviceURN + "Layer3Forwarding:1"}},
		{UUID: uuidWAN, Type: deviceURN + "WANDevice:2", Services: []string{serviceURN + "WANCommonInterfaceConfig:1"}},
		{UUID: uuidConnection, Type: deviceURN + "WANConnectionDevice:2", Services: []string{
			serviceURN + "WANIPConnection:2", serviceURN + "WANIPv6FirewallControl:1"}},
	}}
)

var (
	client1   = netip.MustParseAddr("192.168.50.10")
	client3   = netip.MustParseAddr("192.168.60.10")
	client1v6 = netip.MustParseAddr("2001:db8:50::10")
	linkLocal = netip.MustParsePrefix("fe80::1/64")
)

func newLab(t *testing.T) *netlab.Lab {
	t.Helper()
	return netlab.NewLab(t, netlab.Layout{Clients: 2, SecondLAN: true, IPv6: true})
}

// lan is an interface of the router; its addresses can change.
type lan struct {
	name  string
	index int

	mu       sync.Mutex
	prefixes []netip.Prefix
}

func (l *lan) Name() string { return l.name }
func (l *lan) Index() int   { return l.index }
func (l *lan) Prefixes() []netip.Prefix {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.prefixes
}

func (l *lan) set(prefixes ...netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.prefixes = prefixes
}

// gateway is a server on both LANs of the lab.
type gateway struct {
	*ssdpd.Server
	first, second *lan
	stop          func() // ends it and waits
}

// serve starts a gateway; it is gone when the test ends.
func serve(t *testing.T, lab *netlab.Lab, interval time.Duration, faces ...*ssdp.Face) *gateway {
	t.Helper()
	g := &gateway{
		Server: ssdpd.New(ssdpd.Options{
			Faces: faces, Port: 5000, IPv6: true, Interval: interval,
			Product: "Linux/6 UPnP/1.1 igdd/1", Log: slog.New(slog.DiscardHandler),
		}),
		first:  &lan{name: "lan0", prefixes: []netip.Prefix{netlab.RouterLAN, netlab.RouterLAN6, linkLocal}},
		second: &lan{name: "lan1", prefixes: []netip.Prefix{netlab.RouterLAN2}},
	}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	for _, l := range []*lan{g.first, g.second} {
		listener, err := listen(lab, g.Server, l)
		if err != nil {
			t.Fatal(err)
		}
		work.Go(func() {
			if err := listener.Serve(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	g.stop = sync.OnceFunc(func() { cancel(); work.Wait() })
	t.Cleanup(g.stop)
	return g
}

func listen(lab *netlab.Lab, s *ssdpd.Server, l *lan) (listener *ssdpd.Listener, err error) {
	err = lab.Router.Do(func() error {
		dev, err := net.InterfaceByName(l.name)
		if err != nil {
			return err
		}
		l.index = dev.Index
		listener, err = s.Listen(l)
		return err
	})
	return listener, err
}

// socket opens a UDP socket on a host.
func socket(t *testing.T, host *netlab.Namespace, source netip.Addr) *net.UDPConn {
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

// send sends a datagram to port 1900 at a group or an address of the router.
func send(t *testing.T, host *netlab.Namespace, c *net.UDPConn, to netip.Addr, b []byte) {
	t.Helper()
	err := host.Do(func() error {
		if to.IsLinkLocalMulticast() && to.Is6() || to.IsLinkLocalUnicast() || to == ssdp.SiteLocal.Addr() {
			to = to.WithZone("eth0")
		}
		_, err := c.WriteToUDPAddrPort(b, netip.AddrPortFrom(to, ssdp.Port))
		return err
	})
	if err != nil {
		t.Fatalf("send to %v: %v", to, err)
	}
}

// message is one that was heard.
type message struct {
	start  string
	fields map[string]string
	from   netip.AddrPort
}

// receive returns the next message, or false when none comes until the deadline.
func receive(t *testing.T, c *net.UDPConn, deadline time.Time) (message, bool) {
	t.Helper()
	c.SetReadDeadline(deadline)
	b := make([]byte, 2048)
	n, from, err := c.ReadFromUDPAddrPort(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return message{}, false
	}
	if err != nil {
		t.Fatal(err)
	}
	return message{fields: fields(t, b[:n]), start: strings.SplitN(string(b), "\r\n", 2)[0], from: from}, true
}

// fields takes a message apart: first line, fields, empty line, no body.
func fields(t *testing.T, b []byte) map[string]string {
	t.Helper()
	text, whole := strings.CutSuffix(string(b), "\r\n\r\n")
	if !whole || len(b) > 1280 {
		t.Errorf("message %q", b)
	}
	m := make(map[string]string)
	for _, line := range strings.Split(text, "\r\n")[1:] {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			t.Errorf("line %q", line)
		}
		m[name] = strings.TrimPrefix(value, " ")
	}
	return m
}

// search returns an M-SEARCH for a target.
func search(st string) []byte {
	return []byte("M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: " + st + "\r\n\r\n")
}

// await sends a proper search from another socket of a host until it is
// answered: then everything that the host sent before has been dealt with.
func await(t *testing.T, host *netlab.Namespace, source netip.Addr) message {
	t.Helper()
	c := socket(t, host, source)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		send(t, host, c, ssdp.IPv4.Addr(), search("uuid:"+uuidRoot))
		if m, ok := receive(t, c, time.Now().Add(time.Second)); ok {
			return m
		}
	}
	t.Fatal("a proper search is not answered")
	return message{}
}

// ears hears what is announced to a group on a host's eth0.
type ears struct{ *net.UDPConn }

func listenTo(t *testing.T, host *netlab.Namespace, g ssdp.Group) ears {
	t.Helper()
	var c *net.UDPConn
	err := host.Do(func() error {
		dev, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		c, err = net.ListenMulticastUDP("udp", dev, net.UDPAddrFromAddrPort(netip.AddrPortFrom(g.Addr(), ssdp.Port)))
		if err != nil {
			return err
		}
		return onlyOwnGroup(c)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return ears{c}
}

// onlyOwnGroup keeps from a socket what it hears because others on its host
// joined another group.
func onlyOwnGroup(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	controlErr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0)
		if domain, _ := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN); domain == unix.AF_INET6 {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_ALL, 0)
		}
	})
	return errors.Join(controlErr, err)
}

// hear returns the next announcements that fulfil want; it is an error if
// they do not come.
func (e ears) hear(t *testing.T, what string, n int, want func(message) bool) (list []message) {
	t.Helper()
	for deadline := time.Now().Add(patience); len(list) < n; {
		m, ok := receive(t, e.UDPConn, deadline)
		if !ok {
			t.Fatalf("heard %d of %d: %s", len(list), n, what)
		}
		if want(m) {
			list = append(list, m)
		}
	}
	return list
}

func nts(value string) func(message) bool {
	return func(m message) bool { return m.fields["NTS"] == value }
}

// all takes every message.
func all(message) bool { return true }
