package pcpd

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"igdd/pkg/lan"
	"igdd/pkg/natpmp"
	"igdd/pkg/pcp"
	"igdd/pkg/portmap"
	"igdd/pkg/portmap/portmaptest"
)

// loopback is the loopback interface as a LAN.
type loopback struct{}

func (loopback) Name() string             { return "lo" }
func (loopback) Index() int               { return 1 }
func (loopback) Prefixes() []netip.Prefix { return nil }

// syncTable is a table whose Submit returns after the answer.
type syncTable struct {
	*portmap.Table
	done chan struct{}
}

func (s syncTable) Submit(r portmap.Request, answer func(portmap.Answer)) bool {
	s.Table.Submit(r, func(a portmap.Answer) { answer(a); s.done <- struct{}{} })
	<-s.done
	return true
}

// benchmark serves one request repeatedly. The responses go to a socket that no process
// reads.
func benchmark(b *testing.B, packet []byte) {
	log := slog.New(slog.DiscardHandler)
	sink, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)})
	if err != nil {
		b.Fatal(err)
	}
	defer sink.Close()
	sockets, err := lan.Listen(loopback{}, lan.NewHosts(nil, log), lan.Options{At: netip.AddrPortFrom(netip.IPv4Unspecified(), 0), Hops: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer sockets.Close()
	network := netip.MustParsePrefix("127.0.0.1/8")
	table := portmap.NewTable(portmap.Options{
		Policy:   &portmap.Policy{Secure: true, MinLifetime: 2 * time.Minute, MaxLifetime: 24 * time.Hour},
		Network:  portmap.NetworkState{External: netip.MustParseAddr("11.22.33.44"), LANs: []netip.Prefix{network}},
		Firewall: new(portmaptest.Firewall), Store: new(portmaptest.Store),
		Listening: func(portmap.Protocol, uint16) bool { return false },
		Committed: func([]portmap.Change, bool) {},
		Log:       log,
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- table.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	<-table.Started()
	synced := syncTable{table, make(chan struct{}, 1)}
	server := New(Options{NATPMP: true, PCP: true, Table: synced, Log: log})
	x := exchange{
		Server: server, lan: "lo", socket: sockets[0], client: sink.LocalAddr().(*net.UDPAddr).AddrPort(),
		routerAddr: network.Addr(), packet: packet, backlog: newBacklog(),
	}
	b.ReportAllocs()
	for b.Loop() {
		x.serve()
	}
}

func BenchmarkAddressRequest(b *testing.B) { benchmark(b, []byte{0, 0}) }

func BenchmarkNATPMPRenewal(b *testing.B) {
	benchmark(b, natpmp.Request{Opcode: natpmp.MapUDP, InternalPort: 40000, SuggestedPort: 40000, Lifetime: time.Hour}.Append(nil))
}

func BenchmarkAnnounce(b *testing.B) {
	benchmark(b, pcp.Request{Client: netip.MustParseAddr("127.0.0.2")}.Append(nil))
}

func BenchmarkMapRenewal(b *testing.B) {
	benchmark(b, pcp.Request{
		Opcode: pcp.Map, Lifetime: time.Hour, Client: netip.MustParseAddr("127.0.0.2"),
		Mapping: pcp.Mapping{Protocol: 17, InternalPort: 40000, External: netip.AddrPortFrom(netip.IPv4Unspecified(), 40000)},
	}.Append(nil))
}
