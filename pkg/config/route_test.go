package config

import (
	"fmt"
	"strings"
	"testing"
)

// TestRoutedNetworks reads lan_route.
func TestRoutedNetworks(t *testing.T) {
	for lines, want := range map[string]struct{ routes, warning string }{
		"10.1.0.0/16 via lan0":                                 {"[10.1.0.0/16 via lan0]", ""},
		"10.1.0.0/16 \t via  lan0 # the workshop":              {"[10.1.0.0/16 via lan0]", ""},
		"2001:db8:1::/48 via lan0":                             {"[2001:db8:1::/48 via lan0]", ""},
		"10.1.0.0/16 Via lan0":                                 {"[10.1.0.0/16 via lan0]", ""},
		"10.1.2.3/32 via lan0":                                 {"[10.1.2.3/32 via lan0]", ""},
		"10.1.0.0/16 via lan0\nlan_route=10.2.0.0/16 via lan0": {"[10.1.0.0/16 via lan0 10.2.0.0/16 via lan0]", ""},
		"10.1.0.0/16 via lan0\nlan_route=10.1.0.0/16 via lan0": {"[10.1.0.0/16 via lan0]", ""},
		"10.1.0.1/16 via lan0":                                 {"[10.1.0.0/16 via lan0]", "taken as 10.1.0.0/16"},
		"10.1.0.0/16 via lan0:1":                               {"[10.1.0.0/16 via lan0]", "all of lan0 is used"},
		"10.0.0.0/8 via lan0\nlan_route=10.1.0.0/16 via lan0":  {"[10.0.0.0/8 via lan0]", "overlaps with 10.0.0.0/8 via lan0"},
		"10.1.0.0/16 via lan9":                                 {"[]", "lan9 is not served"},
		"10.1.0.0/16 via wan0":                                 {"[]", "wan0 is not served"},
		"10.1.0.0/16 via 192.168.1.2":                          {"[]", `"192.168.1.2" is not an interface`},
		"10.1.0.0/16 via":                                      {"[]", "write a network and its interface"},
		"10.1.0.0/16":                                          {"[]", "write a network and its interface"},
		"":                                                     {"[]", "write a network and its interface"},
		"10.1.0.0/16 dev lan0":                                 {"[]", "write a network and its interface"},
		"10.1.0.0/16 via lan0 lan1":                            {"[]", "write a network and its interface"},
		"10.1.0.0 via lan0":                                    {"[]", "it is not a network such as"},
		"10.1/16 via lan0":                                     {"[]", "it is not a network such as"},
		"workshop via lan0":                                    {"[]", "it is not a network such as"},
		"10.1.0.0/33 via lan0":                                 {"[]", "it is not a network such as"},
		"0.0.0.0/0 via lan0":                                   {"[]", "no host behind a router has an address in 0.0.0.0/8"},
		"0.0.0.0/1 via lan0":                                   {"[]", "no host behind a router has an address in 0.0.0.0/8"},
		"127.0.0.0/8 via lan0":                                 {"[]", "in 127.0.0.0/8"},
		"169.254.1.0/24 via lan0":                              {"[]", "in 169.254.0.0/16"},
		"224.0.0.0/4 via lan0":                                 {"[]", "in 224.0.0.0/3"},
		"255.255.255.255/32 via lan0":                          {"[]", "in 224.0.0.0/3"},
		"::/0 via lan0":                                        {"[]", "in ::/127"},
		"::1/128 via lan0":                                     {"[]", "in ::/127"},
		"fe80::/10 via lan0":                                   {"[]", "in fe80::/10"},
		"ff02::/16 via lan0":                                   {"[]", "in ff00::/8"},
		"::ffff:10.1.0.0/112 via lan0":                         {"[]", "in ::ffff:0.0.0.0/96"},
		"192.168.7.0/25 via lan0\nlistening_ip=192.168.7.1/24": {"[]", "overlaps with the network 192.168.7.0/24"},
		"10.1.0.0/16 via lan1\nlistening_ip=192.168.7.1/24":    {"[10.1.0.0/16 via lan1]", ""}, // lan1 may have that address
		"10.1.0.0/16 via lan1\nlistening_ip=lan1\next_ifname=eth9": {"[10.1.0.0/16 via lan1]", ""},
	} {
		c, err := parseConf(t, "ext_ifname=wan0\nlistening_ip=lan0\nenable_natpmp=yes\nuuid="+someUUID+"\nlan_route="+lines+"\n")
		if err != nil {
			t.Fatalf("%q: %v", lines, err)
		}
		if got := fmt.Sprint(c.Routes); got != want.routes {
			t.Errorf("%q: %s, want %s", lines, got, want.routes)
		}
		demandWarnings(t, lines, c.Warnings, want.warning)
	}
}

