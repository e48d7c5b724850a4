package upnpd

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"igdd/pkg/portmap"
	"igdd/pkg/portmap/portmaptest"
)

// otherPorts returns a configuration with a router in front that forwards the external
// port 10000 above each that it is asked for, or the same above 4000.
func otherPorts() gatewayConfig {
	p := gatewayConfigOf("both")
	p.upstream = &portmaptest.Upstream{Answer: func(m *portmap.Mapping) (portmap.Report, bool) {
		port := m.External
		if port <= 4000 {
			port += 10000
		}
		return reachable(m.External, port), true
	}}
	return p
}

// reachable reports that the router in front forwards a port for that of a mapping.
func reachable(external, outer uint16) portmap.Report {
	return portmap.Report{
		Key: portmap.Key{Protocol: portmap.TCP, External: external},
		Forwarding: portmap.Forwarding{
			State: portmap.Reachable, External: netip.AddrPortFrom(netip.MustParseAddr("11.22.33.46"), outer),
		},
	}
}

// TestOutermostPorts wants the clients to know a mapping by the port that the router in
// front forwards.
func TestOutermostPorts(t *testing.T) {
	t.Parallel()
	h := testNet{}.newGateway(t, otherPorts())
	c1 := hosts["c1"]
	for _, tt := range []struct {
		service, action string
		arguments       string // separated by blanks; "-" is empty
		want            string
	}{
		{v1, "AddPortMapping", "- 4000 TCP 4000 c1 1 - 0", "718"},
		{v2, "AddPortMapping", "- 4000 TCP 4000 c1 1 - 0", "729"},
		{v2, "AddPortMapping", "- 4001 TCP 4001 c1 1 - 600", "200 []"},
		{v2, "AddAnyPortMapping", "- 4000 TCP 4000 c1 1 - 600", `200 ["14000"]`},
		{v2, "AddAnyPortMapping", "- 14000 TCP 4000 c1 1 - 600", `200 ["14000"]`},
		{v1, "AddPortMapping", "- 14000 TCP 4000 c1 1 - 600", "200 []"},
		{v2, "AddPortMapping", "- 14000 TCP 4000 c2 1 - 600", "606"},
		{v2, "GetSpecificPortMappingEntry", "- 14000 TCP", `200 ["4000" "c1" "1" "" "600"]`},
		{v2, "GetSpecificPortMappingEntry", "- 4000 TCP", "714"},
		{v2, "GetGenericPortMappingEntry", "1", `200 ["" "14000" "TCP" "4000" "c1" "1" "" "600"]`},
		{v2, "GetListOfPortMappings", "4000 4000 TCP 1 0", "730"},
		{v2, "DeletePortMapping", "- 4000 TCP", "714"},
		{v2, "DeletePortMapping", "- 14000 TCP", "200 []"},
		{v2, "GetSpecificPortMappingEntry", "- 14000 TCP", "714"},
		{v2, "AddAnyPortMapping", "- 3999 TCP 3999 c1 1 - 600", `200 ["13999"]`},
		{v2, "DeletePortMappingRange", "3999 4000 TCP 0", "730"},
		{v2, "DeletePortMappingRange", "4001 13999 TCP 0", "200 []"},
		{v2, "GetGenericPortMappingEntry", "0", "713"},
	} {
		arguments := strings.Fields(strings.NewReplacer("c1", c1, "c2", hosts["c2"]).Replace(tt.arguments))
		for i := range arguments {
			arguments[i] = strings.TrimPrefix(arguments[i], "-")
		}
		want := strings.ReplaceAll(tt.want, "c1", c1)
		if got := ask(t, h.server, c1, tt.service, tt.action, arguments...); got.String() != want {
			t.Errorf("%s %s: %v, want %s", tt.action, tt.arguments, got, want)
		}
	}
}

// TestListOfOutermostPorts lists mappings by the ports that clients know.
func TestListOfOutermostPorts(t *testing.T) {
	t.Parallel()
	h := testNet{}.newGateway(t, otherPorts())
	if got := ask(t, h.server, hosts["c1"], v2, "AddAnyPortMapping", "", "4000", "TCP", "4000", hosts["c1"], "1", "", "600"); got.status != 200 {
		t.Fatal(got)
	}
	got := ask(t, h.server, hosts["c1"], v2, "GetListOfPortMappings", "14000", "14000", "TCP", "0", "0")
	if want := "<p:NewExternalPort>14000</p:NewExternalPort>"; len(got.out) != 1 || !strings.Contains(got.out[0], want) {
		t.Errorf("%v, want %s", got, want)
	}
}

// TestMovedPort has the router in front forward another port later than the one that the
// client insists on.
func TestMovedPort(t *testing.T) {
	t.Parallel()
	h := testNet{}.newGateway(t, otherPorts())
	if got := add(t, h.server, hosts["c1"], v2, "4001", "600"); got.status != 200 {
		t.Fatal(got)
	}
	if err := h.table.Report(context.Background(), []portmap.Report{reachable(4001, 5001)}); err != nil {
		t.Fatal(err)
	}
	for port, want := range map[uint16]int{4001: 200, 5001: 500} {
		if got := ask(t, h.server, hosts["c1"], v2, "GetSpecificPortMappingEntry", "", fmt.Sprint(port), "TCP"); got.status != want {
			t.Errorf("port %d: %v, want %d", port, got, want)
		}
	}
}
