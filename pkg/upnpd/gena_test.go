package upnpd

import (
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"testing"
	"time"

	"igdd/pkg/vectors"
	"igdd/pkg/vectors/gena"
)

// setUplink gives the gateway another external address, or none, and tells the
// server.
func (h *testGateway) setUplink(a netip.Addr) error {
	h.around.External = a
	err := h.table.SetNetworkState(context.Background(), h.around)
	h.mu.Lock()
	h.uplink.Since = time.Time{}
	if a.IsValid() {
		h.uplink.Since = time.Now()
	}
	h.mu.Unlock()
	h.server.Changed()
	return err
}

// dialSubscriber connects to a subscriber in the network.
func (s testNet) dialSubscriber(sub *subscription, ctx context.Context, to netip.AddrPort) (c net.Conn, err error) {
	err = s.Do(func() error { c, err = sub.dial(ctx, to); return err })
	return c, err
}

// TestEvents plays all vectors of events over real connections.
func TestEvents(t *testing.T) {
	t.Parallel()
	vectors.PlayInParallel(t, newTestNets(t), gena.Load(t), func(v gena.Vector) string { return v.ID },
		func(t *testing.T, s testNet, v gena.Vector) {
			v.Play(t, s.startGateway(t, gatewayConfigOf(v.Config)).events())
		})
}

// TestPinholeEventsByVersion1 subscribes to the IPv6 firewall control by the
// description of version 1 on a gateway that shows both.
func TestPinholeEventsByVersion1(t *testing.T) {
	t.Parallel()
	var seq uint32
	gena.Vector{
		Listeners: map[string]gena.Place{"cb1": {Host: "c1", Port: 49001, IP: 4, Behaviour: "200"}},
		Steps: []gena.Step{
			{
				Do: "SUBSCRIBE", From: "c1", EventURLOf: "WANIPv6FirewallControl", IP: 4,
				Headers: []byte(`[["CALLBACK", "<http://{c1}:49001/>"], ["NT", "upnp:event"]]`), Expect: gena.Expectation{HTTP: 200},
			},
			{Do: "await_notify", On: "cb1", Seq: &seq, Exact: true, Vars: map[string]json.RawMessage{
				"FirewallEnabled": []byte(`"1"`), "InboundPinholeAllowed": []byte(`"1"`),
			}},
		},
	}.Play(t, newTestNet(t).startGateway(t, gatewayConfigOf("both")).events())
}

// events returns the gateway as the vectors of events know it.
func (h *testGateway) events() *gena.Gateway {
	return &gena.Gateway{
		Port: 5555, Description: h.server.Descriptions()[0].Path(), Tokens: hosts, Dial: h.dial, SetUplink: h.setUplink,
		Listen: func(_ string, at netip.AddrPort) (l net.Listener, err error) {
			err = h.Listen(func() error { l, err = net.Listen("tcp", at.String()); return err })
			return l, err
		},
	}
}
