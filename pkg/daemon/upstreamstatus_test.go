package daemon

import (
	"errors"
	"maps"
	"regexp"
	"strings"
	"testing"

	"igdd/pkg/control"
	"igdd/pkg/portmap"
	"igdd/pkg/upstream"
)

func TestUpstreamState(t *testing.T) {
	gateway, external := parsed("192.168.1.1"), parsed("203.0.113.1")
	for name, tt := range map[string]struct {
		status upstream.Status
		want   *control.Upstream
	}{
		"none":            {upstream.Status{}, nil},
		"no answer yet":   {upstream.Status{Gateway: gateway}, &control.Upstream{Address: gateway}},
		"it forwards":     {upstream.Status{Gateway: gateway, Method: upstream.PCP, External: external}, &control.Upstream{Address: gateway, Protocol: "PCP", External: external}},
		"it denies":       {upstream.Status{Gateway: gateway, Method: upstream.IGD, Err: errors.New("denied")}, &control.Upstream{Address: gateway, Protocol: "UPnP IGD", Trouble: "denied"}},
		"no gateway":      {upstream.Status{Err: errors.New("wan0 has none")}, &control.Upstream{Trouble: "wan0 has none"}},
		"it is not there": {upstream.Status{Gateway: gateway, Err: errors.New("silent")}, &control.Upstream{Address: gateway, Trouble: "silent"}},
	} {
		got := upstreamState(tt.status)
		if (got == nil) != (tt.want == nil) || got != nil && *got != *tt.want {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
	}
}

func TestExternalNote(t *testing.T) {
	const public, other, private, shared = "11.22.33.44", "11.22.33.55", "192.168.1.2", "100.64.0.9"
	const own, further = "the uplink's own address is ", "; the announced one is not routed on the Internet: a router further upstream must forward the ports too"
	for _, tt := range []struct{ own, announced, want string }{
		{"", "", "the uplink has no IPv4 address"},
		{public, public, ""},
		{private, private, "this address is not routed on the Internet: a router upstream must forward the ports too"},
		{private, public, own + private},
		{public, other, own + public},
		{private, shared, own + private + further},
		{public, shared, own + public + further},
	} {
		if got := externalNote(parsed(tt.own), parsed(tt.announced)); got != tt.want {
			t.Errorf("%q announced as %q: %q", tt.own, tt.announced, got)
		}
	}
}

func TestMetricsOfTheRouterInFront(t *testing.T) {
	in := func(s portmap.ForwardingState) *portmap.Mapping {
		return &portmap.Mapping{Forwarding: portmap.Forwarding{State: s}}
	}
	list := []*portmap.Mapping{in(portmap.Reachable), in(portmap.Unreachable), in(portmap.Reachable), in(portmap.NotAsked)}
	sample := regexp.MustCompile(`(?m)^(igdd_upstream_\S+) (\S+)$`)
	for name, tt := range map[string]struct {
		state *control.Upstream
		want  string // samples
	}{
		"none":          {nil, ""},
		"well":          {&control.Upstream{Protocol: "PCP"}, `up 1 mappings{state="asking"} 0 mappings{state="reachable"} 2 mappings{state="unreachable"} 1`},
		"no answer yet": {&control.Upstream{}, `up 0 mappings{state="asking"} 0 mappings{state="reachable"} 2 mappings{state="unreachable"} 1`},
		"it denies":     {&control.Upstream{Protocol: "PCP", Trouble: "denied"}, `up 0 mappings{state="asking"} 0 mappings{state="reachable"} 2 mappings{state="unreachable"} 1`},
	} {
		m, got, want := NewMetrics("1.2"), make(map[string]string), make(map[string]string)
		for _, s := range sample.FindAllStringSubmatch(m.registry.Text(func() { m.countForwardings(tt.state, list) }), -1) {
			got[s[1]] = s[2]
		}
		for fields := strings.Fields(tt.want); len(fields) > 0; fields = fields[2:] {
			want["igdd_upstream_"+fields[0]] = fields[1]
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}
