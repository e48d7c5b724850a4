package pcpd_test

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
	"igdd/pkg/pcp"
	"igdd/pkg/portmap"
)

// onlyMapping returns the only mapping of the table.
func (g *gateway) onlyMapping(t *testing.T) *portmap.Mapping {
	t.Helper()
	list := g.table.List()
	if len(list) != 1 {
		t.Fatalf("the table has %d mappings", len(list))
	}
	return list[0]
}

// checkResult checks result and lifetime of a response, the latter within 5 s.
func checkResult(t *testing.T, r pcp.Response, result pcp.Result, lifetime time.Duration) {
	t.Helper()
	if r.Result != result || r.Lifetime > lifetime || r.Lifetime < lifetime-5*time.Second {
		t.Errorf("%v for %v, want %v for %v", r.Result, r.Lifetime, result, lifetime)
	}
}

func TestOnlyTheOwnerRenews(t *testing.T) {
	t.Parallel()
	g := serve(t, newLab(t), defaultSetup())
	checkResult(t, g.askPCP(t, client, mapUDP(40000, 40000, nonceA)), pcp.Success, time.Hour)

	otherNonce := mapUDP(40000, 40000, nonceB)
	checkResult(t, g.askPCP(t, client, otherNonce), pcp.NotAuthorized, time.Hour)
	checkResult(t, g.askPCP(t, client, deletion(otherNonce)), pcp.NotAuthorized, time.Hour)
	if r := g.askNATPMP(t, client, natpmp.Request{Opcode: natpmp.MapUDP, InternalPort: 40000}); r.Result != natpmp.NotAuthorized || r.Lifetime != 0 || r.ExternalPort != 0 {
		t.Errorf("NAT-PMP deletes a PCP mapping: %+v", r)
	}
	for _, all := range []pcp.Mapping{{Nonce: nonceA, Protocol: 17}, {Nonce: nonceA}} {
		checkResult(t, g.askPCP(t, client, pcp.Request{Opcode: pcp.Map, Mapping: all}), pcp.Success, 0)
	}
	if m := g.onlyMapping(t); m.External != 40000 || len(m.Claims) != 1 {
		t.Errorf("remaining: %+v", m)
	}
	checkResult(t, g.askPCP(t, client, deletion(mapUDP(40000, 0, nonceA))), pcp.Success, 0)
	if n := len(g.table.List()); n != 0 {
		t.Errorf("%d mappings after the delete", n)
	}
}

