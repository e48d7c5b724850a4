package portmap

import (
	"net/netip"
	"strings"
	"testing"
)

// The networks behind another router on the LAN.
var (
	routed4 = netip.MustParsePrefix("10.1.0.0/16")
	routed1 = netip.MustParsePrefix("10.2.0.9/32")
	routed6 = netip.MustParsePrefix("2001:db8:99::/64")
)

// routedAllocator returns an allocator with these networks.
func routedAllocator() *allocator {
	al := testAllocator()
	al.setNetwork(NetworkState{
		External: wan4, LANs: []netip.Prefix{lan, netip.MustParsePrefix("2001:db8:50::1/64")},
		Routed: []RoutedNetwork{{Prefix: routed4}, {Prefix: routed1}, {Prefix: routed6}}, Own: []netip.Addr{netip.MustParseAddr("10.1.7.7")},
	})
	return al
}

// TestTargetsBehindRouters has hosts there, and addresses that are none.
func TestTargetsBehindRouters(t *testing.T) {
	al := routedAllocator()
	for a, want := range map[string]Refusal{
		"10.1.0.1": Granted, "10.1.3.255": Granted, "10.2.0.9": Granted, "2001:db8:99::1": Granted, "2001:db8:99::": Granted,
		"10.1.0.0": BadTarget, "10.1.255.255": BadTarget, "10.1.7.7": BadTarget, "10.2.0.8": NoNetwork, "10.3.0.1": NoNetwork, "2001:db8:98::1": NoNetwork,
	} {
		if got := al.network.checkTarget(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: %v, want %v", a, got, want)
		}
		elsewhere, err := al.network.checkAddr(netip.MustParseAddr(a))
		if elsewhere != (want == NoNetwork) || (err != nil) != (want == BadTarget) {
			t.Errorf("%s: a block is elsewhere: %v, %v", a, elsewhere, err)
		}
	}
}

// TestQuotaBehindRouters has the hosts of a routed network take all that a LAN may have:
// those of the LAN itself, and of another routed network, keep theirs.
func TestQuotaBehindRouters(t *testing.T) {
	al := routedAllocator()
	al.policy.Rules, al.policy.MaxPerHost, al.policy.MaxPerLAN, al.policy.MaxTotal = nil, 64, 64, 1024
	for _, a := range []netip.Addr{netip.MustParseAddr("10.1.0.2"), peer, routed1.Addr()} {
		if n, r := al.fillIPv4(a); n != 64-64/reservedShare || r != TableFull {
			t.Errorf("%v gets %d mappings, then %v", a, n, r)
		}
	}
}

// TestHardwareRulesBehindRouters has rules by hardware address, which is that of the
// router between: they concern no host behind it, whatever was known of it before.
func TestHardwareRulesBehindRouters(t *testing.T) {
	const mac = "02:00:00:00:00:10"
	all := Ports(nil)
	for _, host := range []Host{{}, {Hardware: mac}} {
		for allow, want := range map[bool]Refusal{true: NotAuthorized, false: Granted} {
			al := routedAllocator()
			al.policy.Rules = []Rule{
				{Allow: allow, External: all, Hardware: mac, Internal: all},
				{Allow: !allow, External: all, Network: netip.IPv4Unspecified(), Internal: all},
			}
			for _, a := range []string{"10.1.0.2", "2001:db8:99::2"} {
				to := netip.AddrPortFrom(netip.MustParseAddr(a), 4000)
				if got := al.checkRules(4000, al.destination(to, host, NATPMP), ""); got != want {
					t.Errorf("%s, %+v, with a rule that says %v: %v, want %v", a, host, allow, got, want)
				}
			}
		}
	}
}

// TestIPv6RulesBehindRouters has rules for IPv4 addresses of the LAN: they say nothing of
// a routed IPv6 network, which counts as one of the routed IPv4 networks.
func TestIPv6RulesBehindRouters(t *testing.T) {
	all := Ports(nil)
	of := func(allow bool, n netip.Prefix) Rule {
		if n.Addr().Is6() {
			return Rule{Allow: allow, External: all, Prefix: n, Internal: all}
		}
		return Rule{Allow: allow, External: all, Network: n.Addr(), Mask: ^uint32(0) << (32 - n.Bits()), Internal: all}
	}
	denyAll := Rule{External: all, Network: netip.IPv4Unspecified(), Internal: all}
	for name, tt := range map[string]struct {
		rules []Rule
		want  Refusal
	}{
		"the LAN alone":                              {[]Rule{of(true, lan.Masked()), denyAll}, NotAuthorized},
		"one of the IPv4 networks":                   {[]Rule{of(true, routed4), denyAll}, NotAuthorized},
		"all of the IPv4 networks":                   {[]Rule{of(true, routed4), of(true, routed1), denyAll}, Granted},
		"a host of an IPv4 network refused":          {[]Rule{of(false, netip.PrefixFrom(routed4.Addr().Next(), 32)), of(true, routed4), of(true, routed1), denyAll}, NotAuthorized},
		"the IPv6 network":                           {[]Rule{of(true, lan.Masked()), of(true, routed6), denyAll}, Granted},
		"a host of the LAN refused":                  {[]Rule{of(false, netip.MustParsePrefix("192.168.50.10/32")), of(true, routed6), denyAll}, Granted},
		"the IPv4 network behind the same interface": {[]Rule{of(true, routed4), denyAll}, Granted},
		"one behind another interface refused":       {[]Rule{of(false, routed1), of(true, routed4), denyAll}, Granted},
	} {
		al := routedAllocator()
		al.policy.Rules = tt.rules
		if strings.Contains(name, "interface") {
			al.network.Routed = []RoutedNetwork{{routed4, "lan0"}, {routed1, "lan1"}, {routed6, "lan0"}}
		}
		to := netip.AddrPortFrom(netip.MustParseAddr("2001:db8:99::2"), 4000)
		if got := al.checkRules(4000, al.destination(to, Host{}, NATPMP), ""); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}
