package pcpd_test

import (
	"encoding/hex"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"igdd/pkg/lan"
	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
	"igdd/pkg/pcp"
	"igdd/pkg/pcpd"
	"igdd/pkg/portmap"
	"igdd/pkg/vectors"
)

func TestResponseComesFromRequestedAddress(t *testing.T) {
	t.Parallel()
	lab := newLab(t)
	other := netip.MustParsePrefix("192.168.50.2/24")
	lab.Router.Address(t, "lan0", other)
	s := defaultSetup()
	s.prefixes = append(s.prefixes, other)
	g := serve(t, lab, s)
	for _, addr := range []netip.Addr{router, other.Addr()} {
		for _, request := range []string{"0000", "00010000 9c409c40 00000e10", "0301"} {
			reply, from, err := g.Exchange("lan", client, addr, octets(t, request), replyTimeout)
			if err != nil || from != addr {
				t.Errorf("request %[2]q to %[1]v: reply %[3]x from %[4]v, %[5]v", addr, request, reply, from, err)
			}
		}
	}
}

func octets(t *testing.T, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(string(slices.DeleteFunc([]byte(digits), func(c byte) bool { return c == ' ' })))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestNoResponse(t *testing.T) {
	t.Parallel()
	lab := newLab(t)
	g := serve(t, lab, defaultSetup())
	broadcast := netip.MustParseAddr("255.255.255.255")
	for name, test := range map[string]struct {
		side     string
		from, to netip.Addr
		octets   string
		icmp     bool // the kernel answers with an ICMP error
	}{
		"broadcast":             {side: "lan", from: client, to: broadcast, octets: "0000"},
		"network's broadcast":   {side: "lan", from: client, to: netip.MustParseAddr("192.168.50.255"), octets: "0000"},
		"group":                 {side: "lan", from: client, to: netip.MustParseAddr("224.0.0.1"), octets: "0000"},
		"foreign host":          {side: "lan", from: foreign.Addr(), to: router, octets: "0000"},
		"uplink's address":      {side: "lan", from: client, to: netlab.RouterWAN.Addr(), octets: "0000"},
		"uplink":                {side: "wan", from: netip.MustParseAddr("11.22.33.1"), to: netlab.RouterWAN.Addr(), octets: "0000", icmp: true},
		"uplink to LAN address": {side: "wan", from: netip.MustParseAddr("11.22.33.1"), to: router, octets: "0000", icmp: true},
		"empty":                 {side: "lan", from: client, to: router},
		"PCP response":          {side: "lan", from: client, to: router, octets: "0281"},
		"23 octets of PCP":      {side: "lan", from: client, to: router, octets: "02000000 00000000 00000000 00000000 0000ffff c0a832"},
	} {
		reply, from, err := g.Exchange(test.side, test.from, test.to, octets(t, test.octets), noReplyTimeout)
		if reply != nil || err != nil && !test.icmp {
			t.Errorf("%s: %x from %v, %v", name, reply, from, err)
		}
	}
	if r := g.askNATPMP(t, client, natpmp.Request{}); r.External != netlab.RouterWAN.Addr() {
		t.Errorf("a valid request then gets %+v", r)
	}
}

func TestDisabledProtocols(t *testing.T) {
	t.Parallel()
	lab := newLab(t)
	announce := "02000000 00000000 00000000 00000000 0000ffff c0a8320a"
	for name, test := range map[string]struct {
		natpmp, pcp   bool
		request, want string
	}{
		"NAT-PMP only, request of PCP":       {true, false, announce, "00800001????????"},
		"NAT-PMP only, request of version 9": {true, false, "0900", "00800001????????"},
		"NAT-PMP only":                       {true, false, "0000", "00800000????????0b16212c"},
		"PCP only, request of NAT-PMP":       {false, true, "0000", "0280000100000708????????000000000000000000000000"},
		"PCP only":                           {false, true, announce, "0280000000000000????????000000000000000000000000"},
	} {
		t.Run(name, func(t *testing.T) {
			s := defaultSetup()
			s.natpmp, s.pcp = test.natpmp, test.pcp
			want := vectors.Expectation{Hex: test.want, Len: vectors.Constraint{Equal: float64(len(test.want) / 2)}}
			for _, difference := range want.Check(serve(t, lab, s).ask(t, client, octets(t, test.request))) {
				t.Error(difference)
			}
		})
	}
}

func TestOneSocketPerInterface(t *testing.T) {
	t.Parallel()
	lab := netlab.NewLab(t, netlab.Layout{SecondLAN: true})
	s := defaultSetup()
	s.network.LANs = append(s.network.LANs, netlab.RouterLAN2)
	g := serve(t, lab, s)
	l, err := listen(lab.Router.Listen, g.server, "lan1", netlab.RouterLAN2)
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, l.Serve)
	other := netip.MustParseAddr("192.168.60.10")
	c, err := g.open(lab.Client2, netip.AddrPortFrom(other, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// The second interface does not have the address of the first.
	for _, addr := range []netip.Addr{router, netlab.RouterLAN2.Addr()} {
		if err := send(c, lab.Client2, addr, []byte{0, 0}); err != nil {
			t.Fatal(err)
		}
	}
	c.SetReadDeadline(time.Now().Add(replyTimeout))
	if _, from, err := c.ReadFromUDPAddrPort(make([]byte, 64)); err != nil || from.Addr() != netlab.RouterLAN2.Addr() {
		t.Errorf("reply from %v, %v", from, err)
	}
	if r := g.askNATPMP(t, client, natpmp.Request{}); r.Result != natpmp.Success {
		t.Errorf("the first interface answers %+v", r)
	}
}

func TestSecondServerCannotListen(t *testing.T) {
	t.Parallel()
	lab := newLab(t)
	g := serve(t, lab, defaultSetup())
	if _, err := listen(lab.Router.Do, pcpd.New(pcpd.Options{NATPMP: true, Table: g.table, Hosts: lan.NewHosts(nil, slog.Default())}), "lan0"); err == nil {
		t.Error("two servers share a port")
	}
	if _, err := listen(lab.Router.Listen, g.server, "lan7"); err == nil {
		t.Error("a server listens on a missing interface")
	}
}

// listen opens one more listener on the router.
func listen(enter func(func() error) error, s *pcpd.Server, dev string, own ...netip.Prefix) (l *pcpd.Listener, err error) {
	err = enter(func() error {
		index := 0
		if i, err := net.InterfaceByName(dev); err == nil {
			index = i.Index
		}
		l, err = s.Listen(lanInterface{dev, index, own})
		return err
	})
	return l, err
}

func TestRequestsOfOneHostStayInOrder(t *testing.T) {
	t.Parallel()
	lab := newLab(t)
	g := serve(t, lab, defaultSetup())
	c, err := g.open(lab.Clients[0], netip.AddrPortFrom(client, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const n = 100 // fits a socket's buffer on either side
	for i := range uint16(n) {
		r := natpmp.Request{Opcode: natpmp.MapUDP, InternalPort: 40000 + i/2, Lifetime: time.Hour * time.Duration(1-i%2)}
		if err := send(c, lab.Clients[0], router, r.Append(nil)); err != nil {
			t.Fatal(err)
		}
	}
	reply := make([]byte, 64)
	for i := range uint16(n) {
		c.SetReadDeadline(time.Now().Add(replyTimeout))
		size, _, err := c.ReadFromUDPAddrPort(reply)
		if err != nil {
			t.Fatalf("reply %d: %v", i, err)
		}
		r, err := natpmp.ParseResponse(reply[:size])
		if deleted := r.Lifetime == 0; err != nil || r.InternalPort != 40000+i/2 || deleted != (i%2 == 1) {
			t.Fatalf("reply %d: %+v, %v", i, r, err)
		}
	}
	if left := g.table.List(); len(left) != 0 {
		t.Errorf("%d mappings are left", len(left))
	}
}

// fullTable is a table whose queue is full.
type fullTable struct{ *portmap.Table }

func (fullTable) Submit(portmap.Request, func(portmap.Answer)) bool { return false }

func TestFullQueueDropsAndStillAnswersTheRest(t *testing.T) {
	t.Parallel()
	lab := newLab(t)
	s := defaultSetup()
	s.wrapTable = func(t *portmap.Table) pcpd.Table { return fullTable{t} }
	g := serve(t, lab, s)
	m := mapUDP(40000, 40000, nonceA)
	m.Client = client
	for _, request := range [][]byte{octets(t, "00010000 9c409c40 00000e10"), m.Append(nil)} {
		if reply, _, err := g.Exchange("lan", client, router, request, noReplyTimeout); reply != nil || err != nil {
			t.Errorf("%x is answered %x, %v", request, reply, err)
		}
	}
	if r := g.askPCP(t, client, pcp.Request{}); r.Result != pcp.Success {
		t.Errorf("ANNOUNCE: %+v", r)
	}
	if r := g.askNATPMP(t, client, natpmp.Request{}); r.Result != natpmp.Success {
		t.Errorf("address: %+v", r)
	}
}