// TestAnotherNonceRenews renews with another nonce, as clients do that choose one for
// each request, where the policy allows it.
func TestAnotherNonceRenews(t *testing.T) {
	t.Parallel()
	s := defaultSetup()
	s.policy.LenientNonce = true
	g := serve(t, newLab(t), s)
	one := filter("11.22.33.1", 128)
	checkResult(t, g.askPCP(t, client, mapUDP(40000, 40000, nonceA, one, pcp.Description{Text: "first"})), pcp.Success, time.Hour)
	first := g.onlyMapping(t)

	checkResult(t, g.askPCP(t, client, withLifetime(mapUDP(40000, 40000, nonceB), 2*time.Hour)), pcp.Success, 2*time.Hour)
	for name, test := range map[string]struct {
		request pcp.Request
		options []pcp.Option
	}{
		"shorter lifetime":              {mapUDP(40000, 40000, nonceB), nil},
		"no port suggested":             {mapUDP(40000, 0, nonceB), nil},
		"another port suggested":        {mapUDP(40000, 41000, nonceB), nil},
		"PREFER_FAILURE":                {mapUDP(40000, 40000, nonceB, pcp.PreferFailure{}), []pcp.Option{pcp.PreferFailure{}}},
		"same filter":                   {mapUDP(40000, 40000, nonceB, one), []pcp.Option{one}},
		"description, which is ignored": {mapUDP(40000, 40000, nonceB, pcp.Description{Text: "second"}, one), []pcp.Option{one}},
	} {
		r := g.askPCP(t, client, test.request)
		checkResult(t, r, pcp.Success, 2*time.Hour)
		want := test.request.Mapping
		want.External = netip.AddrPortFrom(netlab.RouterWAN.Addr(), 40000)
		if r.Mapping != want || !slices.Equal(r.Options, test.options) {
			t.Errorf("%s: %+v, want %+v with %v", name, r, want, test.options)
		}
	}
	for name, r := range map[string]pcp.Request{
		"another filter": mapUDP(40000, 40000, nonceB, filter("11.22.33.2", 128)),
		"no filter":      mapUDP(40000, 40000, nonceB, filter("0.0.0.0", 0)),
		"a delete":       deletion(mapUDP(40000, 40000, nonceB)),
	} {
		if got := g.askPCP(t, client, r); got.Result != pcp.NotAuthorized || got.Mapping != r.Mapping {
			t.Errorf("%s: %+v", name, got)
		}
	}
	checkResult(t, g.askPCP(t, client, mapUDP(40000, 40001, nonceB, pcp.PreferFailure{})), pcp.CannotProvideExternal, 2*time.Hour+2*time.Minute)
	now := g.onlyMapping(t)
	want := first.Claims[0]
	want.Expires = now.Claims[0].Expires
	if !reflect.DeepEqual(now.Claims, []portmap.Claim{want}) || now.External != 40000 {
		t.Errorf("remaining: %+v, want %+v", now, first)
	}
	checkResult(t, g.askPCP(t, client, deletion(mapUDP(40000, 40000, nonceA))), pcp.Success, 0)
}

func TestNATPMPRenewsAndDeletes(t *testing.T) {
	t.Parallel()
	g := serve(t, newLab(t), defaultSetup())
	open := natpmp.Request{Opcode: natpmp.MapUDP, InternalPort: 40000, SuggestedPort: 40000, Lifetime: (1<<32 - 1) * time.Second}
	if r := g.askNATPMP(t, client, open); r.Lifetime != 24*time.Hour {
		t.Errorf("granted for %v", r.Lifetime)
	}
	open.SuggestedPort, open.Lifetime = 41000, time.Minute
	if r := g.askNATPMP(t, client, open); r.ExternalPort != 40000 || r.Lifetime != time.Minute {
		t.Errorf("renewal: %+v", r)
	}
	all := natpmp.Request{Opcode: natpmp.MapUDP}
	if r := g.askNATPMP(t, second, all); r.Result != natpmp.Success {
		t.Errorf("delete of nothing: %+v", r)
	}
	g.onlyMapping(t)
	if r := g.askNATPMP(t, client, all); r.Result != natpmp.Success || r.ExternalPort != 0 || r.Lifetime != 0 {
		t.Errorf("delete of all: %+v", r)
	}
	if n := len(g.table.List()); n != 0 {
		t.Errorf("%d mappings after the delete", n)
	}
}

