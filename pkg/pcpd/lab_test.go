package pcpd_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"igdd/pkg/lan"
	"igdd/pkg/netlab"
	"igdd/pkg/pcpd"
	"igdd/pkg/portmap"
	"igdd/pkg/portmap/portmaptest"
)

// Addresses of the lab that netlab does not name.
var (
	linkLocal = netip.MustParsePrefix("fe80::1/64")
	foreign   = netip.MustParsePrefix("10.9.9.9/32")
	client    = netip.MustParseAddr("192.168.50.10")
	second    = netip.MustParseAddr("192.168.50.11")
	router    = netlab.RouterLAN.Addr()
)

// newLab builds the network that the vectors describe: two clients, one of
// them with an address that is not the LAN's.
func newLab(t *testing.T) *netlab.Lab {
	t.Helper()
	lab := netlab.NewLab(t, netlab.Layout{Clients: 2, IPv6: true})
	lab.Clients[0].Address(t, "lo", foreign)
	lab.Router.IP(t, "route", "add", foreign.String(), "dev", "lan0")
	lab.WAN.IP(t, "route", "add", netlab.RouterLAN.Masked().String(), "via", netlab.RouterWAN.Addr().String())
	return lab
}

// lanInterface is an interface of the router.
type lanInterface struct {
	name     string
	index    int
	prefixes []netip.Prefix
}

func (l lanInterface) Name() string             { return l.name }
func (l lanInterface) Index() int               { return l.index }
func (l lanInterface) Prefixes() []netip.Prefix { return l.prefixes }

// setup configures a gateway.
type setup struct {
	natpmp, pcp, thirdParty, peer, refuseMap bool

	policy    portmap.Policy
	network   portmap.NetworkState
	listening []uint16 // the router's own TCP ports
	prefixes  []netip.Prefix
	wrapTable func(*portmap.Table) pcpd.Table // returns the server's table
	upstream  *portmaptest.Upstream           // the router in front; nil: there is none

	neighbours lan.Neighbours // nil: each address is a host
}

// defaultSetup returns the setup of most tests.
func defaultSetup() setup {
	return setup{
		natpmp: true, pcp: true,
		policy: portmap.Policy{MinLifetime: 2 * time.Minute, MaxLifetime: 24 * time.Hour, MaxFilters: 4, Secure: true},
		network: portmap.NetworkState{
			External: netlab.RouterWAN.Addr(),
			LANs:     []netip.Prefix{netlab.RouterLAN, netlab.RouterLAN6},
			Own:      []netip.Addr{router, netlab.RouterLAN6.Addr(), netlab.RouterWAN.Addr()},
		},
		prefixes:  []netip.Prefix{netlab.RouterLAN, netlab.RouterLAN6, linkLocal},
		wrapTable: func(t *portmap.Table) pcpd.Table { return t },
	}
}

// gateway is a server with a table of its own on the lab's router.
type gateway struct {
	lab     *netlab.Lab
	table   *portmap.Table
	server  *pcpd.Server
	network portmap.NetworkState
}

// serve starts a gateway and stops it when the test ends.
func serve(t *testing.T, lab *netlab.Lab, s setup) *gateway {
	t.Helper()
	g := &gateway{lab: lab, network: s.network}
	log := slog.New(slog.DiscardHandler)
	var upstream portmap.Upstream
	if s.upstream != nil {
		upstream = s.upstream
		s.upstream.Report = func(ctx context.Context, list []portmap.Report) error { return g.table.Report(ctx, list) }
	}
	g.table = portmap.NewTable(portmap.Options{
		Upstream: upstream,
		Policy:   &s.policy, Network: s.network, Log: log,
		Firewall: new(portmaptest.Firewall), Store: new(portmaptest.Store),
		Listening: func(p portmap.Protocol, port uint16) bool {
			return p == portmap.TCP && slices.Contains(s.listening, port)
		},
		Listeners: func(portmap.Protocol) *portmap.PortSet { return new(portmap.PortSet) },
		Committed: func(_ []portmap.Change, reset bool) {
			if reset {
				g.server.Announce()
			}
		},
		Lost: func(list []portmap.Loss) { g.server.Lost(list) },
	})
	g.server = pcpd.New(pcpd.Options{
		NATPMP: s.natpmp, PCP: s.pcp, IPv6: true, ThirdParty: s.thirdParty, Peer: s.peer, RefuseMap: s.refuseMap,
		Hosts: lan.NewHosts(s.neighbours, log), Table: s.wrapTable(g.table), Log: log,
	})
	l, err := listen(lab.Router.Listen, g.server, "lan0", s.prefixes...)
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, g.table.Run)
	<-g.table.Started()
	runUntilEnd(t, l.Serve)
	return g
}

// runUntilEnd calls run in a goroutine and ends it with the test.
func runUntilEnd(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// SetUplink changes the external address.
func (g *gateway) SetUplink(a netip.Addr) error {
	g.network.External = a
	return g.table.SetNetworkState(context.Background(), g.network)
}

// Exchange sends a request and waits for a reply.
func (g *gateway) Exchange(side string, source, destination netip.Addr, request []byte, wait time.Duration) ([]byte, netip.Addr, error) {
	host := g.host(side, source)
	c, err := g.open(host, netip.AddrPortFrom(source, 0))
	if err != nil {
		return nil, netip.Addr{}, err
	}
	defer c.Close()
	to, err := portOf(host, destination)
	if err != nil {
		return nil, netip.Addr{}, err
	}
	reply, from, err := netlab.Ask(c, to, request, wait)
	if reply == nil {
		return nil, netip.Addr{}, err
	}
	if err == nil && from.Port() != 5351 {
		err = errors.New("reply from port " + strconv.Itoa(int(from.Port())))
	}
	return reply, from.Addr().WithZone(""), err
}

// host returns the namespace that has a source address.
func (g *gateway) host(side string, source netip.Addr) *netlab.Namespace {
	switch {
	case side == "wan":
		return g.lab.WAN
	case source == second || strings.HasSuffix(source.String(), "::11"):
		return g.lab.Clients[1]
	}
	return g.lab.Clients[0]
}

// open makes a client's socket.
func (g *gateway) open(host *netlab.Namespace, source netip.AddrPort) (c *net.UDPConn, err error) {
	err = host.Do(func() error { c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(source)); return err })
	return c, err
}

// portOf returns port 5351 at an address, of a link-local one through eth0.
func portOf(host *netlab.Namespace, a netip.Addr) (to netip.AddrPort, err error) {
	if a.IsLinkLocalUnicast() {
		err = host.Do(func() error {
			dev, err := net.InterfaceByName("eth0")
			if err == nil {
				a = a.WithZone(strconv.Itoa(dev.Index))
			}
			return err
		})
	}
	return netip.AddrPortFrom(a, 5351), err
}

// send sends a request to port 5351.
func send(c *net.UDPConn, host *netlab.Namespace, destination netip.Addr, request []byte) error {
	to, err := portOf(host, destination)
	if err == nil {
		_, err = c.WriteToUDPAddrPort(request, to)
	}
	return err
}