// TestRoutesOfOptions has a LAN that only an option names: networks behind its hosts may
// have ports, those that overlap with it may not.
func TestRoutesOfOptions(t *testing.T) {
	const lines = `UPNP_LAN_ROUTES="10.1.0.0/16 via eth9; 10.2.0.0/16 via INTIF; 10.3.0.0/16 via INTIF" UPNP_RULES="deny interface eth2"` + "\n"
	c, err := parseRC(t, someService+"INT2IF=eth2\n"+lines, "-a", "eth9", "-a", "10.2.7.1/24", "-A", "allow 1 10.2.0.0/16 1")
	const want = "allow 1024-65535 192.168.101.0/24 1024-65535\nallow 1024-65535 10.1.0.0/16 1024-65535\nallow 1024-65535 10.3.0.0/16 1024-65535\n" + denyLine + "allow 1 10.2.0.0/16 1\n"
	if got := rulesOf(c); err != nil || !strings.HasSuffix(got, want) {
		t.Errorf("%v, rules\n%s, want\n%s", err, got, want)
	}
}

// TestRoutedNetworksOfRC reads UPNP_LAN_ROUTES. By default hosts of these networks may
// have the same ports as others.
func TestRoutedNetworksOfRC(t *testing.T) {
	const lan, routed = "allow 1024-65535 192.168.101.0/24 1024-65535\n", "allow 1024-65535 10.1.0.0/16 1024-65535\n"
	for lines, want := range map[string]struct{ routes, rules, warning string }{
		`UPNP_LAN_ROUTES="10.1.0.0/16 via INTIF"`:                                                         {"[10.1.0.0/16 via eth1]", lan + routed, ""},
		`UPNP_LAN_ROUTES="10.1.0.0/16 via eth1"`:                                                          {"[10.1.0.0/16 via eth1]", lan + routed, ""},
		`UPNP_LAN_ROUTES="10.1.0.0/16 via INTIF" UPNP_ALLOW="10.1.0.0/24~80"`:                             {"[10.1.0.0/16 via eth1]", "allow 1024-65535 10.1.0.0/24 80\n", ""},
		`UPNP_LAN_ROUTES=" 10.1.0.0/16 via INTIF,10.2.0.0/16 via INTIF ; "`:                               {"[10.1.0.0/16 via eth1 10.2.0.0/16 via eth1]", lan + routed + strings.ReplaceAll(routed, ".1.", ".2."), ""},
		"UPNP_LAN_ROUTES=\"10.1.0.0/16 via INTIF\n\n 2001:db8:1::/48 via INTIF\n\"":                       {"[10.1.0.0/16 via eth1 2001:db8:1::/48 via eth1]", lan + routed + strings.ReplaceAll(routed, "10.1.0.0/16", "2001:db8:1::/48"), ""},
		`UPNP_LISTEN="INTIF 192.168.101.9" UPNP_LAN_ROUTES="10.1.0.0/16 via INTIF"`:                       {"[10.1.0.0/16 via eth1]", lan + routed, ""},
		"UPNP_LAN_ROUTES=\"10.1.0.0/16 via INTIF # a, 10.9.0.0/16 via INTIF\n#10.8.0.0/16 via INTIF;\n\"": {"[10.1.0.0/16 via eth1]", lan + routed, ""},
		"UPNP_LAN_ROUTES=\"10.1.0.0/16 VIA intif\r\n10.2.0.0/16 via INTIF\r\n\"":                          {"[10.1.0.0/16 via eth1 10.2.0.0/16 via eth1]", lan + routed + strings.ReplaceAll(routed, ".1.", ".2."), ""},
		`UPNP_LAN_ROUTES="10.1.0.0/16 via INT2IF"`:                                                        {"[]", lan, "INT2IF is not served"},
		`INT2IF=eth2 INT2IP=10.9.0.1 INT2NM=255.255.255.0 UPNP_LAN_ROUTES="10.1.0.0/16 via INT2IF"`:       {"[]", lan, "INT2IF is not served"},
		`INT2IF=eth2 INT2IP=10.1.9.1 INT2NM=255.255.255.0 UPNP_LAN_ROUTES="10.1.0.0/16 via INTIF"`:        {"[]", lan, "overlaps with 10.1.9.0/24, the network of INT2IF"},
		`UPNP_LAN_ROUTES="192.168.101.0/25 via INTIF"`:                                                    {"[]", lan, "overlaps with 192.168.101.0/24, the network of INTIF"},
		`UPNP_LAN_ROUTES="10.1.0.0/16 via eth9; 10.2.0.0/16 via eth1"`:                                    {"[10.2.0.0/16 via eth1]", lan + strings.ReplaceAll(routed, ".1.", ".2."), "eth9 is not served"},
		`UPNP_LAN_ROUTES="0.0.0.0/0 via INTIF"`:                                                           {"[]", lan, "no host behind a router"},
		`UPNP_LAN_ROUTES="10.1.0.0/16"`:                                                                   {"[]", lan, "write a network and its interface"},
		`UPNP_LAN_ROUTES=""`:                                                                              {"[]", lan, ""},
	} {
		c, err := parseRC(t, someService+lines+"\n")
		if err != nil {
			t.Fatalf("%s: %v", lines, err)
		}
		if got := fmt.Sprint(c.Routes); got != want.routes {
			t.Errorf("%s: %s, want %s", lines, got, want.routes)
		}
		if got := rulesOf(c); got != want.rules+denyLine {
			t.Errorf("%s: rules\n%s", lines, got)
		}
		demandWarnings(t, lines, c.Warnings, want.warning)
	}
}
