package pcpd_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
	"igdd/pkg/pcp"
	"igdd/pkg/pcpd"
	"igdd/pkg/portmap"
	"igdd/pkg/portmap/portmaptest"
)

// outer is a forwarded endpoint, which differs from the announced address and from every
// port that is asked for.
var outer = netip.MustParseAddrPort("11.22.33.46:51000")

// behind returns a setup with a router in front that does the same for every mapping; no
// address is announced but the uplink's.
func behind(f portmap.Forwarding) setup {
	s := defaultSetup()
	s.network.Upstream, s.network.Uplink = true, netlab.RouterWAN.Addr()
	s.upstream = &portmaptest.Upstream{Answer: func(m *portmap.Mapping) (portmap.Report, bool) {
		return portmap.Report{Key: m.Key, Forwarding: f}, f.State != portmap.Asking
	}}
	return s
}

func reachable(external netip.AddrPort) portmap.Forwarding {
	return portmap.Forwarding{State: portmap.Reachable, External: external}
}

// report changes what the router in front does for the mapping of a UDP port.
func (g *gateway) report(t *testing.T, port uint16, f portmap.Forwarding) {
	t.Helper()
	r := portmap.Report{Key: portmap.Key{Protocol: portmap.UDP, External: port}, Forwarding: f}
	if err := g.table.Report(context.Background(), []portmap.Report{r}); err != nil {
		t.Fatal(err)
	}
}

// withSuggestion returns the request with a suggested external endpoint.
func withSuggestion(r pcp.Request, external netip.AddrPort) pcp.Request {
	r.External = external
	return r
}

func TestClientsAreToldTheOutermostEndpoint(t *testing.T) {
	t.Parallel()
	s := behind(reachable(outer))
	g := serve(t, newLab(t), s)
	if r := g.askPCP(t, client, mapUDP(40000, 40000, nonceA)); r.Result != pcp.Success || r.External != outer {
		t.Errorf("MAP is answered %v with %v", r.Result, r.External)
	}
	if r := g.askNATPMP(t, client, natpmp.Request{Opcode: natpmp.MapUDP, InternalPort: 40002, Lifetime: time.Hour}); r.ExternalPort != outer.Port() {
		t.Errorf("NAT-PMP is told port %d", r.ExternalPort)
	}
	if r := g.askNATPMP(t, client, natpmp.Request{Opcode: natpmp.Address}); r.External != s.network.External {
		t.Errorf("NAT-PMP is told address %v", r.External)
	}
}

// TestUnreachableMappingsHaveTheUplinksAddress announces another address than the
// uplink's own.
func TestUnreachableMappingsHaveTheUplinksAddress(t *testing.T) {
	t.Parallel()
	s := behind(portmap.Forwarding{State: portmap.Unreachable, Reason: "it does not answer"})
	s.network.External = otherWAN
	g := serve(t, newLab(t), s)
	want := netip.AddrPortFrom(s.network.Uplink, 40000)
	if r := g.askPCP(t, client, mapUDP(40000, 40000, nonceA)); r.Result != pcp.Success || r.External != want {
		t.Errorf("MAP is answered %v with %v", r.Result, r.External)
	}
	if r := g.askNATPMP(t, client, natpmp.Request{Opcode: natpmp.Address}); r.External != otherWAN {
		t.Errorf("NAT-PMP is told address %v", r.External)
	}
}

// TestPreferFailureKnowsTheOutermostEndpoint renews with what the client was told, whose
// address is not the announced one.
func TestPreferFailureKnowsTheOutermostEndpoint(t *testing.T) {
	t.Parallel()
	s := behind(reachable(outer))
	g := serve(t, newLab(t), s)
	exact := mapUDP(40000, 0, nonceA, pcp.PreferFailure{})
	if r := g.askPCP(t, client, withSuggestion(exact, outer)); r.Result != pcp.CannotProvideExternal {
		t.Errorf("an address that is not announced: %v", r.Result)
	}
	if r := g.askPCP(t, client, mapUDP(40000, 40000, nonceA)); r.Result != pcp.Success || r.External != outer {
		t.Fatalf("MAP is answered %v with %v", r.Result, r.External)
	}
	for name, suggested := range map[string]netip.AddrPort{
		"any address": netip.AddrPortFrom(netip.IPv4Unspecified(), outer.Port()), "what it was told": outer,
	} {
		if r := g.askPCP(t, client, withSuggestion(exact, suggested)); r.Result != pcp.Success || r.External != outer {
			t.Errorf("%s: %v with %v", name, r.Result, r.External)
		}
	}
	for name, r := range map[string]pcp.Request{
		"the router's own port": withSuggestion(exact, netip.AddrPortFrom(netip.IPv4Unspecified(), 40000)),
		"another address":       withSuggestion(exact, netip.AddrPortFrom(otherWAN, outer.Port())),
		"the announced address": withSuggestion(exact, netip.AddrPortFrom(s.network.External, outer.Port())),
		"another client's port": withSuggestion(mapUDP(40001, 0, nonceB, pcp.PreferFailure{}), outer),
	} {
		if got := g.askPCP(t, client, r); got.Result != pcp.CannotProvideExternal {
			t.Errorf("%s: %v", name, got.Result)
		}
	}
}

