package daemon_test

import (
	"net/netip"
	"strings"
	"testing"

	"igdd/pkg/netlab"
	"igdd/pkg/pcp"
)

// newLoop makes two routers each of which is the other's default gateway. The client is
// behind the second.
func newLoop(t *testing.T) []*rig {
	t.Helper()
	rigs := newChain(t, "nft", 2)
	a, b := rigs[0].Router, rigs[1].Router
	b.Connect(t, "lan1", a, "wan1")
	b.Address(t, "lan1", netip.MustParsePrefix("10.64.1.1/24"))
	a.Address(t, "wan1", netip.MustParsePrefix("10.64.1.2/24"))
	a.IP(t, "route", "replace", "default", "via", "10.64.1.1")
	return rigs
}

// TestLoopOfRouters has two routers ask each other: what a client asks for stands at its
// own router, and the two do not go on for ever.
func TestLoopOfRouters(t *testing.T) {
	t.Parallel()
	for _, upstream := range []string{"auto", "pcp", "natpmp", "igd"} {
		t.Run(upstream, func(t *testing.T) {
			t.Parallel()
			rigs := newLoop(t)
			rigs[0].foreground(t, append(chainConf(upstream), "ext_ifname=wan1")...)
			rigs[1].foreground(t, append(chainConf(upstream), "listening_ip=lan1")...)
			for i := range uint16(3) {
				if resp := rigs[1].pcp(t, 0, pcpMap(client1, 6, 4000+i, 41000+i)); resp.Result != pcp.Success {
					t.Errorf("port %d: %v", 41000+i, resp.Result)
				}
			}
			await(t, "the client's mappings to be settled", func() bool { return unreachable(t, rigs[1]) >= 3 })
			for _, r := range rigs {
				if n := len(r.listed(t)); n > 12 {
					t.Errorf("%s has %d mappings for 3 of a client", r.Router.Name, n)
				}
			}
			rigs[1].pcp(t, 0, pcpMap(client1, 6, 4000, 41000))
			netlab.Probe{Network: "tcp", From: rigs[0].Router, To: netip.AddrPortFrom(ownUplink, 41000)}.Arrives(t)
		})
	}
}

// unreachable returns how many mappings of a router the operator is told cannot be reached
// from outside.
func unreachable(t *testing.T, r *rig) int {
	t.Helper()
	out, _ := r.ctl(t, "list")
	return strings.Count(out, "not reachable from outside")
}
