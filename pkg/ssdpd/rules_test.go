package ssdpd_test

import (
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlab"
	"igdd/pkg/ssdp"
	"igdd/pkg/vectors/discovery"
)

// TestVersionsBySearch serves both descriptions: only a search for a version 2 type is
// answered with the second.
func TestVersionsBySearch(t *testing.T) {
	t.Parallel()
	lab := newLab(t)
	e := discovery.Listen(t, lab.Clients[0], ssdp.IPv4.Addr())
	description1 := withFirewallControl(description1)
	serve(t, lab, time.Hour, description1, description2)
	for _, m := range e.Next(t, "all announcements", 4*len(description1.Items()), "") {
		if strings.HasSuffix(m.Fields["NT"], ":2") || m.Fields["NTS"] == "ssdp:alive" && !strings.HasSuffix(m.Fields["LOCATION"], description1.Path) {
			t.Errorf("announced: %v", m.Fields)
		}
	}
	c := discovery.Open(t, lab.Clients[0], client1)
	for st, want := range map[string]*ssdp.Description{
		"upnp:rootdevice":                         description1,
		"uuid:" + uuidConnection:                  description1,
		deviceURN + "InternetGatewayDevice:1":     description1,
		serviceURN + "WANIPConnection:1":          description1,
		deviceURN + "InternetGatewayDevice:2":     description2,
		serviceURN + "WANIPConnection:2":          description2,
		serviceURN + "WANIPv6FirewallControl:1":   description1,
		serviceURN + "WANCommonInterfaceConfig:1": description1,
	} {
		discovery.Send(t, lab.Clients[0], c, ssdp.IPv4.Addr(), discovery.Search(st))
		if m, ok := discovery.Receive(t, c, time.Now().Add(discovery.Patience)); !ok || m.Fields["ST"] != st || !strings.HasSuffix(m.Fields["LOCATION"], want.Path) {
			t.Errorf("%s: %v", st, m.Fields)
		}
	}
}

// withFirewallControl returns the description of version 1 as it is beside version 2:
// with the IPv6 firewall control, so that it is announced and found there. One USN has
// one LOCATION.
func withFirewallControl(description *ssdp.Description) *ssdp.Description {
	f := *description
	f.Devices = slices.Clone(description.Devices)
	last := &f.Devices[len(f.Devices)-1]
	last.Services = append(slices.Clone(last.Services), serviceURN+"WANIPv6FirewallControl:1")
	return &f
}

// TestNoAmplifier floods the gateway from one source, whose responses are limited while
// other sources are answered.
func TestNoAmplifier(t *testing.T) {
	t.Parallel()
	lab := newLab(t)
	serve(t, lab, time.Hour, description2)
	for _, st := range []string{"ssdp:all", "upnp:rootdevice", "nonsense"} {
		c := discovery.Open(t, lab.Clients[0], client1)
		received, sent := 0, 0
		for range 200 {
			discovery.Send(t, lab.Clients[0], c, ssdp.IPv4.Addr(), discovery.Search(st))
			received += len(discovery.Search(st))
		}
		discovery.Await(t, lab.Clients[1], client2)
		b := make([]byte, 2048)
		for {
			c.SetReadDeadline(time.Now().Add(10 * discovery.Quiet))
			n, _, err := c.ReadFromUDP(b)
			if err != nil {
				break
			}
			sent += n
		}
		if sent > 10*received || (sent > 0) == (st == "nonsense") {
			t.Errorf("%s: %d octets of searches, %d of responses", st, received, sent)
		}
	}
}

