package daemon_test

import (
	"net/netip"
	"testing"

	"igdd/pkg/netlab"
	"igdd/pkg/netlab/stunlab"
)

// TestOutboundBesideStranger has another host, which has mapped nothing, send from the
// port that the second console was granted, to the same server: the console reaches that
// all the same, and by its port.
func TestOutboundBesideStranger(t *testing.T) {
	t.Parallel()
	for setting, wish := range map[string]uint16{"auto": 5000, "yes": gamePort} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			bothVariants(t, func(t *testing.T, variant string) {
				r := newConsolesRig(t, variant, netlab.Layout{}, masquerade)
				r.start(t, "outbound="+setting)
				if got := r.mapGame(t, 1, "natpmp", wish); got != wish {
					t.Fatalf("port %d", got)
				}
				server := stunlab.Serve(t, r.WAN, stunHosts)
				stranger := stunlab.Listen(t, r.Clients[0], netip.AddrPortFrom(client1, wish))
				if seen := stranger.Seen(t, server); seen == byUplink(wish) {
					t.Errorf("a stranger's packets leave by the console's port: %v", seen)
				}
				console := stunlab.Listen(t, r.Clients[1], netip.AddrPortFrom(client2, gamePort))
				if seen := console.Seen(t, server); seen != byUplink(wish) {
					t.Errorf("the console is seen as %v", seen)
				}
			})
		})
	}
}
