package daemon_test

import (
	"strings"
	"testing"
)

// TestOperatorSeesTheRouterInFront has a router ask the one in front for a port, and
// shows that to the operator.
func TestOperatorSeesTheRouterInFront(t *testing.T) {
	t.Parallel()
	rigs := newChain(t, "nft", 2)
	inner := rigs[1]
	rigs[0].foreground(t, chainConf("no")...)
	inner.foreground(t, chainConf("pcp")...)
	inner.awaitOuter(t, pcpMap(client1, 6, 4000, 41000))
	told := "reachable from outside as " + outermost.String() + ":"
	inner.says(t, "status", 0, "router in front: 100.64.0.1 by PCP, external address "+outermost.String()+" ")
	inner.says(t, "list", 0, "PCP MAP 41000 TCP ["+told+"41000]")
	inner.says(t, "explain 192.168.50.10 tcp 0 4000 as pcp", 0, "upstream: "+told+"41000")
	inner.says(t, "explain 192.168.50.10 udp 4444 4444 as natpmp", 0, "upstream: the router in front is asked for the port, too")
	inner.says(t, "selftest", 0, "ok the router in front forwards the port: "+told+"49351")
	inner.awaitMetrics(t, "with a router in front", map[string]float64{
		"igdd_upstream_up": 1, `igdd_upstream_mappings{state="reachable"}`: 1, `igdd_upstream_mappings{state="unreachable"}`: 0,
	})
}

// TestOperatorSeesAMuteRouterInFront asks a router in front that does not answer: the
// mapping stands, and nothing is wrong with this router.
func TestOperatorSeesAMuteRouterInFront(t *testing.T) {
	t.Parallel()
	r := newChain(t, "nft", 2)[1]
	r.foreground(t, chainConf("natpmp")...)
	r.pcp(t, 0, pcpMap(client1, 6, 4000, 41000))
	await(t, "the router in front to be found mute", func() bool {
		out, _ := r.ctl(t, "list")
		return strings.Contains(out, "not reachable from outside")
	})
	const mute = "the router in front, 100.64.0.1, serves neither PCP nor NAT-PMP"
	r.says(t, "status", 0, "router in front: 100.64.0.1, forwards nothing: "+mute)
	r.says(t, "list", 0, "PCP MAP 41000 TCP [not reachable from outside: "+mute+"]")
	r.says(t, "explain 192.168.50.10 tcp 0 4000 as pcp", 0, "upstream: not reachable from outside: "+mute)
	r.awaitMetrics(t, "with a mute router in front", map[string]float64{
		"igdd_upstream_up": 0, `igdd_upstream_mappings{state="reachable"}`: 0, `igdd_upstream_mappings{state="unreachable"}`: 1,
	})
}
