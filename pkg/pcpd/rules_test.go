package pcpd

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/pcp"
	"igdd/pkg/portmap"
)

func TestGateways(t *testing.T) {
	t.Parallel()
	own := []netip.Prefix{
		netip.MustParsePrefix("192.168.50.1/24"),
		netip.MustParsePrefix("192.168.50.2/24"),
		netip.MustParsePrefix("10.0.0.1/8"),
		netip.MustParsePrefix("fe80::1/64"),
		netip.MustParsePrefix("2001:db8:50::1/64"),
		netip.MustParsePrefix("2001:db8:50::2/64"),
	}
	for family, want := range map[netip.Addr]string{
		netip.IPv4Unspecified(): "192.168.50.1 10.0.0.1",
		netip.IPv6Unspecified(): "fe80::1 2001:db8:50::1 2001:db8:50::2",
	} {
		var got []string
		for _, a := range gateways(own, family) {
			got = append(got, a.String())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("gateways are %v, want %s", got, want)
		}
	}
}

func TestNATPMPResults(t *testing.T) {
	t.Parallel()
	for refusal, want := range map[portmap.Refusal]natpmp.Result{
		portmap.Granted:           natpmp.Success,
		portmap.NotAuthorized:     natpmp.NotAuthorized,
		portmap.BadTarget:         natpmp.NotAuthorized,
		portmap.NoExternalAddress: natpmp.NetworkFailure,
		portmap.NoPorts:           natpmp.OutOfResources,
		portmap.QuotaExceeded:     natpmp.OutOfResources,
		portmap.TableFull:         natpmp.OutOfResources,
		portmap.FirewallFailed:    natpmp.OutOfResources,
	} {
		if got := natpmpResult(refusal); got != want {
			t.Errorf("%v: %d, want %d", refusal, got, want)
		}
	}
}