// TestNotForwardedIsRefused asks for a port in place of which the router in front
// forwards another.
func TestNotForwardedIsRefused(t *testing.T) {
	t.Parallel()
	g := serve(t, newLab(t), behind(reachable(outer)))
	if r := g.askPCP(t, client, mapUDP(40000, 40000, nonceA, pcp.PreferFailure{})); r.Result != pcp.CannotProvideExternal {
		t.Errorf("answered %v", r.Result)
	}
	if n := len(g.table.List()); n != 0 {
		t.Errorf("the client has %d mappings", n)
	}
}

// TestUpdatesOfForwarding changes what the router in front does: the client is told each
// time, in three copies, without an announcement.
func TestUpdatesOfForwarding(t *testing.T) {
	t.Parallel()
	s := behind(portmap.Forwarding{State: portmap.Unreachable})
	g := serve(t, newLab(t), s)
	e := g.addMapping(t, mapUDP(40000, 40000, nonceA))
	local, other := netip.AddrPortFrom(s.network.Uplink, 40000), netip.AddrPortFrom(outer.Addr(), 51001)
	for _, step := range []struct {
		now  portmap.Forwarding
		want netip.AddrPort
	}{
		{reachable(outer), outer},
		{portmap.Forwarding{State: portmap.Unreachable}, local},
		{reachable(outer), outer},
		{reachable(other), other},
	} {
		g.report(t, 40000, step.now)
		g.server.Update()
		g.server.Update() // the client is told already
		for n := range 3 {
			if r := e.response(t); r.Result != pcp.Success || r.External != step.want || r.Nonce != nonceA {
				t.Errorf("copy %d of the update to %v: %+v", n, step.now, r)
			}
		}
	}
	g.server.Announce()
	e.demandSilence(t)
}

// TestUpdateOfAnExactMapping moves a mapping whose client accepts no other port.
func TestUpdateOfAnExactMapping(t *testing.T) {
	t.Parallel()
	g := serve(t, newLab(t), behind(reachable(netip.AddrPortFrom(outer.Addr(), 40000))))
	e := g.addMapping(t, mapUDP(40000, 40000, nonceA, pcp.PreferFailure{}))
	g.report(t, 40000, reachable(outer))
	g.server.Update()
	if r := e.response(t); r.Result != pcp.CannotProvideExternal || r.Nonce != nonceA {
		t.Errorf("update %+v", r)
	}
}

// TestNoUpdateBeforeTheResponse looks for updates while the answer to a request is on its
// way: nothing overtakes that.
func TestNoUpdateBeforeTheResponse(t *testing.T) {
	t.Parallel()
	s := behind(reachable(outer))
	late := make(chan func(), 1)
	s.wrapTable = func(t *portmap.Table) pcpd.Table { return lateTable{t, late} }
	g := serve(t, newLab(t), s)
	c, err := g.open(g.lab.Clients[0], netip.AddrPortFrom(client, 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	r := mapUDP(40000, 40000, nonceA)
	r.Client = client
	if err := send(c, g.lab.Clients[0], router, r.Append(nil)); err != nil {
		t.Fatal(err)
	}
	answer, e := <-late, &groupListener{c}
	g.server.Update()
	e.demandSilence(t)
	answer()
	if got := e.response(t); got.External != outer {
		t.Errorf("response %+v", got)
	}
}

// lateTable is a table that gives its answers when they are called for.
type lateTable struct {
	*portmap.Table
	late chan func()
}

func (l lateTable) Submit(r portmap.Request, answer func(portmap.Answer)) bool {
	return l.Table.Submit(r, func(a portmap.Answer) { l.late <- func() { answer(a) } })
}
