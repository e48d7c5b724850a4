package lan

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlab"
)

// testLAN is the router's lan0.
type testLAN struct{ index int }

func (testLAN) Name() string { return "lan0" }
func (l testLAN) Index() int { return l.index }
func (testLAN) Prefixes() []netip.Prefix {
	return []netip.Prefix{netlab.RouterLAN, netip.MustParsePrefix("192.168.50.2/24"), netlab.RouterLAN6, netip.MustParsePrefix("2001:db8:50::2/64")}
}

// Options of the tests' sockets, without a group and with one in each family.
var (
	exclusive = []Options{{At: netip.MustParseAddrPort("0.0.0.0:7000"), Hops: 1}, {At: netip.MustParseAddrPort("[::]:7000"), Hops: 1}}
	shared    = []Options{
		{At: exclusive[0].At, Hops: 1, Groups: []netip.Addr{netip.MustParseAddr("239.255.255.250")}},
		{At: exclusive[1].At, Hops: 1, Groups: []netip.Addr{netip.MustParseAddr("ff05::c")}},
	}
)

// everyone takes each address for a host.
var everyone = NewHosts(nil, slog.New(slog.DiscardHandler))

// listen opens sockets on the router's lan0.
func listen(lab *netlab.Lab, options ...Options) (sockets Sockets, err error) {
	return listenFor(lab, everyone, options...)
}

// listenFor opens sockets that know these hosts.
func listenFor(lab *netlab.Lab, hosts *Hosts, options ...Options) (sockets Sockets, err error) {
	err = lab.Router.Do(func() error {
		dev, err := net.InterfaceByName("lan0")
		if err == nil {
			sockets, err = Listen(testLAN{dev.Index}, hosts, options...)
		}
		return err
	})
	return sockets, err
}

// serve responds to all datagrams, from one address for each family, with what the
// socket knows of the request.
func serve(t *testing.T, sockets Sockets, sources ...netip.Addr) {
	var work sync.WaitGroup
	for i, s := range sockets {
		work.Go(func() {
			err := s.Receive(func(s *Socket, d Datagram) {
				encode := func(b []byte) []byte { return fmt.Appendf(b, "%s: %v to %v", d.Payload, d.From, d.To) }
				if err := s.Send(encode, sources[i], d.From); err != nil {
					t.Error(err)
				}
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() { sockets.Close(); work.Wait() })
}

// request sends a datagram and returns the response and its source.
func request(host *netlab.Namespace, from, to string) (text string, source netip.AddrPort, err error) {
	var c *net.UDPConn
	err = host.Do(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(from)))
		return err
	})
	if err != nil {
		return "", source, err
	}
	defer c.Close()
	if _, err := c.WriteToUDPAddrPort([]byte("request"), netip.MustParseAddrPort(to)); err != nil {
		return "", source, err
	}
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, bufferLen)
	n, source, err := c.ReadFromUDPAddrPort(b)
	return string(b[:n]), source, err
}

// TestRequestAndResponse sends requests to the router's addresses and to groups; the
// responses come from the router's second addresses.
func TestRequestAndResponse(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{IPv6: true})
	lab.Router.Address(t, "lan0", netip.MustParsePrefix("192.168.50.2/24"))
	lab.Router.Address(t, "lan0", netip.MustParsePrefix("2001:db8:50::2/64"))
	sockets, err := listen(lab, shared...)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, sockets, netip.MustParseAddr("192.168.50.2"), netip.MustParseAddr("2001:db8:50::2"))
	for _, test := range []struct{ from, to, source string }{
		{"192.168.50.10:999", "192.168.50.1", "192.168.50.2:7000"},
		{"192.168.50.10:999", "192.168.50.2", "192.168.50.2:7000"},
		{"192.168.50.10:999", "239.255.255.250", "192.168.50.2:7000"},
		{"[2001:db8:50::10]:999", "2001:db8:50::1", "[2001:db8:50::2]:7000"},
		{"[2001:db8:50::10]:999", "2001:db8:50::2", "[2001:db8:50::2]:7000"},
		{"[2001:db8:50::10]:999", "ff05::c", "[2001:db8:50::2]:7000"},
	} {
		text, source, err := request(lab.Clients[0], test.from, net.JoinHostPort(test.to, "7000"))
		if want := fmt.Sprintf("request: %s to %s", test.from, test.to); err != nil || text != want || source.String() != test.source {
			t.Errorf("%q from %v, %v, want %q from %s", text, source, err, want, test.source)
		}
	}
}

// TestPortSharing opens the sockets twice: those with groups share the port.
func TestPortSharing(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{IPv6: true})
	for name, test := range map[string]struct {
		options []Options
		twice   bool
	}{
		"exclusive": {exclusive, false}, "shared": {shared, true},
	} {
		first, err := listen(lab, test.options...)
		if err != nil || len(first) != 2 {
			t.Fatalf("%s: %d sockets, %v", name, len(first), err)
		}
		second, err := listen(lab, test.options...)
		if (err == nil) != test.twice {
			t.Errorf("%s, the second time: %v", name, err)
		}
		first.Close()
		second.Close()
	}
}

// TestSendNeverWaits sends more to neighbours that do not exist than the buffer has
// room for.
func TestSendNeverWaits(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{})
	sockets, err := listen(lab, exclusive[0])
	if err != nil {
		t.Fatal(err)
	}
	defer sockets.Close()
	full, response := 0, make([]byte, 1100)
	encode := func(b []byte) []byte { return append(b, response...) }
	for i := range 2000 {
		absent := netip.AddrFrom4([4]byte{192, 168, 50, byte(100 + i%100)})
		err := sockets[0].Send(encode, netlab.RouterLAN.Addr(), netip.AddrPortFrom(absent, 1024))
		if errors.Is(err, unix.EAGAIN) {
			full++ // a call that waits for room does not return this
		}
	}
	if full == 0 {
		t.Error("the buffer was never full, or sending waited for room")
	}
}

func TestDestination(t *testing.T) {
	to := netip.MustParseAddr("192.168.50.1")
	control := unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: [4]byte{192, 168, 50, 2}, Addr: to.As4()})
	if got, ok := destination(control); !ok || got != to {
		t.Errorf("destination %v, %v", got, ok)
	}
	for name, control := range map[string][]byte{
		"nothing": nil, "cut short": control[:unix.CmsgLen(4)], "no header": control[:8], "zeros": make([]byte, 32),
	} {
		if got, ok := destination(control); ok {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestIsClient(t *testing.T) {
	own := []netip.Prefix{
		netip.MustParsePrefix("192.168.50.1/24"), netip.MustParsePrefix("192.168.50.2/24"),
		netip.MustParsePrefix("10.0.0.0/31"), netip.MustParsePrefix("fe80::1/64"),
	}
	for from, want := range map[string]bool{
		"192.168.50.10:1024":  true,
		"192.168.50.10:0":     false,
		"192.168.50.2:1024":   false,
		"192.168.50.0:1024":   false,
		"192.168.50.255:1024": false,
		"192.168.51.10:1024":  false,
		"10.0.0.1:1024":       true,
		"10.0.0.0:1024":       false,
		"[fe80::2%lan0]:1024": true,
		"[fe80::1%lan0]:1024": false,
		"[2001:db8::2]:1024":  false,
	} {
		if got := IsClient(own, nil, netip.MustParseAddrPort(from)); got != want {
			t.Errorf("%s: %v", from, got)
		}
	}
}
