package upnpd

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"igdd/pkg/vectors/gena"
)

// setUplink gives the house another external address, or none, and tells the
// server.
func (h *house) setUplink(a netip.Addr) error {
	h.around.External = a
	err := h.table.SetSurroundings(context.Background(), h.around)
	h.mu.Lock()
	h.uplink.Since = time.Time{}
	if a.IsValid() {
		h.uplink.Since = time.Now()
	}
	h.mu.Unlock()
	h.server.Changed()
	return err
}

// dialSubscriber connects to a subscriber in the street.
func (s street) dialSubscriber(sub *subscription, ctx context.Context, to netip.AddrPort) (c net.Conn, err error) {
	err = s.Do(func() error { c, err = sub.dial(ctx, to); return err })
	return c, err
}

// TestEvents plays all vectors of events over real connections.
func TestEvents(t *testing.T) {
	s := newStreet(t)
	for _, v := range gena.Load(t, "testdata/gena.json") {
		t.Run(v.ID, func(t *testing.T) {
			h := s.build(t, planOf(v.Config))
			v.Play(t, &gena.Gateway{
				Port: 5555, Description: h.server.Faces()[0].Path(), Tokens: hosts, Dial: h.dial, SetUplink: h.setUplink,
				Listen: func(_ string, at netip.AddrPort) (l net.Listener, err error) {
					err = s.Do(func() error { l, err = net.Listen("tcp", at.String()); return err })
					return l, err
				},
			})
		})
	}
}
