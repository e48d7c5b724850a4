package pcpd_test

import (
	"net/netip"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
	"igdd/pkg/pcp"
)

// How long tests wait: for a reply that must come, and for one that must not.
const (
	replyTimeout   = time.Minute
	noReplyTimeout = 100 * time.Millisecond
)

var (
	nonceA = pcp.Nonce{0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab}
	nonceB = pcp.Nonce{0xb0, 0xb1}
)

// gatewayOf returns the address that a client's requests go to.
func gatewayOf(source netip.Addr) netip.Addr {
	if source.Is6() {
		return netlab.RouterLAN6.Addr()
	}
	return router
}

// ask sends octets and returns the reply, which must come.
func (g *gateway) ask(t *testing.T, source netip.Addr, request []byte) []byte {
	t.Helper()
	reply, from, err := g.Exchange("lan", source, gatewayOf(source), request, replyTimeout)
	if err != nil || reply == nil {
		t.Fatalf("%v gets no reply: %v", source, err)
	}
	if from != gatewayOf(source) {
		t.Errorf("reply from %v", from)
	}
	return reply
}

// askPCP sends a PCP request.
func (g *gateway) askPCP(t *testing.T, source netip.Addr, r pcp.Request) pcp.Response {
	t.Helper()
	r.Client = source
	reply, err := pcp.ParseResponse(g.ask(t, source, r.Append(nil)))
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

// askNATPMP sends a NAT-PMP request.
func (g *gateway) askNATPMP(t *testing.T, source netip.Addr, r natpmp.Request) natpmp.Response {
	t.Helper()
	reply, err := natpmp.ParseResponse(g.ask(t, source, r.Append(nil)))
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

// mapUDP returns a MAP request for a UDP port, with a suggested external port or 0.
func mapUDP(port, suggested uint16, nonce pcp.Nonce, options ...pcp.Option) pcp.Request {
	return pcp.Request{
		Opcode: pcp.Map, Lifetime: time.Hour,
		Mapping: pcp.Mapping{
			Nonce: nonce, Protocol: 17, InternalPort: port,
			External: netip.AddrPortFrom(netip.IPv4Unspecified(), suggested),
		},
		Options: options,
	}
}

// deletion returns the request that deletes a mapping.
func deletion(r pcp.Request) pcp.Request {
	r.Lifetime, r.Options = 0, nil
	return r
}