// TestSearchFromServicePort searches from port 1900: the response reaches it, and is not
// answered when it is sent back.
func TestSearchFromServicePort(t *testing.T) {
	t.Parallel()
	lab := newLab(t)
	serve(t, lab, time.Hour, description2)
	var c *net.UDPConn
	err := lab.Clients[0].Do(func() (err error) {
		c, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(client1, ssdp.Port)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	discovery.Send(t, lab.Clients[0], c, ssdp.IPv4.Addr(), discovery.Search("upnp:rootdevice"))
	c.SetReadDeadline(time.Now().Add(discovery.Patience))
	answer := make([]byte, 2048)
	n, _, err := c.ReadFromUDPAddrPort(answer)
	if err != nil || !strings.HasPrefix(string(answer[:n]), "HTTP/1.1 200 OK\r\n") {
		t.Fatalf("%q, %v", answer[:n], err)
	}
	for _, to := range []netip.Addr{ssdp.IPv4.Addr(), netlab.RouterLAN.Addr()} {
		discovery.Send(t, lab.Clients[0], c, to, answer[:n])
	}
	discovery.Await(t, lab.Clients[1], client2)
	if m, ok := discovery.Receive(t, c, time.Now().Add(discovery.Quiet)); ok {
		t.Errorf("a response is answered: %v", m)
	}
}

// TestSearchByBroadcast searches by limited broadcast, as some clients do.
func TestSearchByBroadcast(t *testing.T) {
	t.Parallel()
	lab := newLab(t)
	serve(t, lab, time.Hour, description2)
	c := discovery.Open(t, lab.Clients[0], client1)
	discovery.Send(t, lab.Clients[0], c, netip.AddrFrom4([4]byte{255, 255, 255, 255}), discovery.Search("upnp:rootdevice"))
	if m, ok := discovery.Receive(t, c, time.Now().Add(discovery.Patience)); !ok || m.From.Addr() != netlab.RouterLAN.Addr() {
		t.Errorf("%+v", m)
	}
}

// TestFamiliesAreIndependent enables IPv6 on one LAN only.
func TestFamiliesAreIndependent(t *testing.T) {
	t.Parallel()
	lab := newLab(t)
	lab.Router.Sysctl(t, "net/ipv6/conf/lan1/disable_ipv6", "1")
	serve(t, lab, time.Hour, description2)
	c := discovery.Open(t, lab.Client2, client3)
	discovery.Send(t, lab.Client2, c, ssdp.IPv4.Addr(), discovery.Search("upnp:rootdevice"))
	if _, ok := discovery.Receive(t, c, time.Now().Add(discovery.Patience)); !ok {
		t.Error("no response over IPv4 on the LAN without IPv6")
	}
	c = discovery.Open(t, lab.Clients[0], client1v6)
	discovery.Send(t, lab.Clients[0], c, ssdp.SiteLocal.Addr(), discovery.Search("upnp:rootdevice"))
	if _, ok := discovery.Receive(t, c, time.Now().Add(discovery.Patience)); !ok {
		t.Error("no response over IPv6 on the LAN with IPv6")
	}
}

// TestPortIsShared runs another SSDP program on the router.
func TestPortIsShared(t *testing.T) {
	t.Parallel()
	lab := newLab(t)
	serve(t, lab, time.Hour, description2)
	var other *net.UDPConn
	err := lab.Router.Do(func() error {
		dev, err := net.InterfaceByName("lan0")
		if err != nil {
			return err
		}
		other, err = net.ListenMulticastUDP("udp4", dev, &net.UDPAddr{IP: net.IPv4(239, 255, 255, 250), Port: ssdp.Port})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	discovery.Await(t, lab.Clients[0], client1)
	other.SetReadDeadline(time.Now().Add(discovery.Patience))
	if n, _, err := other.ReadFromUDP(make([]byte, 2048)); err != nil || n == 0 {
		t.Errorf("the other program receives %d octets, %v", n, err)
	}
}

// TestScope reads the TTL of an announcement (UDA 1.1, section 1.1.1).
func TestScope(t *testing.T) {
	t.Parallel()
	lab := newLab(t)
	e := discovery.Listen(t, lab.Clients[0], ssdp.IPv4.Addr())
	raw, err := e.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVTTL, 1) })
	if err != nil {
		t.Fatal(err)
	}
	serve(t, lab, time.Hour, description2)
	e.SetReadDeadline(time.Now().Add(discovery.Patience))
	oob := make([]byte, 64)
	_, n, _, _, err := e.ReadMsgUDP(make([]byte, 2048), oob)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || !slices.ContainsFunc(messages, func(m unix.SocketControlMessage) bool {
		return m.Header.Type == unix.IP_TTL && m.Data[0] == 2
	}) {
		t.Errorf("%v, %v", messages, err)
	}
}

// TestLostInterface sets one LAN down: the server continues on the other.
func TestLostInterface(t *testing.T) {
	t.Parallel()
	lab := newLab(t)
	gateway := serve(t, lab, 50*time.Millisecond, description2)
	lab.Router.IP(t, "link", "set", "lan1", "down")
	gateway.second.set()
	gateway.Changed()
	e := discovery.Listen(t, lab.Clients[0], ssdp.IPv4.Addr())
	e.Next(t, "announcements on the other LAN", 3*len(description2.Items()), "ssdp:alive")
	discovery.Await(t, lab.Clients[0], client1)
}

// TestNoLeaks checks that goroutines and file descriptors end with the server.
func TestNoLeaks(t *testing.T) {
	lab := newLab(t)
	goroutines, descriptors := runtime.NumGoroutine(), openFiles(t)
	for range 5 {
		gateway := serve(t, lab, time.Hour, description1, description2)
		gateway.Announce()
		gateway.stop()
	}
	for end := time.Now().Add(discovery.Patience); runtime.NumGoroutine() > goroutines || openFiles(t) > descriptors; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines, were %d; %d descriptors, were %d", runtime.NumGoroutine(), goroutines, openFiles(t), descriptors)
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