func TestShortLifetimeIsRaised(t *testing.T) {
	t.Parallel()
	g := serve(t, newLab(t), defaultSetup())
	r := mapUDP(40000, 40000, nonceA)
	r.Lifetime = time.Second
	checkResult(t, g.askPCP(t, client, r), pcp.Success, 2*time.Minute)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	lab := newLab(t)
	for name, test := range map[string]struct {
		change   func(*setup)
		request  pcp.Request
		result   pcp.Result
		lifetime time.Duration
	}{
		"no external address": {
			func(s *setup) { s.network.External = netip.Addr{} },
			mapUDP(40000, 40000, nonceA), pcp.NetworkFailure, 30 * time.Second,
		},
		"no external address, PREFER_FAILURE": {
			func(s *setup) { s.network.External = netip.Addr{} },
			mapUDP(40000, 40000, nonceA, pcp.PreferFailure{}), pcp.NetworkFailure, 30 * time.Second,
		},
		"rules": {
			func(s *setup) { s.policy.Rules = rules() },
			mapUDP(80, 40000, nonceA), pcp.NotAuthorized, 30 * time.Minute,
		},
		"foreign external address": {
			func(*setup) {}, foreignSuggestion(), pcp.CannotProvideExternal, 30 * time.Minute,
		},
		"THIRD_PARTY outside the LAN": {
			func(s *setup) { s.thirdParty = true },
			mapUDP(40000, 40000, nonceA, pcp.ThirdParty{Internal: foreign.Addr()}), pcp.NotAuthorized, 30 * time.Minute,
		},
		"THIRD_PARTY is the router": {
			func(s *setup) { s.thirdParty = true },
			mapUDP(40000, 40000, nonceA, pcp.ThirdParty{Internal: router}), pcp.NotAuthorized, 30 * time.Minute,
		},
		"THIRD_PARTY of the other family": {
			func(s *setup) { s.thirdParty = true },
			mapUDP(40000, 40000, nonceA, pcp.ThirdParty{Internal: client6}), pcp.NotAuthorized, 30 * time.Minute,
		},
		"restriction of a static forward": {
			func(s *setup) { s.network.Forwards = []portmap.Forward{staticForward} },
			mapUDP(8080, 0, nonceA, filter("11.22.33.1", 128)), pcp.NotAuthorized, 30 * time.Minute,
		},
		"static forward elsewhere": {
			func(s *setup) { s.network.Forwards = []portmap.Forward{staticForward} },
			mapUDP(8080, 9999, nonceA, pcp.PreferFailure{}), pcp.CannotProvideExternal, 86520 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := defaultSetup()
			test.change(&s)
			g := serve(t, lab, s)
			r := g.askPCP(t, client, test.request)
			checkResult(t, r, test.result, test.lifetime)
			if r.Mapping != test.request.Mapping {
				t.Errorf("the error response has %+v", r.Mapping)
			}
			if n := len(g.table.List()); n != 0 {
				t.Errorf("%d mappings", n)
			}
		})
	}
}

var (
	client6       = netip.MustParseAddr("2001:db8:50::10")
	staticForward = portmap.Forward{
		Protocol: portmap.UDP,
		External: portmap.PortRange{First: 18080, Last: 18080},
		Target:   netip.AddrPortFrom(client, 8080),
	}
)

// foreignSuggestion returns a request for an external address that is not the
// router's.
func foreignSuggestion() pcp.Request {
	r := mapUDP(40000, 40000, nonceA, pcp.PreferFailure{})
	r.External = netip.MustParseAddrPort("8.8.8.8:40000")
	return r
}

func filter(network string, bits uint8) pcp.Filter {
	return pcp.Filter{PrefixLength: bits, Remote: netip.AddrPortFrom(netip.MustParseAddr(network), 0)}
}

func TestStaticForwardLastsForEver(t *testing.T) {
	t.Parallel()
	s := defaultSetup()
	s.network.Forwards = []portmap.Forward{staticForward}
	g := serve(t, newLab(t), s)
	r := g.askPCP(t, client, mapUDP(8080, 0, nonceA, pcp.Description{Text: "web"}))
	checkResult(t, r, pcp.Success, pcp.Forever)
	if r.External != netip.MustParseAddrPort("11.22.33.44:18080") || len(r.Options) != 0 {
		t.Errorf("%+v", r)
	}
	checkResult(t, g.askPCP(t, client, deletion(mapUDP(8080, 0, nonceA))), pcp.NotAuthorized, 30*time.Minute)
}

func TestThirdParty(t *testing.T) {
	t.Parallel()
	s := defaultSetup()
	s.thirdParty = true
	g := serve(t, newLab(t), s)
	forSecond := mapUDP(40000, 40000, nonceA, pcp.ThirdParty{Internal: second})
	r := g.askPCP(t, client, forSecond)
	checkResult(t, r, pcp.Success, time.Hour)
	if !reflect.DeepEqual(r.Options, forSecond.Options) {
		t.Errorf("options %+v", r.Options)
	}
	if m := g.onlyMapping(t); m.Internal != netip.AddrPortFrom(second, 40000) {
		t.Errorf("the mapping leads to %v", m.Internal)
	}
	forSecond.Lifetime = 0
	r = g.askPCP(t, client, forSecond)
	checkResult(t, r, pcp.Success, 0)
	if len(g.table.List()) != 0 || !reflect.DeepEqual(r.Options, forSecond.Options) {
		t.Errorf("after the delete: %+v", r)
	}
}

