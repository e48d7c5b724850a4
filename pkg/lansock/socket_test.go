package lansock

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlab"
)

// wire is the router's lan0.
type wire struct{ index int }

func (wire) Name() string             { return "lan0" }
func (w wire) Index() int             { return w.index }
func (wire) Prefixes() []netip.Prefix { return []netip.Prefix{netlab.RouterLAN} }

// The sockets of the tests, without groups and with one in each family.
var (
	alone  = []Options{{At: netip.MustParseAddrPort("0.0.0.0:7000"), Hops: 1}, {At: netip.MustParseAddrPort("[::]:7000"), Hops: 1}}
	shared = []Options{
		{At: alone[0].At, Hops: 1, Groups: []netip.Addr{netip.MustParseAddr("239.255.255.250")}},
		{At: alone[1].At, Hops: 1, Groups: []netip.Addr{netip.MustParseAddr("ff05::c")}},
	}
)

// listen opens sockets on the router's lan0.
func listen(lab *netlab.Lab, options ...Options) (sockets Sockets, err error) {
	err = lab.Router.Do(func() error {
		dev, err := net.InterfaceByName("lan0")
		if err == nil {
			sockets, err = Listen(wire{dev.Index}, options...)
		}
		return err
	})
	return sockets, err
}

// serve answers all datagrams from one own address a family, with what is
// known of the question.
func serve(t *testing.T, sockets Sockets, answers ...netip.Addr) {
	var work sync.WaitGroup
	for i, s := range sockets {
		work.Go(func() {
			err := s.Receive(func(s *Socket, d Datagram) {
				word := func(b []byte) []byte { return fmt.Appendf(b, "%s: %v to %v", d.Payload, d.From, d.To) }
				if err := s.Send(word, answers[i], d.From); err != nil {
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

// ask sends a question and returns the answer and where it comes from.
func ask(host *netlab.Namespace, from, to string) (text string, source netip.AddrPort, err error) {
	var c *net.UDPConn
	err = host.Do(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(from)))
		return err
	})
	if err != nil {
		return "", source, err
	}
	defer c.Close()
	if _, err := c.WriteToUDPAddrPort([]byte("asked"), netip.MustParseAddrPort(to)); err != nil {
		return "", source, err
	}
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, bufferLen)
	n, source, err := c.ReadFromUDPAddrPort(b)
	return string(b[:n]), source, err
}

// TestBothWays asks own addresses and groups; the answers come from the second
// addresses.
func TestBothWays(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{IPv6: true})
	lab.Router.Address(t, "lan0", netip.MustParsePrefix("192.168.50.2/24"))
	lab.Router.Address(t, "lan0", netip.MustParsePrefix("2001:db8:50::2/64"))
	sockets, err := listen(lab, shared...)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, sockets, netip.MustParseAddr("192.168.50.2"), netip.MustParseAddr("2001:db8:50::2"))
	for _, test := range []struct{ from, to, answered string }{
		{"192.168.50.10:999", "192.168.50.1", "192.168.50.2:7000"},
		{"192.168.50.10:999", "192.168.50.2", "192.168.50.2:7000"},
		{"192.168.50.10:999", "239.255.255.250", "192.168.50.2:7000"},
		{"[2001:db8:50::10]:999", "2001:db8:50::1", "[2001:db8:50::2]:7000"},
		{"[2001:db8:50::10]:999", "2001:db8:50::2", "[2001:db8:50::2]:7000"},
		{"[2001:db8:50::10]:999", "ff05::c", "[2001:db8:50::2]:7000"},
	} {
		text, source, err := ask(lab.Clients[0], test.from, net.JoinHostPort(test.to, "7000"))
		if want := fmt.Sprintf("asked: %s to %s", test.from, test.to); err != nil || text != want || source.String() != test.answered {
			t.Errorf("%q from %v, %v, want %q from %s", text, source, err, want, test.answered)
		}
	}
}

// TestWhoHasThePort opens the sockets twice: those with groups share it.
func TestWhoHasThePort(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{IPv6: true})
	for name, test := range map[string]struct {
		options []Options
		twice   bool
	}{
		"alone": {alone, false}, "shared": {shared, true},
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

// TestSendNeverWaits answers neighbours that do not exist more often than the
// socket's buffer holds: waiting for them would stop the whole table.
func TestSendNeverWaits(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{})
	sockets, err := listen(lab, alone[0])
	if err != nil {
		t.Fatal(err)
	}
	defer sockets.Close()
	full, reply := 0, make([]byte, 1100)
	word := func(b []byte) []byte { return append(b, reply...) }
	for i := range 2000 {
		nobody := netip.AddrFrom4([4]byte{192, 168, 50, byte(100 + i%100)})
		err := sockets[0].Send(word, netlab.RouterLAN.Addr(), netip.AddrPortFrom(nobody, 1024))
		if errors.Is(err, unix.EAGAIN) {
			full++ // who waits for room does not hear of it
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

func TestNeighbour(t *testing.T) {
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
		if got := IsNeighbour(own, netip.MustParseAddrPort(from)); got != want {
			t.Errorf("%s: %v", from, got)
		}
	}
}
