package daemon_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"igdd/pkg/ssdp"
	"igdd/pkg/vectors/discovery"
)

// playLinkLocal searches on the link: the answer leads to a link-local address,
// without a zone, as clients expect it; upnpc asks there.
func playLinkLocal(t *testing.T, r *rig) {
	t.Helper()
	host := r.Clients[0]
	host.Address(t, "eth0", netip.MustParsePrefix("fe80::10/64"))
	c := discovery.Open(t, host, netip.IPv6Unspecified())
	var m discovery.Message
	await(t, "an answer", func() (ok bool) { // datagrams may be lost, as that of neighbour discovery
		discovery.Send(t, host, c, ssdp.LinkLocal.Addr(), discovery.Search("urn:schemas-upnp-org:device:InternetGatewayDevice:1"))
		m, ok = discovery.Receive(t, c, time.Now().Add(time.Second))
		return ok
	})
	at := netip.MustParseAddr(find(t, `^http://\[([^]]*)\]:5000/`, m.Fields["LOCATION"]))
	if !at.IsLinkLocalUnicast() || at.Zone() != "" || m.From.Addr().WithZone("") != at {
		t.Errorf("LOCATION %s from %v", m.Fields["LOCATION"], m.From)
	}
	zoned := strings.Replace(m.Fields["LOCATION"], "]", "%25eth0]", 1)
	demandSaid(t, host.Run(t, "upnpc", "-6", "-u", zoned, "-s"), "Local LAN ip address : fe80::10%eth0\n", "ExternalIPAddress = 11.22.33.44")
}