func TestFiltersAddUp(t *testing.T) {
	t.Parallel()
	g := serve(t, newLab(t), defaultSetup())
	for _, step := range []struct {
		options []pcp.Option
		result  pcp.Result
		want    string
	}{
		{[]pcp.Option{filter("11.22.33.1", 128)}, pcp.Success, "11.22.33.1/32"},
		{[]pcp.Option{filter("11.22.44.7", 120)}, pcp.Success, "11.22.33.1/32 11.22.44.0/24"},
		{nil, pcp.Success, "11.22.33.1/32 11.22.44.0/24"},
		{[]pcp.Option{filter("11.22.33.1", 128), filter("11.22.33.1", 128)}, pcp.Success, "11.22.33.1/32 11.22.44.0/24"},
		{[]pcp.Option{filter("1.1.1.1", 128), filter("2.2.2.2", 128), filter("3.3.3.3", 128)}, pcp.ExcessiveRemotePeers, "11.22.33.1/32 11.22.44.0/24"},
		{[]pcp.Option{filter("3.3.3.3", 128), filter("::", 0), filter("4.4.4.4", 128)}, pcp.Success, "4.4.4.4/32"},
		{[]pcp.Option{filter("0.0.0.0", 0)}, pcp.Success, ""},
	} {
		r := g.askPCP(t, client, mapUDP(40000, 40000, nonceA, step.options...))
		if r.Result != step.result || r.Result == pcp.Success && !reflect.DeepEqual(r.Options, step.options) {
			t.Errorf("%v: %v, %+v", step.options, r.Result, r.Options)
		}
		var got []string
		for _, f := range g.onlyMapping(t).Filters() {
			got = append(got, f.Prefix.String())
		}
		if strings.Join(got, " ") != step.want {
			t.Errorf("%v: filters are %v, want %q", step.options, got, step.want)
		}
	}
}

func TestDescriptionIsStoredAsAnswered(t *testing.T) {
	t.Parallel()
	g := serve(t, newLab(t), defaultSetup())
	for _, step := range []struct{ sent, stored string }{
		{"ssh", "ssh"},
		{"evil\r\nline", "evilline"},
		{strings.Repeat("ü", 400), strings.Repeat("ü", 128)},
	} {
		r := g.askPCP(t, client, mapUDP(40000, 40000, nonceA, pcp.Description{Text: step.sent}))
		if want := []pcp.Option{pcp.Description{Text: step.stored}}; !reflect.DeepEqual(r.Options, want) {
			t.Errorf("%q: answered %+v", step.sent, r.Options)
		}
		if got := g.onlyMapping(t).Description(); got != step.stored {
			t.Errorf("%q: stored %q", step.sent, got)
		}
	}
	if r := g.askPCP(t, client, mapUDP(40000, 40000, nonceA)); len(r.Options) != 0 || g.onlyMapping(t).Description() != strings.Repeat("ü", 128) {
		t.Errorf("renewal: %+v, stored %q", r.Options, g.onlyMapping(t).Description())
	}
	r := g.askPCP(t, client, mapUDP(40000, 40000, nonceA, pcp.Description{}))
	if want := []pcp.Option{pcp.Description{}}; !reflect.DeepEqual(r.Options, want) || strings.Contains(g.onlyMapping(t).Description(), "ü") {
		t.Errorf("erased: %+v, stored %q", r.Options, g.onlyMapping(t).Description())
	}
}

