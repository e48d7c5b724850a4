package pcpd_test

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
	"igdd/pkg/pcp"
	"igdd/pkg/vectors"
)

// otherWAN is the vectors' second external address.
var otherWAN = netip.MustParseAddr("11.22.33.45")

// groupListener is a client's socket for announcements.
type groupListener struct{ *net.UDPConn }

// announcement is a received announcement.
type announcement struct {
	at      time.Time
	from    netip.AddrPort
	hops    byte // TTL or hop limit
	payload []byte
}

// listenFor opens a socket on port 5350 on the second client.
func listenFor(t *testing.T, lab *netlab.Lab, network, group string) *groupListener {
	t.Helper()
	l := new(groupListener)
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			// One of the two is for the other family, and fails.
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVTTL, 1)
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1)
		})
	}}
	err := lab.Clients[1].Do(func() error {
		c, err := config.ListenPacket(context.Background(), network, group)
		if err == nil {
			l.UDPConn = c.(*net.UDPConn)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// next waits for the next announcement.
func (l *groupListener) next(t *testing.T) announcement {
	t.Helper()
	payload, control := make([]byte, 2048), make([]byte, 128)
	l.SetReadDeadline(time.Now().Add(replyTimeout))
	n, controlLen, _, from, err := l.ReadMsgUDPAddrPort(payload, control)
	if err != nil {
		t.Fatal(err)
	}
	a := announcement{at: time.Now(), from: netip.AddrPortFrom(from.Addr().WithZone(""), from.Port()), payload: payload[:n]}
	if messages, err := unix.ParseSocketControlMessage(control[:controlLen]); err == nil && len(messages) > 0 {
		a.hops = messages[0].Data[0] // little-endian int
	}
	return a
}

// expectation returns the announcements that a vector expects.
func expectation(t *testing.T, protocol, id string) vectors.Expectation {
	t.Helper()
	all := vectors.Load(t, protocol)
	i := slices.IndexFunc(all, func(v vectors.Vector) bool { return v.ID == id })
	if i < 0 {
		t.Fatalf("no vector %s", id)
	}
	e := all[i].Expect
	e.Reply = nil
	return e
}

// expectCopies checks that every copy comes in all wanted forms, in their order and at
// its time.
func (l *groupListener) expectCopies(t *testing.T, began time.Time, copies int, wanted ...vectors.Expectation) {
	t.Helper()
	for n := range copies {
		for _, want := range wanted {
			a := l.next(t)
			for _, difference := range want.Check(a.payload) {
				t.Errorf("copy %d: %s", n, difference)
			}
			if a.from != netip.AddrPortFrom(router, want.SourcePort) || a.hops != 1 {
				t.Errorf("copy %d: from %v with TTL %d", n, a.from, a.hops)
			}
			if late := a.at.Sub(began) - want.Times()[n]; late < 0 || late > 2*time.Second {
				t.Errorf("copy %d is %v late", n, late)
			}
		}
	}
}

func TestAnnouncements(t *testing.T) {
	t.Parallel()
	lab := newLab(t)
	e := listenFor(t, lab, "udp4", "224.0.0.1:5350")
	began := time.Now()
	g := serve(t, lab, defaultSetup())
	e.expectCopies(t, began, 3, expectation(t, "pcp", "P150"), expectation(t, "natpmp", "N60"))

	began = time.Now()
	if err := g.SetUplink(otherWAN); err != nil {
		t.Fatal(err)
	}
	e.expectCopies(t, began, 2, expectation(t, "pcp", "P152"), expectation(t, "natpmp", "N61"))
	a := e.next(t)
	if r, err := pcp.ParseResponse(a.payload); err != nil || r.Epoch > 3 {
		t.Errorf("the epoch was not reset: %+v, %v", r, err)
	}
	e.next(t)

	// Without an external address only PCP announces.
	if err := g.SetUplink(netip.Addr{}); err != nil {
		t.Fatal(err)
	}
	g.server.Announce()
	for range 2 {
		if a := e.next(t); a.payload[0] != pcp.Version {
			t.Errorf("announced without an address: %x", a.payload)
		}
	}
}

func TestAnnouncementsOverIPv6(t *testing.T) {
	t.Parallel()
	lab := newLab(t)
	e := listenFor(t, lab, "udp6", "[ff02::1%eth0]:5350")
	serve(t, lab, defaultSetup())
	want := []string{linkLocal.Addr().String(), netlab.RouterLAN6.Addr().String()}
	slices.Sort(want)
	var got []string
	for range want {
		a := e.next(t)
		if r, err := pcp.ParseResponse(a.payload); err != nil || r.Opcode != pcp.Announce || len(a.payload) != 24 || a.hops != 1 || a.from.Port() != 5351 {
			t.Errorf("%+v announces %x, %v", a, a.payload, err)
		}
		got = append(got, a.from.Addr().String())
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("announced from %v, want %v", got, want)
	}
}

func TestAnnouncementsOfOneProtocol(t *testing.T) {
	t.Parallel()
	lab := newLab(t)
	for name, test := range map[string]struct {
		natpmp, pcp bool
		version     byte
	}{
		"NAT-PMP": {true, false, natpmp.Version},
		"PCP":     {false, true, pcp.Version},
	} {
		t.Run(name, func(t *testing.T) {
			e := listenFor(t, lab, "udp4", "224.0.0.1:5350")
			s := defaultSetup()
			s.natpmp, s.pcp = test.natpmp, test.pcp
			serve(t, lab, s)
			for range 2 {
				if a := e.next(t); a.payload[0] != test.version {
					t.Errorf("received %x", a.payload)
				}
			}
		})
	}
}

// addMapping makes a mapping and returns the client's socket.
func (g *gateway) addMapping(t *testing.T, r pcp.Request) *groupListener {
	t.Helper()
	c, err := g.open(g.lab.Clients[0], netip.AddrPortFrom(client, 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	l := &groupListener{c}
	g.renew(t, l, r)
	return l
}

// renew sends a request from a client's socket and waits for success. Updates for an
// earlier nonce may come before the response.
func (g *gateway) renew(t *testing.T, l *groupListener, r pcp.Request) {
	t.Helper()
	r.Client = client
	if err := send(l.UDPConn, g.lab.Clients[0], router, r.Append(nil)); err != nil {
		t.Fatal(err)
	}
	got := l.response(t)
	for got.Nonce != r.Nonce {
		got = l.response(t)
	}
	if got.Result != pcp.Success {
		t.Fatalf("%+v", got)
	}
}

func (l *groupListener) response(t *testing.T) pcp.Response {
	t.Helper()
	a := l.next(t)
	r, err := pcp.ParseResponse(a.payload)
	if err != nil || a.from != netip.AddrPortFrom(router, 5351) {
		t.Fatalf("%x from %v, %v", a.payload, a.from, err)
	}
	return r
}

func TestMappingUpdate(t *testing.T) {
	t.Parallel()
	g := serve(t, newLab(t), defaultSetup())
	e := g.addMapping(t, mapUDP(40000, 40000, nonceA))
	began := time.Now()
	if err := g.SetUplink(otherWAN); err != nil {
		t.Fatal(err)
	}
	want := expectation(t, "pcp", "P153")
	for n, due := range want.Times() {
		a := e.next(t)
		for _, difference := range want.Check(a.payload) {
			t.Errorf("copy %d: %s", n, difference)
		}
		if late := a.at.Sub(began) - due; late < 0 || late > 2*time.Second {
			t.Errorf("copy %d is %v late", n, late)
		}
	}
}

func TestMappingUpdateHasMandatoryOptions(t *testing.T) {
	t.Parallel()
	g := serve(t, newLab(t), defaultSetup())
	exact := mapUDP(40001, 40001, nonceA, pcp.PreferFailure{})
	exact.External = netip.AddrPortFrom(netlab.RouterWAN.Addr(), 40001)
	filtered := g.addMapping(t, mapUDP(40000, 40000, nonceA, pcp.Description{Text: "x"}, filter("11.22.33.1", 128)))
	failing := g.addMapping(t, exact)
	if err := g.SetUplink(otherWAN); err != nil {
		t.Fatal(err)
	}
	r := filtered.response(t)
	checkResult(t, r, pcp.Success, time.Hour)
	if r.External != netip.AddrPortFrom(otherWAN, 40000) || !slices.Equal(r.Options, []pcp.Option{filter("11.22.33.1", 128)}) {
		t.Errorf("update %+v", r)
	}
	if r := failing.response(t); r.Result != pcp.CannotProvideExternal || r.Mapping != exact.Mapping {
		t.Errorf("update of an exact mapping: %+v", r)
	}
}

func TestMappingUpdateStopsWithARequest(t *testing.T) {
	t.Parallel()
	g := serve(t, newLab(t), defaultSetup())
	e := g.addMapping(t, mapUDP(40000, 40000, nonceA))
	if err := g.SetUplink(otherWAN); err != nil {
		t.Fatal(err)
	}
	if r := e.response(t); r.External.Addr() != otherWAN {
		t.Errorf("update %+v", r)
	}
	g.renew(t, e, mapUDP(40000, 40000, nonceB))
	e.SetReadDeadline(time.Now().Add(time.Second)) // past the other two copies
	reply := make([]byte, 2048)
	if n, _, err := e.ReadFromUDPAddrPort(reply); err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("another update %x, %v", reply[:n], err)
	}
}
