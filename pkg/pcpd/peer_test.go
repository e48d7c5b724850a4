package pcpd_test

import (
	"net/netip"
	"testing"
	"time"

	"igdd/pkg/pcp"
	"igdd/pkg/portmap"
)

// peerUDP returns a PEER request for a flow from a UDP port to a remote host.
func peerUDP(port, suggested uint16, nonce pcp.Nonce, remote string) pcp.Request {
	r := mapUDP(port, suggested, nonce)
	r.Opcode, r.Remote = pcp.Peer, netip.MustParseAddrPort(remote)
	if r.Remote.Addr().Is6() {
		r.External = netip.AddrPortFrom(netip.IPv6Unspecified(), suggested)
	}
	return r
}

// withLifetime returns a request with another lifetime.
func withLifetime(r pcp.Request, d time.Duration) pcp.Request {
	r.Lifetime = d
	return r
}

// withExternalAddr returns a request with another suggested external address.
func withExternalAddr(r pcp.Request, a string) pcp.Request {
	r.External = netip.AddrPortFrom(netip.MustParseAddr(a), r.External.Port())
	return r
}

func TestPeer(t *testing.T) {
	t.Parallel()
	s := defaultSetup()
	s.peer = true
	g := serve(t, newLab(t), s)
	const web, other = "93.184.216.34:443", "93.184.216.34:80"
	unsupported := peerUDP(40000, 0, nonceA, web)
	unsupported.Protocol = 132
	for _, step := range []struct {
		name     string
		source   netip.Addr
		request  pcp.Request
		result   pcp.Result
		lifetime time.Duration
		external string
	}{
		{"made on a suggested port", client, peerUDP(40000, 41000, nonceA, web), pcp.Success, time.Hour, "11.22.33.44:41000"},
		{"kept despite another suggestion", client, withExternalAddr(peerUDP(40000, 42000, nonceA, web), "8.8.8.8"), pcp.Success, time.Hour, "11.22.33.44:41000"},
		{"query of its lifetime", client, withLifetime(peerUDP(40000, 0, nonceA, web), 0), pcp.Success, time.Hour, "11.22.33.44:41000"},
		{"wrong nonce", client, peerUDP(40000, 0, nonceB, web), pcp.NotAuthorized, time.Hour, ""},
		{"MAP shares its port", client, mapUDP(40000, 45000, nonceB), pcp.Success, time.Hour, "11.22.33.44:41000"},
		{"another flow too", client, peerUDP(40000, 0, nonceB, other), pcp.Success, time.Hour, "11.22.33.44:41000"},
		{"MAP's delete leaves it", client, deletion(mapUDP(40000, 0, nonceB)), pcp.Success, 0, "0.0.0.0:0"},
		{"MAP does not delete it", client, deletion(mapUDP(40000, 0, nonceA)), pcp.NotAuthorized, 30 * time.Minute, ""},
		{"port of another client", second, peerUDP(40000, 41000, nonceA, web), pcp.CannotProvideExternal, time.Hour + 2*time.Minute, ""},
		{"another address", second, withExternalAddr(peerUDP(40000, 0, nonceA, web), "8.8.8.8"), pcp.CannotProvideExternal, 30 * time.Minute, ""},
		{"query of a new flow", second, withLifetime(peerUDP(40000, 0, nonceA, web), 0), pcp.Success, 2 * time.Minute, "11.22.33.44:40000"},
		{"neither TCP nor UDP", client, unsupported, pcp.UnsuppProtocol, 30 * time.Minute, ""},
		{"IPv6", client6, peerUDP(40000, 0, nonceA, "[2001:db8:99::2]:443"), pcp.Success, time.Hour, "[2001:db8:50::10]:40000"},
		{"IPv6, another address", client6, withExternalAddr(peerUDP(40001, 0, nonceA, "[2001:db8:99::2]:443"), "2001:db8:50::99"), pcp.CannotProvideExternal, 30 * time.Minute, ""},
	} {
		r := g.askPCP(t, step.source, step.request)
		if r.Result != step.result || r.Lifetime > step.lifetime || r.Lifetime < step.lifetime-5*time.Second {
			t.Errorf("%s: %v for %v, want %v for %v", step.name, r.Result, r.Lifetime, step.result, step.lifetime)
		}
		want := step.request.Mapping
		if step.external != "" {
			want.External = netip.MustParseAddrPort(step.external)
		}
		if r.Opcode != step.request.Opcode || r.Mapping != want {
			t.Errorf("%s: %+v, want %+v", step.name, r.Mapping, want)
		}
	}
	m, ok := g.table.Lookup(portmap.Key{Protocol: portmap.UDP, External: 41000})
	if !ok || m.Enabled() || len(m.Outbound()) != 2 {
		t.Errorf("the table has %+v", m)
	}
}

func TestPeerUpdate(t *testing.T) {
	t.Parallel()
	s := defaultSetup()
	s.peer = true
	g := serve(t, newLab(t), s)
	request := withExternalAddr(peerUDP(40000, 41000, nonceA, "93.184.216.34:443"), "11.22.33.44")
	e := g.addMapping(t, request)
	if err := g.SetUplink(otherWAN); err != nil {
		t.Fatal(err)
	}
	r := e.response(t)
	checkResult(t, r, pcp.Success, time.Hour)
	if r.Opcode != pcp.Peer || r.Remote != request.Remote || r.External != netip.AddrPortFrom(otherWAN, 41000) {
		t.Errorf("update %+v", r)
	}
}

func TestMapDisabled(t *testing.T) {
	t.Parallel()
	s := defaultSetup()
	s.refuseMap = true
	g := serve(t, newLab(t), s)
	checkResult(t, g.askPCP(t, client, mapUDP(40000, 40000, nonceA)), pcp.NotAuthorized, 30*time.Minute)
	checkResult(t, g.askPCP(t, client, pcp.Request{}), pcp.Success, 0)
}