func TestPinholes(t *testing.T) {
	t.Parallel()
	g := serve(t, newLab(t), defaultSetup())
	request := func(suggested string, nonce pcp.Nonce, options ...pcp.Option) pcp.Request {
		r := mapUDP(40000, 0, nonce, options...)
		r.External = netip.MustParseAddrPort(suggested)
		return r
	}
	target := netip.AddrPortFrom(client6, 40000)
	failure := pcp.PreferFailure{}
	for _, step := range []struct {
		request  pcp.Request
		result   pcp.Result
		lifetime time.Duration
	}{
		{request("[::]:0", nonceA), pcp.Success, time.Hour},
		{request("[::]:40000", nonceA, failure), pcp.Success, time.Hour},
		{request("[2001:db8:50::10]:40000", nonceA, failure), pcp.Success, time.Hour},
		{request("[::]:40001", nonceA, failure), pcp.CannotProvideExternal, 30 * time.Minute},
		{request("[2001:db8:50::99]:40000", nonceA, failure), pcp.CannotProvideExternal, 30 * time.Minute},
		{request("[::]:0", nonceB), pcp.NotAuthorized, time.Hour},
	} {
		r := g.askPCP(t, client6, step.request)
		checkResult(t, r, step.result, step.lifetime)
		if r.Result == pcp.Success && r.External != target {
			t.Errorf("the external endpoint is %v", r.External)
		}
	}
	if m := g.onlyMapping(t); m.Pinhole != target {
		t.Errorf("the table has %+v", m)
	}
	wildcard := request("[::]:0", nonceA)
	wildcard.InternalPort = 0
	checkResult(t, g.askPCP(t, client6, wildcard), pcp.UnsuppProtocol, 30*time.Minute)
}

func TestNoPinholeToALinkLocalAddress(t *testing.T) {
	t.Parallel()
	lab := newLab(t)
	host := netip.MustParsePrefix("fe80::10/64")
	lab.Clients[0].Address(t, "eth0", host)
	g := serve(t, lab, defaultSetup())
	for _, test := range []struct {
		request pcp.Request
		want    pcp.Result
	}{
		{pcp.Request{}, pcp.Success},
		{mapUDP(40000, 0, nonceA), pcp.NotAuthorized},
	} {
		test.request.Client = host.Addr()
		if got := g.askLinkLocal(t, host.Addr(), test.request); got.Result != test.want {
			t.Errorf("%+v, want %v", got, test.want)
		}
	}
}

// askLinkLocal sends a request from a link-local address to the router's.
func (g *gateway) askLinkLocal(t *testing.T, source netip.Addr, r pcp.Request) pcp.Response {
	t.Helper()
	c, err := g.open(g.lab.Clients[0], netip.AddrPortFrom(netip.IPv6Unspecified(), 0))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	g.lab.Clients[0].IP(t, "-6", "route", "replace", "fe80::/64", "dev", "eth0", "src", source.String())
	to, err := portOf(g.lab.Clients[0], linkLocal.Addr())
	if err != nil {
		t.Fatal(err)
	}
	reply, from, err := netlab.Ask(c, to, r.Append(nil), replyTimeout)
	if err != nil || from.Addr().WithZone("") != linkLocal.Addr() {
		t.Fatalf("reply from %v, %v", from, err)
	}
	got, err := pcp.ParseResponse(reply)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestNewNonceAfterAnEpochReset(t *testing.T) {
	t.Parallel()
	g := serve(t, newLab(t), defaultSetup())
	checkResult(t, g.askPCP(t, client, mapUDP(40000, 40000, nonceA)), pcp.Success, time.Hour)
	if err := g.SetUplink(netlab.RouterWAN.Addr().Next()); err != nil {
		t.Fatal(err)
	}
	checkResult(t, g.askPCP(t, client, mapUDP(40000, 40000, nonceB)), pcp.Success, time.Hour)
	checkResult(t, g.askPCP(t, client, mapUDP(40000, 40000, nonceA)), pcp.NotAuthorized, time.Hour)
}
