package stunlab_test

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"igdd/pkg/netlab"
	"igdd/pkg/netlab/stunlab"
)

func TestMain(m *testing.M) { os.Exit(netlab.Main(m.Run)) }

// TestKnowsNATs has the kernel be each kind of NAT that it can be.
func TestKnowsNATs(t *testing.T) {
	t.Parallel()
	const forward = "-t nat -A PREROUTING -i wan0 -p udp --dport 5000 -j DNAT --to-destination 192.168.50.10:3074"
	for what, tt := range map[string]struct {
		rules              []string
		external           string // "": any port
		mapping, filtering stunlab.Dependence
	}{
		"no NAT": {nil, "192.168.50.10:3074", stunlab.EndpointIndependent, stunlab.EndpointIndependent},
		"a port for all, and nothing forwarded": {
			[]string{"-t nat -A POSTROUTING -o wan0 -p udp -j MASQUERADE --to-ports 5000"},
			"11.22.33.44:5000", stunlab.EndpointIndependent, stunlab.AddressAndPortDependent,
		},
		"a port for all, which is forwarded": {
			[]string{"-t nat -A POSTROUTING -o wan0 -p udp -j MASQUERADE --to-ports 5000", forward},
			"11.22.33.44:5000", stunlab.EndpointIndependent, stunlab.EndpointIndependent,
		},
		"a port for all, which is forwarded from one address": {
			[]string{"-t nat -A POSTROUTING -o wan0 -p udp -j MASQUERADE --to-ports 5000", strings.Replace(forward, "-p udp", "-s 11.22.33.1 -p udp", 1)},
			"11.22.33.44:5000", stunlab.EndpointIndependent, stunlab.AddressDependent,
		},
		"a port for each address": {
			[]string{"-t nat -A POSTROUTING -d 11.22.33.1 -p udp -j MASQUERADE --to-ports 5000", "-t nat -A POSTROUTING -d 11.22.33.2 -p udp -j MASQUERADE --to-ports 5001"},
			"11.22.33.44:5000", stunlab.AddressDependent, stunlab.AddressAndPortDependent,
		},
		"a port for each address and port": {
			[]string{"-t nat -A POSTROUTING -o wan0 -p udp -j MASQUERADE --random"},
			"", stunlab.AddressAndPortDependent, stunlab.AddressAndPortDependent,
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			lab := netlab.NewLab(t, netlab.Layout{})
			lab.WAN.IP(t, "route", "add", "192.168.50.0/24", "via", netlab.RouterWAN.Addr().String())
			for _, rule := range tt.rules {
				lab.Router.Run(t, "/usr/sbin/iptables-legacy", strings.Fields(rule)...)
			}
			if tt.rules != nil {
				lab.Router.Run(t, "/usr/sbin/iptables-legacy", strings.Fields("-A FORWARD -i wan0 -m conntrack ! --ctstate ESTABLISHED,DNAT -j DROP")...)
			}
			server := stunlab.Serve(t, lab.WAN, [2]netip.Addr{netip.MustParseAddr("11.22.33.1"), netip.MustParseAddr("11.22.33.2")})
			client := stunlab.Listen(t, lab.Clients[0], netip.MustParseAddrPort("192.168.50.10:3074"))
			got := client.Discover(t, server)
			if got.Mapping != tt.mapping || got.Filtering != tt.filtering || tt.external != "" && got.External.String() != tt.external {
				t.Errorf("got %+v, want %s, mapping %s, filtering %s", got, tt.external, tt.mapping, tt.filtering)
			}
		})
	}
}
