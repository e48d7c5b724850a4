package daemon_test

import (
	"fmt"
	"strings"
	"testing"
)

// TestGSSDP searches with the library of GNOME: what was asked for is what is
// shown.
func TestGSSDP(t *testing.T) {
	r := newUPnPRig(t, "both")
	r.start(t, upnpConf("both")...)
	const oldFace, newFace = "http://192.168.50.1:5555/rootDesc.xml", "http://192.168.50.1:5555/rootDesc2.xml"
	for target, location := range map[string]string{
		"ssdp:all": oldFace, "upnp:rootdevice": oldFace,
		"urn:schemas-upnp-org:device:InternetGatewayDevice:1": oldFace,
		"urn:schemas-upnp-org:device:InternetGatewayDevice:2": newFace,
	} {
		var out string
		await(t, fmt.Sprintf("%s to be found for %s", location, target), func() bool {
			// It searches until it is ended.
			out = r.Clients[0].Run(t, "sh", "-c", fmt.Sprintf("timeout 2 gssdp-discover -i eth0 -t %s || [ $? = 124 ]", target))
			return strings.Contains(out, location)
		})
		for line := range strings.Lines(out) {
			if found, ok := strings.CutPrefix(strings.TrimSpace(line), "Location: "); ok && found != location {
				t.Errorf("%s: %s", target, found)
			}
		}
	}
}
