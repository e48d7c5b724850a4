package lan

import (
	"net/netip"
	"testing"
)

func TestIsAdmitted(t *testing.T) {
	own := []netip.Prefix{
		netip.MustParsePrefix("192.168.50.1/24"), netip.MustParsePrefix("192.168.50.2/24"), netip.MustParsePrefix("10.0.0.0/31"),
		netip.MustParsePrefix("2001:db8:50::1/64"), netip.MustParsePrefix("fe80::1/64"),
	}
	routed := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.2.0.9/32"), netip.MustParsePrefix("2001:db8:99::/64")}
	const group, linkGroup = "239.255.255.250", "ff02::c"
	for name, test := range map[string]struct {
		from, to      string
		without, with bool // whether the socket has groups
	}{
		"neighbour":                         {"192.168.50.10:1024", "192.168.50.1", true, true},
		"second address":                    {"192.168.50.10:1024", "192.168.50.2", true, true},
		"point to point":                    {"10.0.0.1:1024", "10.0.0.0", true, true},
		"IPv6":                              {"[2001:db8:50::10]:1024", "2001:db8:50::1", true, true},
		"global to link-local":              {"[2001:db8:50::10]:1024", "fe80::1", true, true},
		"link-local with a zone":            {"[fe80::10%lan0]:1024", "fe80::1", true, true},
		"routed":                            {"10.1.2.255:1024", "192.168.50.1", true, true},
		"routed, a network of one":          {"10.2.0.9:1024", "192.168.50.1", true, true},
		"routed, IPv6":                      {"[2001:db8:99::10]:1024", "2001:db8:50::1", true, true},
		"routed to a group":                 {"10.1.0.2:1024", group, false, true},
		"routed to another host":            {"10.1.0.2:1024", "192.168.50.11", false, false},
		"routed, from the broadcast":        {"10.1.255.255:1024", "192.168.50.1", false, false},
		"routed, from the network":          {"10.1.0.0:1024", "192.168.50.1", false, false},
		"routed, from port 0":               {"10.1.0.2:0", "192.168.50.1", false, false},
		"beside a network of one":           {"10.2.0.8:1024", "192.168.50.1", false, false},
		"sent to all ones":                  {"192.168.50.10:1024", "255.255.255.255", false, true},
		"sent to a group":                   {"192.168.50.10:1024", group, false, true},
		"sent to an IPv6 group":             {"[fe80::10%lan0]:1024", linkGroup, false, true},
		"sent to the uplink":                {"192.168.50.10:1024", "11.22.33.44", false, false},
		"sent to the network":               {"192.168.50.10:1024", "192.168.50.255", false, false},
		"sent to another host":              {"192.168.50.10:1024", "192.168.50.11", false, false},
		"foreign host":                      {"10.9.9.9:1024", "192.168.50.1", false, false},
		"foreign host to a group":           {"192.168.60.10:1024", group, false, false},
		"foreign host to all ones":          {"192.168.60.10:1024", "255.255.255.255", false, false},
		"from the uplink's network":         {"11.22.33.1:1024", "192.168.50.1", false, false},
		"IPv6 foreign host":                 {"[2001:db8:51::10]:1024", "2001:db8:50::1", false, false},
		"from the router's address":         {"192.168.50.2:1024", "192.168.50.1", false, false},
		"from the router to a group":        {"192.168.50.1:1024", group, false, false},
		"from the router's IPv6 address":    {"[fe80::1%lan0]:1024", "fe80::1", false, false},
		"from the router to an IPv6 group":  {"[fe80::1%lan0]:1024", linkGroup, false, false},
		"from the broadcast address":        {"192.168.50.255:1024", "192.168.50.1", false, false},
		"from the network's address":        {"192.168.50.0:1024", group, false, false},
		"from the unspecified address":      {"0.0.0.0:1024", "192.168.50.1", false, false},
		"from all ones":                     {"255.255.255.255:1024", group, false, false},
		"from a group":                      {"224.0.0.1:1024", group, false, false},
		"from the loopback":                 {"127.0.0.1:1024", group, false, false},
		"from the unspecified IPv6 address": {"[::]:1024", "2001:db8:50::1", false, false},
		"from port 0":                       {"192.168.50.10:0", group, false, false},
	} {
		for hasGroups, want := range map[bool]bool{false: test.without, true: test.with} {
			if got := isAdmitted(own, routed, netip.MustParseAddrPort(test.from), netip.MustParseAddr(test.to), hasGroups); got != want {
				t.Errorf("%s, with groups %v: %v", name, hasGroups, got)
			}
		}
	}
	if isAdmitted(nil, nil, netip.MustParseAddrPort("192.168.50.10:1024"), netip.MustParseAddr("192.168.50.1"), true) {
		t.Error("an interface without addresses has neighbours")
	}
}
