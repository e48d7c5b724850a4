package daemon_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
	"igdd/pkg/pcp"
)

// question is what the operator asks, and a client after that.
type question struct {
	client             int
	origin, protocol   string
	external, internal uint16
}

// explained is the part of explain's answer that the client's response can be compared
// with.
type explained struct {
	Origin       string
	Granted      bool
	Fault        string
	Reason       string
	ExternalPort uint16 `json:"external_port"`
}

// addressOf returns the address of the i-th client.
func addressOf(i int) netip.Addr { return []netip.Addr{client1, client2}[i] }

// explain asks the operator's tool.
func (r *rig) explain(t testing.TB, q question) explained {
	t.Helper()
	text, _ := r.ctl(t, "explain", "--json", addressOf(q.client).String(), q.protocol, strconv.Itoa(int(q.external)), strconv.Itoa(int(q.internal)), "as", q.origin)
	var list []explained
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) != 1 {
		t.Fatalf("%+v: %v: %s", q, err, text)
	}
	return list[0]
}

// request asks as the client and returns what explain should have said.
func (r *rig) request(t testing.TB, q question) (e explained) {
	t.Helper()
	switch q.origin {
	case "natpmp":
		op := natpmp.MapUDP
		if q.protocol == "tcp" {
			op = natpmp.MapTCP
		}
		resp := r.natpmpMap(t, r.Clients[q.client], addressOf(q.client), mapping(op, q.internal, q.external, time.Hour))
		if e.Granted, e.ExternalPort = resp.Result == natpmp.Success, resp.ExternalPort; !e.Granted {
			e.Fault = fmt.Sprint("result ", int(resp.Result))
		}
	case "pcp":
		protocol := uint8(17)
		if q.protocol == "tcp" {
			protocol = 6
		}
		resp := r.pcp(t, q.client, pcpMap(addressOf(q.client), protocol, q.internal, q.external))
		if e.Granted = resp.Result == pcp.Success; e.Granted {
			e.ExternalPort = resp.External.Port()
		} else {
			e.Fault = fmt.Sprintf("result %d %v", uint8(resp.Result), resp.Result)
		}
	default:
		status, body := r.invokeAs(t, r.Clients[q.client], "AddPortMapping", fmt.Sprintf(`<NewRemoteHost></NewRemoteHost><NewExternalPort>%d</NewExternalPort><NewProtocol>%s</NewProtocol>`+
			`<NewInternalPort>%d</NewInternalPort><NewInternalClient>%v</NewInternalClient><NewEnabled>1</NewEnabled>`+
			`<NewPortMappingDescription></NewPortMappingDescription><NewLeaseDuration>3600</NewLeaseDuration>`,
			q.external, strings.ToUpper(q.protocol), q.internal, addressOf(q.client)))
		if e.Granted = status == 200; e.Granted {
			e.ExternalPort = q.external
		} else {
			_, rest, _ := strings.Cut(body, "<errorCode>")
			code, rest, _ := strings.Cut(rest, "</errorCode>")
			_, rest, _ = strings.Cut(rest, "<errorDescription>")
			text, _, _ := strings.Cut(rest, "</errorDescription>")
			e.Fault = "error " + code + " " + text
		}
	}
	return e
}

// TestExplainAgreesWithRequests asks explain, and then the same as the client, about
// whatever comes: ports that are free, taken, forwarded, forbidden, blocked, held down,
// not provided or the router's own, for two clients in all protocols, with few mappings allowed.
func TestExplainAgreesWithRequests(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	r := newRig(t, []string{"legacy", "nft"}[random.IntN(2)], netlab.Layout{Clients: 2})
	r.forwarded(t, 7003)
	ports := []string{"1-65535", "7000-7006"}[random.IntN(2)]
	r.start(t, "enable_upnp=yes", "max_per_host=6", "max_total=10", "ext_ports="+ports, `allow 1024-65535 192.168.50.0/24 1024-65535
deny 7001 0.0.0.0/0 0-65535
deny 0-65535 0.0.0.0/0 0-65535`)
	r.awaitServed(t)
	seen := make(map[string]int)
	for range 150 {
		q := question{
			client: random.IntN(2), origin: []string{"natpmp", "pcp", "upnp"}[random.IntN(3)], protocol: []string{"tcp", "udp"}[random.IntN(2)],
			external: uint16(7000 + random.IntN(8)), internal: uint16(7000 + random.IntN(8)),
		}
		switch random.IntN(12) {
		case 0:
			r.ctl(t, "delete", addressOf(q.client).String())
		case 1:
			r.ctl(t, "block", "1h", addressOf(q.client).String(), q.protocol)
		case 2, 3:
			r.ctl(t, "unblock", addressOf(q.client).String(), q.protocol)
		case 4:
			if q.origin != "upnp" { // there it is another action
				q.external = 0
			}
		case 5:
			q.internal = 22
		}
		want, got := r.explain(t, q), r.request(t, q)
		want.Origin, want.Reason, got.Reason = "", "", want.Reason
		seen[got.Fault]++
		if reason := got.Reason; want.Granted != got.Granted || want.Fault != got.Fault || want.ExternalPort != got.ExternalPort {
			t.Errorf("seed %d: %+v: explain says %+v (%s), the answer is %+v", seed, q, want, reason, got)
		}
	}
	if len(seen) < 5 {
		t.Errorf("only these faults were seen: %v", seen)
	}
}

// TestExplainWaitsForAHost explains requests of hosts that the router does not know yet,
// while the gateway is hidden from those that may have no port.
func TestExplainWaitsForAHost(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{Clients: 2})
	r.start(t, "hidden=yes", "allow 1024-65535 "+r.hardware(t, 0).String()+" 1024-65535", "deny 0-65535 0.0.0.0/0 0-65535")
	r.awaitServed(t)
	r.flush(t)
	r.says(t, "explain 192.168.50.10 tcp 4000 4000 as natpmp", 0, "NAT-PMP: granted, external port 4000")
	r.says(t, "explain 192.168.50.11 tcp 4000 4000 as natpmp", 4, "NAT-PMP: no answer: the gateway is hidden from hosts that may have no port (UPNP_HIDDEN)")
}

// TestExplainNetworkOfTwoInterfaces has two LANs with the same network, of which the rules
// allow one: a client is refused, and explain tells the same answer and why.
func TestExplainNetworkOfTwoInterfaces(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{SecondLAN: true})
	r.Router.IP(t, "address", "add", "192.168.50.2/24", "dev", "lan1")
	r.Router.IP(t, "route", "delete", "192.168.50.0/24", "dev", "lan1")
	r.start(t, "enable_upnp=yes", "listening_ip=lan1", "rule=allow interface lan0", "rule=deny")
	r.awaitServed(t)
	const why = "reason: not authorized: more than one interface has the host's network, so no rule for an interface allows it"
	for _, origin := range []string{"natpmp", "pcp", "upnp"} {
		q := question{origin: origin, protocol: "udp", external: 7000, internal: 7000}
		want, got := r.explain(t, q), r.request(t, q)
		if want.Granted || got.Granted || want.Fault != got.Fault {
			t.Errorf("%s: explain says %+v, the answer is %+v", origin, want, got)
		}
		r.says(t, "explain 192.168.50.10 udp 7000 7000 as "+origin, 4, why)
	}
}