func TestPCPResults(t *testing.T) {
	t.Parallel()
	target := netip.MustParseAddrPort("192.168.50.10:40000")
	owned := func(nonce byte, lifetime time.Duration) *portmap.Mapping {
		return &portmap.Mapping{Internal: target, Claims: []portmap.Claim{
			{Origin: portmap.NATPMP, Expires: time.Now().Add(2 * time.Hour)},
			{Origin: portmap.PCP, Nonce: portmap.Nonce{nonce}, Expires: time.Now().Add(lifetime)},
		}}
	}
	other := &portmap.Mapping{
		Internal: netip.MustParseAddrPort("192.168.50.11:40000"),
		Claims:   []portmap.Claim{{Origin: portmap.NATPMP, Expires: time.Now().Add(time.Hour)}},
	}
	forEver := &portmap.Mapping{Internal: other.Internal, Claims: []portmap.Claim{{Origin: portmap.UPnP}}}
	fixed := &portmap.Mapping{Internal: target}
	ending := func(after time.Duration) *portmap.Block { return &portmap.Block{Until: time.Now().Add(after)} }
	ask := portmap.Request{Origin: portmap.PCP, Internal: target, Nonce: portmap.Nonce{1}}
	exact, filtered, remove := ask, ask, ask
	exact.Exact, filtered.Filters, remove.Op = true, []portmap.Filter{{}}, portmap.Close

	for name, test := range map[string]struct {
		ask      portmap.Request
		answer   portmap.Answer
		want     pcp.Result
		lifetime time.Duration
	}{
		"granted":                    {ask, portmap.Answer{Mapping: owned(1, time.Hour)}, pcp.Success, 0},
		"static":                     {ask, portmap.Answer{Mapping: fixed}, pcp.Success, 0},
		"static cannot be filtered":  {filtered, portmap.Answer{Mapping: fixed}, pcp.NotAuthorized, 1800},
		"nothing to delete":          {remove, portmap.Answer{}, pcp.Success, 0},
		"static cannot be deleted":   {remove, portmap.Answer{Refusal: portmap.NotAuthorized, Mapping: fixed}, pcp.NotAuthorized, 1800},
		"another nonce":              {ask, portmap.Answer{Refusal: portmap.NotAuthorized, Mapping: owned(2, time.Hour)}, pcp.NotAuthorized, 3600},
		"another nonce, exact":       {exact, portmap.Answer{Refusal: portmap.NotAuthorized, Mapping: owned(2, time.Hour)}, pcp.NotAuthorized, 3600},
		"another nonce for a moment": {ask, portmap.Answer{Refusal: portmap.NotAuthorized, Mapping: owned(2, 0)}, pcp.NotAuthorized, 1},
		"rules":                      {ask, portmap.Answer{Refusal: portmap.NotAuthorized}, pcp.NotAuthorized, 1800},
		"rules forbid that port":     {exact, portmap.Answer{Refusal: portmap.NotAuthorized}, pcp.CannotProvideExternal, 1800},
		"port is another's":          {exact, portmap.Answer{Refusal: portmap.Conflict, Mapping: other}, pcp.CannotProvideExternal, 3720},
		"port is another's for ever": {exact, portmap.Answer{Refusal: portmap.Conflict, Mapping: forEver}, pcp.CannotProvideExternal, 86520},
		"mapped elsewhere":           {exact, portmap.Answer{Refusal: portmap.Conflict, Mapping: owned(1, 24*time.Hour)}, pcp.CannotProvideExternal, 86520},
		"port is held down":          {exact, portmap.Answer{Refusal: portmap.HeldDown}, pcp.CannotProvideExternal, 1800},
		"port is the router's":       {exact, portmap.Answer{Refusal: portmap.PortInUse}, pcp.CannotProvideExternal, 1800},
		"port is not the router's":   {exact, portmap.Answer{Refusal: portmap.NotProvided}, pcp.CannotProvideExternal, 1800},
		"target is no host":          {ask, portmap.Answer{Refusal: portmap.BadTarget}, pcp.NotAuthorized, 1800},
		"quota":                      {ask, portmap.Answer{Refusal: portmap.QuotaExceeded}, pcp.UserExQuota, 30},
		"table full":                 {ask, portmap.Answer{Refusal: portmap.TableFull}, pcp.NoResources, 30},
		"no port left":               {ask, portmap.Answer{Refusal: portmap.NoPorts}, pcp.NoResources, 30},
		"firewall failed":            {ask, portmap.Answer{Refusal: portmap.FirewallFailed}, pcp.NoResources, 30},
		"too many filters":           {filtered, portmap.Answer{Refusal: portmap.TooManyFilters, Mapping: owned(1, time.Hour)}, pcp.ExcessiveRemotePeers, 1800},
		"no external address":        {ask, portmap.Answer{Refusal: portmap.NoExternalAddress}, pcp.NetworkFailure, 30},
		"blocked for ten minutes":    {ask, portmap.Answer{Refusal: portmap.Blocked, Block: ending(10 * time.Minute)}, pcp.NotAuthorized, 600},
		"blocked for a week":         {ask, portmap.Answer{Refusal: portmap.Blocked, Block: ending(7 * 24 * time.Hour)}, pcp.NotAuthorized, 1800},
		"blocked for ever":           {ask, portmap.Answer{Refusal: portmap.Blocked, Block: new(portmap.Block)}, pcp.NotAuthorized, 1800},
		"no longer blocked":          {ask, portmap.Answer{Refusal: portmap.Blocked, Block: ending(-time.Minute)}, pcp.NotAuthorized, 1},
		"perhaps blocked":            {ask, portmap.Answer{Refusal: portmap.UnknownHost, Block: ending(time.Hour)}, pcp.NotAuthorized, 30},
		"another's port, and rules":  {ask, portmap.Answer{Refusal: portmap.NotAuthorized, Mapping: other}, pcp.NotAuthorized, 1800},
	} {
		result, lifetime := mapResult(test.ask, test.answer)
		if result != test.want {
			t.Errorf("%s: %v, want %v", name, result, test.want)
		}
		want := test.lifetime * time.Second
		if result != pcp.Success && (lifetime > want || lifetime < want-2*time.Second) {
			t.Errorf("%s: for %v, want %v", name, lifetime, want)
		}
	}
}
