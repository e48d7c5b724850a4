package daemon_test

import (
	"fmt"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
)

// forwarded makes the firewall forward a port itself.
func (r *rig) forwarded(t testing.TB, port int) {
	t.Helper()
	r.ipt(t, "-t", "nat", "-A", "PREROUTING", "-i", "wan0", "-p", "tcp", "--dport", fmt.Sprint(port), "-j", "DNAT", "--to-destination", "192.168.50.99:60")
}

// refusedPort has a client ask for a port of the firewall's and demands that it gets
// another one.
func (r *rig) refusedPort(t testing.TB, port uint16) {
	t.Helper()
	if got := r.grant(t, mapping(natpmp.MapTCP, port, port, time.Hour)).ExternalPort; got == port {
		t.Errorf("a client has port %d, which is the administrator's", port)
	}
	r.natpmpMap(t, r.Clients[0], client1, mapping(natpmp.MapTCP, port, 0, 0))
}

// TestOneToOneNAT has an address of its own forwarded as a whole.
func TestOneToOneNAT(t *testing.T) {
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{})
		r.ipt(t, "-t", "nat", "-A", "PREROUTING", "-i", "wan0", "-d", "11.22.33.55/32", "-j", "DNAT", "--to-destination", "192.168.50.5")
		r.start(t)
		r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
	})
}

// TestForwardOfAPattern has the uplink named by a pattern, and the forward by
// the link.
func TestForwardOfAPattern(t *testing.T) {
	r := newRig(t, "legacy", netlab.Layout{})
	r.forwarded(t, 6000)
	r.start(t, "ext_ifname=wan+")
	r.refusedPort(t, 6000)
}
