package pcpd_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"igdd/pkg/netlab"
	"igdd/pkg/pcp"
	"igdd/pkg/portmap"
)

// forward makes the router forward a UDP port itself.
func (g *gateway) forward(t *testing.T, port uint16) {
	t.Helper()
	g.network.Forwards = []portmap.Forward{{Protocol: portmap.UDP, External: portmap.PortRange{First: port, Last: port}}}
	if err := g.table.SetNetworkState(context.Background(), g.network); err != nil {
		t.Fatal(err)
	}
}

// forbid loads a rule that forbids all ports of a client.
func (g *gateway) forbid(t *testing.T, a netip.Addr) {
	t.Helper()
	all := portmap.Ports{{Last: 65535}}
	rule := portmap.Rule{External: all, Network: a, Mask: ^uint32(0), Internal: all}
	if a.Is6() {
		rule = portmap.Rule{External: all, Prefix: netip.PrefixFrom(a, 128), Internal: all}
	}
	p := defaultSetup().policy
	p.Rules = []portmap.Rule{rule}
	if err := g.table.SetPolicy(context.Background(), &p); err != nil {
		t.Fatal(err)
	}
}

// demandSilence demands that nothing comes within a second, in which all copies
// of an update would.
func (l *groupListener) demandSilence(t *testing.T) {
	t.Helper()
	l.SetReadDeadline(time.Now().Add(time.Second))
	reply := make([]byte, 2048)
	if n, _, err := l.ReadFromUDPAddrPort(reply); err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("received %x, %v", reply[:n], err)
	}
}

// TestLostMapping closes one of two mappings: its client gets the error that it
// would get now, three times, with the epoch that goes on.
func TestLostMapping(t *testing.T) {
	t.Parallel()
	lab := newLab(t)
	narrow := func(t *testing.T, g *gateway) {
		p := defaultSetup().policy
		p.ExternalPorts = new(portmap.PortSet)
		if err := g.table.SetPolicy(context.Background(), &p); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		options  []pcp.Option
		close    func(*testing.T, *gateway)
		want     pcp.Result
		lifetime time.Duration
	}{
		"forbidden":               {nil, func(t *testing.T, g *gateway) { g.forbid(t, client) }, pcp.NotAuthorized, 30 * time.Minute},
		"forwarded":               {nil, func(t *testing.T, g *gateway) { g.forward(t, 40000) }, pcp.NoResources, 30 * time.Second},
		"not provided any more":   {nil, narrow, pcp.NoResources, 30 * time.Second},
		"not provided, and exact": {[]pcp.Option{pcp.PreferFailure{}}, narrow, pcp.CannotProvideExternal, 30 * time.Minute},
		"forwarded, and exact":    {[]pcp.Option{pcp.PreferFailure{}}, func(t *testing.T, g *gateway) { g.forward(t, 40000) }, pcp.CannotProvideExternal, 30 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			g := serve(t, lab, defaultSetup())
			request := mapUDP(40000, 40000, nonceA, test.options...)
			e := g.addMapping(t, request)
			began := time.Now()
			test.close(t, g)
			for n, due := range []time.Duration{0, 250 * time.Millisecond, 750 * time.Millisecond} {
				r := e.response(t)
				if late := time.Since(began) - due; late < 0 || late > 2*time.Second {
					t.Errorf("copy %d is %v late", n, late)
				}
				checkResult(t, r, test.want, test.lifetime)
				if r.Mapping != request.Mapping {
					t.Errorf("copy %d: %+v", n, r)
				}
			}
			e.demandSilence(t)
		})
	}
}

// TestLostPinhole closes a pinhole.
func TestLostPinhole(t *testing.T) {
	t.Parallel()
	lab := newLab(t)
	g := serve(t, lab, defaultSetup())
	host := netip.MustParseAddr("2001:db8:50::10")
	c, err := g.open(lab.Clients[0], netip.AddrPortFrom(host, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	request := mapUDP(40000, 40000, nonceA)
	request.Client = host
	if err := send(c, lab.Clients[0], netlab.RouterLAN6.Addr(), request.Append(nil)); err != nil {
		t.Fatal(err)
	}
	e := &groupListener{c}
	for _, want := range []pcp.Result{pcp.Success, pcp.NotAuthorized} {
		a := e.next(t)
		if r, err := pcp.ParseResponse(a.payload); err != nil || r.Result != want || a.from != netip.AddrPortFrom(netlab.RouterLAN6.Addr(), 5351) {
			t.Fatalf("%+v from %v, %v", r, a.from, err)
		}
		if want == pcp.Success {
			g.forbid(t, host)
		}
	}
}

// TestLostMappingStopsWithARequest requests another port after the first copy.
func TestLostMappingStopsWithARequest(t *testing.T) {
	t.Parallel()
	g := serve(t, newLab(t), defaultSetup())
	e, other := g.addMapping(t, mapUDP(40000, 40000, nonceA)), g.addMapping(t, mapUDP(40001, 40001, nonceA))
	g.forward(t, 40000)
	checkResult(t, e.response(t), pcp.NoResources, 30*time.Second)
	g.renew(t, e, mapUDP(40000, 0, nonceB))
	e.demandSilence(t)
	other.demandSilence(t)
}
