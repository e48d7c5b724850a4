package daemon_test

import (
	"fmt"
	"strings"
	"testing"
)

// TestGSSDP searches with GNOME's library: the answer leads to the description of
// the version that was asked for.
func TestGSSDP(t *testing.T) {
	t.Parallel()
	r := newUPnPRig(t, "both")
	r.start(t, upnpConf("both")...)
	const description1, description2 = "http://192.168.50.1:5555/rootDesc.xml", "http://192.168.50.1:5555/rootDesc2.xml"
	for target, location := range map[string]string{
		"ssdp:all": description1, "upnp:rootdevice": description1,
		"urn:schemas-upnp-org:device:InternetGatewayDevice:1": description1,
		"urn:schemas-upnp-org:device:InternetGatewayDevice:2": description2,
	} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			demandFound(t, r, target, location)
		})
	}
}

// demandFound demands that gssdp-discover finds for a target what is at one
// location, and nothing elsewhere. It searches until it is ended.
func demandFound(t *testing.T, r *rig, target, location string) {
	var out string
	await(t, fmt.Sprintf("%s to be found for %s", location, target), func() bool {
		out = r.Clients[0].Run(t, "sh", "-c", fmt.Sprintf("timeout 1 gssdp-discover -i eth0 -t %s || [ $? = 124 ]", target))
		return strings.Contains(out, location)
	})
	for line := range strings.Lines(out) {
		if found, ok := strings.CutPrefix(strings.TrimSpace(line), "Location: "); ok && found != location {
			t.Errorf("%s: %s", target, found)
		}
	}
}
