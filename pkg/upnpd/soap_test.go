package upnpd

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"igdd/pkg/lan"
	"igdd/pkg/netlab"
	"igdd/pkg/portmap"
	"igdd/pkg/portmap/portmaptest"
	"igdd/pkg/upnp"
	"igdd/pkg/vectors"
	"igdd/pkg/vectors/soap"
)

// hosts are the addresses of the vectors, all on one loopback device.
var hosts = map[string]string{
	"c1": "192.168.77.10", "c2": "192.168.77.20", "c3": "192.168.78.10", "wan": "45.67.89.1", "wan_other": "45.67.89.200",
	"gw1": "192.168.77.1", "gw2": "192.168.78.1", "ext": "45.67.89.10", "ext2": "45.67.89.11", "bcast1": "192.168.77.255",
	"c1v6": "2a0a:77:1::10", "c2v6": "2a0a:77:1::20", "gwv6": "2a0a:77:1::1", "wanv6": "2a0a:77:ff::1",
	"uuid_root": "11111111-2222-3333-4444-555555555500",
	"uuid_wd":   "11111111-2222-3333-4444-555555555501", "uuid_wcd": "11111111-2222-3333-4444-555555555502",
}

// testNet is a namespace that has them all.
type testNet struct{ *netlab.Namespace }

func newTestNet(t testing.TB) testNet {
	t.Helper()
	s := testNet{netlab.New(t, "upnpd")}
	for name, a := range hosts {
		addr, err := netip.ParseAddr(a)
		if err == nil && name != "bcast1" && name != "wan_other" {
			s.Address(t, "lo", netip.PrefixFrom(addr, addr.BitLen()))
		}
	}
	return s
}

// newTestNets returns as many namespaces as vectors are played at a time: most of
// those that wait.
func newTestNets(t testing.TB) (nets []testNet) {
	t.Helper()
	for range 8 {
		nets = append(nets, newTestNet(t))
	}
	return nets
}

// Name, Index and Prefixes make the network the router's LAN interface.
func (s testNet) Name() string { return "lo" }
func (s testNet) Index() int   { return 1 }

func (s testNet) Prefixes() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix(hosts["gw1"] + "/24"), netip.MustParsePrefix(hosts["gw2"] + "/24"),
		netip.MustParsePrefix(hosts["gwv6"] + "/64"),
	}
}

// dial connects from a host.
func (s testNet) dial(from string, to netip.AddrPort) (c net.Conn, err error) {
	source := hosts[from]
	if to.Addr().Is6() {
		source = hosts[from+"v6"]
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}, Timeout: 5 * time.Second}
	err = s.Do(func() error { c, err = d.Dial("tcp", to.String()); return err })
	return c, err
}

// testGateway is a gateway with a real table and a firewall of memory.
type testGateway struct {
	testNet
	firewall *portmaptest.Firewall
	table    *portmap.Table
	server   *Server
	around   portmap.NetworkState

	mu     sync.Mutex // guards uplink
	uplink Uplink
	queued bool
}

// gatewayConfig is what a configuration of the vectors differs in from the standard one.
type gatewayConfig struct {
	versions []upnp.Version
	policy   portmap.Policy
	external string
	uplink   Uplink
	traffic  Traffic
	taken    []uint16
	upstream *portmaptest.Upstream // the router in front; nil: there is none
	queued   bool                  // each connection is served by a goroutine of its own
}

// served returns the standard configuration, with connections served in one way.
func served(atOnce bool) gatewayConfig {
	p := gatewayConfigOf("default")
	p.queued = !atOnce
	return p
}

// rule lets both LANs have these external ports, or one of them.
func rule(network string, first, last uint16) portmap.Rule {
	mask := uint32(0xffffff00)
	return portmap.Rule{
		Allow: true, External: portmap.Ports{{First: first, Last: last}}, Network: netip.MustParseAddr(network), Mask: mask,
		Internal: portmap.Ports{{First: 1024, Last: 65535}},
	}
}

// gatewayConfigOf returns a configuration of the vectors.
func gatewayConfigOf(config string) gatewayConfig {
	p := gatewayConfig{
		versions: []upnp.Version{upnp.V2},
		policy: portmap.Policy{Secure: true, Rules: []portmap.Rule{
			rule("192.168.77.0", 1024, 65535), rule("192.168.78.0", 1024, 65535),
		}},
		external: hosts["ext"],
		uplink:   Uplink{Up: true, Since: time.Now().Add(-time.Hour)},
		traffic:  Traffic{UpstreamRate: 1e6, DownstreamRate: 1e10},
	}
	switch config {
	case "v1":
		p.versions = []upnp.Version{upnp.V1}
	case "both":
		p.versions = []upnp.Version{upnp.V1, upnp.V2}
	case "open":
		p.policy.Secure = false
	case "wan_down":
		p.external, p.uplink.Since = "", time.Time{}
	case "wan_link_down":
		p.external, p.uplink.Since, p.uplink.Up = "", time.Time{}, false
	case "wan_cgnat":
		p.external = "100.64.0.5"
	case "wan_listener":
		p.taken = []uint16{4022}
	case "narrow":
		p.policy.Rules = []portmap.Rule{rule("192.168.77.0", 4000, 4001)}
	}
	all := portmap.Ports{{Last: 65535}}
	p.policy.Rules = append(p.policy.Rules, portmap.Rule{External: all, Network: netip.IPv4Unspecified(), Internal: all})
	return p
}

