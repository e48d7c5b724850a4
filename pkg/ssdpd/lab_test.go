package ssdpd_test

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"igdd/pkg/lan"
	"igdd/pkg/netlab"
	"igdd/pkg/ssdp"
	"igdd/pkg/ssdpd"
)

const (
	uuidRoot       = "11111111-2222-3333-4444-5555555555aa"
	uuidWAN        = "11111111-2222-3333-4444-5555555555ab"
	uuidConnection = "11111111-2222-3333-4444-5555555555ac"

	deviceURN  = "urn:schemas-upnp-org:device:"
	serviceURN = "urn:schemas-upnp-org:service:"
)

// The two descriptions of a gateway with IPv6.
var (
	description1 = &ssdp.Description{Path: "/rootDesc.xml", ConfigID: 1111, Devices: []ssdp.Device{
		{UUID: uuidRoot, Type: deviceURN + "InternetGatewayDevice:1", Services: []string{serviceURN + "Layer3Forwarding:1"}},
		{UUID: uuidWAN, Type: deviceURN + "WANDevice:1", Services: []string{serviceURN + "WANCommonInterfaceConfig:1"}},
		{UUID: uuidConnection, Type: deviceURN + "WANConnectionDevice:1", Services: []string{serviceURN + "WANIPConnection:1"}},
	}}
	description2 = &ssdp.Description{Path: "/rootDesc2.xml", ConfigID: 2222, Devices: []ssdp.Device{
		{UUID: uuidRoot, Type: deviceURN + "InternetGatewayDevice:2", Services: []string{serviceURN + "Layer3Forwarding:1"}},
		{UUID: uuidWAN, Type: deviceURN + "WANDevice:2", Services: []string{serviceURN + "WANCommonInterfaceConfig:1"}},
		{UUID: uuidConnection, Type: deviceURN + "WANConnectionDevice:2", Services: []string{
			serviceURN + "WANIPConnection:2", serviceURN + "WANIPv6FirewallControl:1"}},
	}}
)

var (
	client1   = netip.MustParseAddr("192.168.50.10")
	client2   = netip.MustParseAddr("192.168.50.11")
	client3   = netip.MustParseAddr("192.168.60.10")
	client1v6 = netip.MustParseAddr("2001:db8:50::10")
	linkLocal = netip.MustParsePrefix("fe80::1/64")
)

func newLab(t *testing.T) *netlab.Lab {
	t.Helper()
	return netlab.NewLab(t, netlab.Layout{Clients: 2, SecondLAN: true, IPv6: true})
}

// lanInterface is an interface of the router; its addresses can change.
type lanInterface struct {
	name  string
	index int

	mu       sync.Mutex
	prefixes []netip.Prefix
}

func (l *lanInterface) Name() string { return l.name }
func (l *lanInterface) Index() int   { return l.index }
func (l *lanInterface) Prefixes() []netip.Prefix {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.prefixes
}

func (l *lanInterface) set(prefixes ...netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.prefixes = prefixes
}

// unsavedBootID is a BOOTID that does not outlive the test.
type unsavedBootID uint32

func (u *unsavedBootID) BootID() uint32            { return uint32(*u) }
func (u *unsavedBootID) SetBootID(id uint32) error { *u = unsavedBootID(id); return nil }

// gateway is a server on both LANs of the lab.
type gateway struct {
	*ssdpd.Server
	first, second *lanInterface
	stop          func() // ends it and waits
}

// serve starts a gateway and stops it when the test ends.
func serve(t *testing.T, lab *netlab.Lab, interval time.Duration, descriptions ...*ssdp.Description) *gateway {
	t.Helper()
	g := &gateway{
		Server: ssdpd.New(ssdpd.Options{
			Hosts:        lan.NewHosts(nil, slog.New(slog.DiscardHandler)),
			Descriptions: descriptions, Port: 5000, IPv6: true, Interval: interval,
			Saved: new(unsavedBootID), Product: "Linux/6 UPnP/1.1 igdd/1", Log: slog.New(slog.DiscardHandler),
		}),
		first:  &lanInterface{name: "lan0", prefixes: []netip.Prefix{netlab.RouterLAN, netlab.RouterLAN6, linkLocal}},
		second: &lanInterface{name: "lan1", prefixes: []netip.Prefix{netlab.RouterLAN2}},
	}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	for _, l := range []*lanInterface{g.first, g.second} {
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

func listen(lab *netlab.Lab, s *ssdpd.Server, l *lanInterface) (listener *ssdpd.Listener, err error) {
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
