package control

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"igdd/pkg/portmap"
)

// What a router in front may do for a mapping.
var (
	outer       = netip.MustParseAddrPort("198.51.100.1:51000")
	isReachable = portmap.Forwarding{State: portmap.Reachable, External: outer}
	isDenied    = portmap.Forwarding{State: portmap.Unreachable, Reason: "the router in front denies it\x1b[2J"}
	isAsked     = portmap.Forwarding{State: portmap.Asking}
)

func TestListShowsForwarding(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		forwarding portmap.Forwarding
		text, json string // at the end of the line
	}{
		"reachable": {isReachable, "[reachable from outside as 198.51.100.1:51000]", `"forwarding":"reachable","outer_address":"198.51.100.1","outer_port":51000,`},
		"denied":    {isDenied, "[not reachable from outside: the router in front denies it?[2J]", `"forwarding":"unreachable","forwarding_reason":"the router in front denies it\u001b[2J",`},
		"asked":     {isAsked, "[the router in front has not answered yet]", `"forwarding":"asking",`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.behindRouter(t, tt.forwarding)
			a, err := r.table.Do(t.Context(), portmap.Request{
				Origin: portmap.NATPMP, Client: laptop, Protocol: portmap.UDP, Internal: netip.AddrPortFrom(laptop, 4000), External: 40000, Lifetime: time.Hour,
			})
			if err != nil || a.Refusal != portmap.Granted {
				t.Fatal(a.Refusal, err)
			}
			if got := r.tool("list").stdout; !strings.Contains(got, "\nUDP    40000 ") || !strings.HasSuffix(got, "NAT-PMP 40000 UDP "+tt.text+"\n") {
				t.Errorf("list = %s", got)
			}
			if got := r.tool("list", "--json").stdout; !strings.Contains(got, tt.json) {
				t.Errorf("list --json = %s", got)
			}
		})
	}
	r := seedMappings(t)
	if got := r.tool("list", "--json").stdout; strings.Contains(got, "forwarding") || strings.Contains(got, "outer") {
		t.Errorf("without a router in front: %s", got)
	}
}

func TestStatusShowsTheRouterInFront(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if got := r.tool("status").stdout; strings.Contains(got, "router in front") {
		t.Errorf("without one: %s", got)
	}
	gateway, external := addr("192.168.1.1"), addr("198.51.100.1")
	for _, tt := range []struct {
		upstream Upstream
		want     string
	}{
		{Upstream{Address: gateway, Protocol: "PCP", External: external}, "192.168.1.1 by PCP, external address 198.51.100.1"},
		{Upstream{Address: gateway, Protocol: "NAT-PMP"}, "192.168.1.1 by NAT-PMP"},
		{Upstream{Address: gateway}, "192.168.1.1, has not answered yet"},
		{Upstream{Address: gateway, Trouble: "it does not answer"}, "192.168.1.1, forwards nothing: it does not answer"},
		{Upstream{Address: gateway, Protocol: "UPnP IGD", Trouble: "error\x1b"}, "192.168.1.1 by UPnP IGD, forwards nothing: error?"},
		{Upstream{Trouble: "there is no default gateway"}, "none, forwards nothing: there is no default gateway"},
	} {
		r.status.Upstream = &tt.upstream
		if got := r.tool("status"); got.status != exitDone || !strings.Contains(collapseBlanks(got.stdout), "\nrouter in front: "+tt.want+"\n") {
			t.Errorf("status = %+v, want %s", got, tt.want)
		}
		var s Status
		if err := json.Unmarshal([]byte(r.tool("status", "--json").stdout), &s); err != nil || *s.Upstream != tt.upstream {
			t.Errorf("as JSON: %+v, %v", s.Upstream, err)
		}
	}
}

// TestExplainForwarding explains requests for a new mapping and for one that there is.
func TestExplainForwarding(t *testing.T) {
	t.Parallel()
	const allowed = "\nreason: granted\nrule: allow the LAN"
	const renewed = allowed + "\nmapping: 5555/TCP -> 192.168.50.10:5555 (NAT-PMP)"
	for name, tt := range map[string]struct {
		forwarding portmap.Forwarding
		ask        string // external port
		want       string
	}{
		"reachable":             {isReachable, "0", "NAT-PMP: granted, external port 51000" + renewed + "\nupstream: reachable from outside as 198.51.100.1:51000"},
		"by its outer port":     {isReachable, "51000", "NAT-PMP: granted, external port 51000" + renewed + "\nupstream: reachable from outside as 198.51.100.1:51000"},
		"denied":                {isDenied, "5555", "NAT-PMP: granted, external port 5555" + renewed + "\nupstream: not reachable from outside: the router in front denies it?[2J"},
		"no answer yet":         {isAsked, "5555", "NAT-PMP: granted, external port 5555" + renewed + "\nupstream: the router in front is asked for the port, too"},
		"no router is in front": {portmap.Forwarding{}, "5555", "NAT-PMP: granted, external port 5555" + renewed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			if tt.forwarding.State != portmap.NotAsked {
				r.behindRouter(t, tt.forwarding)
				got := r.tool("explain", "192.168.50.10", "tcp", "5555", "5555", "as", "natpmp")
				if want := "NAT-PMP: granted, external port 5555" + allowed + "\nupstream: the router in front is asked for the port, too"; collapseBlanks(got.stdout) != want {
					t.Errorf("a new mapping: %s", got.stdout)
				}
			}
			r.open(t, portmap.NATPMP, portmap.TCP, laptop, 0, 5555, time.Hour, "")
			if got := r.tool("explain", "192.168.50.10", "tcp", tt.ask, "5555", "as", "natpmp"); collapseBlanks(got.stdout) != tt.want {
				t.Errorf("%s\nwant %s", collapseBlanks(got.stdout), tt.want)
			}
		})
	}
}

func TestSelftestAsksTheRouterInFront(t *testing.T) {
	t.Parallel()
	r, _, selftest := newLANRig(t)
	r.behindRouter(t, isReachable)
	if got := selftest(); got.status != exitDone || strings.Count(got.stdout, "ok        the router in front forwards the port: reachable from outside as 198.51.100.1:51000\n") != 2 {
		t.Errorf("selftest = %+v", got)
	}
	r.behindRouter(t, isDenied)
	if got := selftest(); got.status != exitNo || !strings.Contains(got.stdout, "failed    the router in front forwards the port: not reachable from outside: the router in front denies it") {
		t.Errorf("selftest = %+v", got)
	}
	if n := len(r.table.List()); n != 0 {
		t.Errorf("%d mappings are left behind", n)
	}
}