// startGateway starts a gateway that listens; it is gone when the test ends.
func (s testNet) startGateway(t testing.TB, p gatewayConfig) *testGateway {
	t.Helper()
	h := s.newGateway(t, p)
	h.listen(t)
	return h
}

// listen makes a gateway listen until the test ends.
func (h *testGateway) listen(t testing.TB) {
	t.Helper()
	var l *Listener
	if err := h.Listen(func() (err error) { l, err = h.server.Listen(h.testNet); return err }); err != nil {
		t.Fatal(err)
	}
	if h.queued {
		l.begin = func(c *connection, _ arrival, limiter *connLimiter, _ *immediate) func(stream) {
			return func(s stream) { l.serve(c, s, limiter) }
		}
	}
	h.run(t, l.Serve)
}

// newGateway starts a gateway that listens nowhere.
func (s testNet) newGateway(t testing.TB, p gatewayConfig) *testGateway {
	t.Helper()
	h := &testGateway{testNet: s, firewall: new(portmaptest.Firewall), uplink: p.uplink, queued: p.queued}
	quiet := slog.New(slog.DiscardHandler)
	h.around = portmap.NetworkState{LANs: s.Prefixes(), Own: []netip.Addr{netip.MustParseAddr(hosts["ext"])}}
	if p.external != "" {
		h.around.External = netip.MustParseAddr(p.external)
	}
	var upstream portmap.Upstream
	if p.upstream != nil {
		upstream, h.around.Upstream = p.upstream, true
		p.upstream.Report = func(ctx context.Context, list []portmap.Report) error { return h.table.Report(ctx, list) }
	}
	h.table = portmap.NewTable(portmap.Options{
		Upstream: upstream,
		Policy:   &p.policy, Firewall: h.firewall, Store: new(portmaptest.Store), Network: h.around,
		Listening: func(protocol portmap.Protocol, port uint16) bool {
			return protocol == portmap.TCP && slices.Contains(p.taken, port)
		},
		Listeners: func(portmap.Protocol) *portmap.PortSet { return new(portmap.PortSet) },
		Committed: func([]portmap.Change, bool) { h.server.Changed() },
		Log:       quiet,
	})
	uuid, err := upnp.ParseUUID(hosts["uuid_root"])
	if err != nil {
		t.Fatal(err)
	}
	h.server = New(Options{
		Gateway: upnp.Gateway{UUID: uuid, FriendlyName: "Router", Manufacturer: "igdd", ModelName: "igdd", Pinholes: true},
		Port:    5555, IPv6: true, Versions: p.versions, Product: "Linux/6 UPnP/1.1 igdd/1", Table: h.table, Log: quiet,
		Hosts:   lan.NewHosts(nil, quiet),
		Uplink:  h.Uplink,
		Traffic: func() Traffic { return p.traffic },
		Packets: func(m *portmap.Mapping) (uint64, error) { return uint64(m.Internal.Port()) - 5000, nil },
		Leased:  func(string) []netip.Addr { return nil },
	})
	h.server.subscriptions.dial = s.dialSubscriber
	h.run(t, h.table.Run, h.server.Run)
	<-h.table.Started()
	return h
}

// Uplink is how the uplink is now.
func (h *testGateway) Uplink() Uplink {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.uplink
}

// run runs parts of the gateway until the test ends, the last first to go.
func (h *testGateway) run(t testing.TB, parts ...func(context.Context) error) {
	for _, part := range parts {
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() { ended <- part(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// gateway returns the gateway as the vectors know it.
func (h *testGateway) gateway() *soap.Gateway {
	return &soap.Gateway{
		Port: 5555, Description: h.server.Descriptions()[0].Path(), Tokens: hosts, Dial: h.dial,
		Reaches: func(port uint16, host netip.AddrPort) bool {
			return slices.ContainsFunc(h.firewall.Open(), func(m *portmap.Mapping) bool {
				return m.External == port && m.Protocol == portmap.TCP && m.Internal == host && m.Enabled() && m.Filters() == nil
			})
		},
	}
}

// TestPinholesByVersion1 plays what the vectors want of the IPv6 firewall control
// against a gateway that shows both versions, by the description of version 1.
func TestPinholesByVersion1(t *testing.T) {
	t.Parallel()
	s := newTestNet(t)
	played := 0
	for _, v := range soap.Load(t).Vectors {
		if v.Config == "default" && v.Service == "WANIPv6FirewallControl:1" {
			played++
			t.Run(v.ID, func(t *testing.T) { v.Play(t, s.startGateway(t, gatewayConfigOf("both")).gateway()) })
		}
	}
	if played == 0 {
		t.Error("no vector is of the IPv6 firewall control")
	}
}

// TestVectors plays all exchanges and documents of the vectors over real
// connections.
func TestVectors(t *testing.T) {
	t.Parallel()
	nets, file := newTestNets(t), soap.Load(t)
	exchanges := slices.DeleteFunc(file.Vectors, func(v soap.Vector) bool {
		return v.Config == "pinholes_off" // no setting does that: without IPv6 the service is not on show
	})
	vectors.PlayInParallel(t, nets, exchanges, func(v soap.Vector) string { return v.ID },
		func(t *testing.T, s testNet, v soap.Vector) {
			v.Play(t, s.startGateway(t, gatewayConfigOf(v.Config)).gateway())
		})
	vectors.PlayInParallel(t, nets, file.Documents, func(d soap.Document) string { return d.ID },
		func(t *testing.T, s testNet, d soap.Document) {
			d.Play(t, s.startGateway(t, gatewayConfigOf(d.Config)).gateway(), file.Services)
		})
}
