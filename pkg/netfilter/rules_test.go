package netfilter_test

import (
	"net/netip"
	"slices"
	"testing"

	"igdd/pkg/portmap"
)

// The chains of a router without a firewall of its own, around our rules.
const (
	natHead     = "*iptables nat\n:MINIUPNPD\n-A PREROUTING -i wan0 -j MINIUPNPD\n"
	filterHead  = "*iptables filter\n:MINIUPNPD\n-A FORWARD -i wan0 ! -o wan0 -j MINIUPNPD\n"
	filter6Head = "*ip6tables filter\n:MINIUPNPD\n-A FORWARD -i wan0 ! -o wan0 -j MINIUPNPD\n"
	nothing     = "*iptables nat\n*iptables filter\n*ip6tables filter\n"
)

func TestRules(t *testing.T) {
	t.Parallel()
	disabled := mapping(portmap.TCP, 4000, "192.168.50.10:80")
	disabled.Claims[0].Disabled = true
	tests := []struct {
		name                 string
		open                 *portmap.Mapping
		nat, filter, filter6 string
	}{
		{"MUP-110", mapping(portmap.TCP, 6666, "192.168.101.20:5555"),
			"-A MINIUPNPD -p tcp -m tcp --dport 6666 -j DNAT --to-destination 192.168.101.20:5555\n",
			"-A MINIUPNPD -d 192.168.101.20/32 -p tcp -m tcp --dport 5555 -j ACCEPT\n", ""},
		{"MUP-111", mapping(portmap.UDP, 7777, "192.168.101.20:7777"),
			"-A MINIUPNPD -p udp -m udp --dport 7777 -j DNAT --to-destination 192.168.101.20:7777\n",
			"-A MINIUPNPD -d 192.168.101.20/32 -p udp -m udp --dport 7777 -j ACCEPT\n", ""},
		{"MUP-112", mapping(portmap.TCP, 6666, "192.168.101.20:5555", filter("11.22.35.254/32", 0)),
			"-A MINIUPNPD -s 11.22.35.254/32 -p tcp -m tcp --dport 6666 -j DNAT --to-destination 192.168.101.20:5555\n",
			"-A MINIUPNPD -s 11.22.35.254/32 -d 192.168.101.20/32 -p tcp -m tcp --dport 5555 -j ACCEPT\n", ""},
		{"two filters", mapping(portmap.UDP, 9, "192.168.101.20:9", filter("11.22.35.7/24", 0), filter("11.0.0.1/32", 53)),
			"-A MINIUPNPD -s 11.22.35.0/24 -p udp -m udp --dport 9 -j DNAT --to-destination 192.168.101.20:9\n" +
				"-A MINIUPNPD -s 11.0.0.1/32 -p udp -m udp --sport 53 --dport 9 -j DNAT --to-destination 192.168.101.20:9\n",
			"-A MINIUPNPD -s 11.22.35.0/24 -d 192.168.101.20/32 -p udp -m udp --dport 9 -j ACCEPT\n" +
				"-A MINIUPNPD -s 11.0.0.1/32 -d 192.168.101.20/32 -p udp -m udp --sport 53 --dport 9 -j ACCEPT\n", ""},
		{"disabled", disabled, "", "", ""},
		{"MUP-116", pinhole(portmap.TCP, "[2001:db8::20]:8080"), "", "",
			"-A MINIUPNPD -d 2001:db8::20/128 -p tcp -m tcp --dport 8080 -j ACCEPT\n"},
		{"MUP-116 remote", pinhole(portmap.UDP, "[2001:db8::20]:8080", filter("2001:db8:1::1/128", 5000)), "", "",
			"-A MINIUPNPD -s 2001:db8:1::1/128 -d 2001:db8::20/128 -p udp -m udp --sport 5000 --dport 8080 -j ACCEPT\n"},
	}
	eachVariant(t, func(t *testing.T, r *router) {
		f := r.firewall(t, options(t))
		must(t, f.Setup())
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				must(t, f.Apply(open(tt.open)))
				want := natHead + tt.nat + filterHead + tt.filter + filter6Head + tt.filter6
				wantRules(t, r, want)
				must(t, f.Sync([]*portmap.Mapping{tt.open}))
				wantRules(t, r, want)
				wantHealthy(t, f)
				must(t, f.Apply(closing(tt.open)))
				wantRules(t, r, natHead+filterHead+filter6Head)
			})
		}
		must(t, f.Teardown())
		wantRules(t, r, nothing)
	})
}

func TestPostroutingChainIsUsedWhenThere(t *testing.T) {
	t.Parallel()
	m := mapping(portmap.TCP, 6666, "192.168.101.20:5555", filter("11.22.35.254/32", 0))
	const (
		dnat       = "-A MINIUPNPD -s 11.22.35.254/32 -p tcp -m tcp --dport 6666 -j DNAT --to-destination 192.168.101.20:5555\n"
		accept     = "-A MINIUPNPD -s 11.22.35.254/32 -d 192.168.101.20/32 -p tcp -m tcp --dport 5555 -j ACCEPT\n"
		masquerade = "-A MINIUPNPD-POSTROUTING -s 192.168.101.20/32 -d 11.22.35.254/32 -p tcp -m tcp --sport 5555 -j MASQUERADE --to-ports 6666\n"
		natBoth    = "*iptables nat\n:MINIUPNPD\n:MINIUPNPD-POSTROUTING\n-A PREROUTING -i wan0 -j MINIUPNPD\n"
	)
	eachVariant(t, func(t *testing.T, r *router) {
		r.iptables(t, "-t nat -N MINIUPNPD-POSTROUTING")
		f := r.firewall(t, options(t))
		must(t, f.Setup())
		must(t, f.Apply(open(m)))
		wantRules(t, r, natBoth+dnat+masquerade+filterHead+accept+filter6Head)
		wantHealthy(t, f)

		r.iptables(t, "-t nat -F MINIUPNPD-POSTROUTING", "-t nat -X MINIUPNPD-POSTROUTING")
		must(t, f.Sync([]*portmap.Mapping{m}))
		wantRules(t, r, natHead+dnat+filterHead+accept+filter6Head)
		wantHealthy(t, f)

		r.iptables(t, "-t nat -N MINIUPNPD-POSTROUTING")
		wantUnhealthy(t, f)
		must(t, f.Sync([]*portmap.Mapping{m}))
		must(t, f.Apply(closing(m)))
		wantRules(t, r, natBoth+filterHead+filter6Head)
		must(t, f.Teardown())
		wantRules(t, r, "*iptables nat\n:MINIUPNPD-POSTROUTING\n*iptables filter\n*ip6tables filter\n")
	})
}

// outbound returns what PCP's PEER makes: packets to the peer leave by a port.
func outbound(external uint16, internal, peer string) *portmap.Mapping {
	m := mapping(portmap.UDP, external, internal)
	m.Claims[0].Remote = netip.MustParseAddrPort(peer)
	return m
}

func TestOutbound(t *testing.T) {
	t.Parallel()
	flow := outbound(6001, "192.168.101.20:6000", "11.22.35.254:53")
	both := *flow // lets others in as well
	both.Claims = append(slices.Clone(flow.Claims), portmap.Claim{Origin: portmap.PCP})
	const (
		leave   = " -s 192.168.101.20/32 -d 11.22.35.254/32 -p udp -m udp --sport 6000 --dport 53 -j MASQUERADE --to-ports 6001\n"
		dnat    = "-A MINIUPNPD -p udp -m udp --dport 6001 -j DNAT --to-destination 192.168.101.20:6000\n"
		accept  = "-A MINIUPNPD -d 192.168.101.20/32 -p udp -m udp --dport 6000 -j ACCEPT\n"
		peers   = ":MINIUPNPD-PEER\n-A POSTROUTING -o wan0 -j MINIUPNPD-PEER\n"
		beside  = ":NAT_POSTROUTING_CHAIN\n-A POSTROUTING -j NAT_POSTROUTING_CHAIN\n"
		besides = ":MINIUPNPD-PEER\n-A NAT_POSTROUTING_CHAIN -o wan0 -j MINIUPNPD-PEER\n" + beside
		others  = ":MINIUPNPD-POSTROUTING\n"
	)
	eachVariant(t, func(t *testing.T, r *router) {
		f := r.firewall(t, options(t))
		must(t, f.Setup())
		wantRules(t, r, natHead+filterHead+filter6Head) // made by the first that needs it
		must(t, f.Apply(open(flow)))
		wantHealthy(t, f)
		wantRules(t, r, natHead+peers+"-A MINIUPNPD-PEER"+leave+filterHead+filter6Head)
		must(t, f.Apply([]portmap.Change{{Before: flow, After: &both}}))
		wantRules(t, r, natHead+peers+"-A MINIUPNPD-PEER"+leave+dnat+filterHead+accept+filter6Head)
		must(t, f.Apply([]portmap.Change{{Before: &both, After: flow}}))
		must(t, f.Apply(closing(flow)))
		wantRules(t, r, natHead+peers+filterHead+filter6Head)

		f.flush(t)
		wantUnhealthy(t, f)
		must(t, f.Sync([]*portmap.Mapping{flow}))
		wantRules(t, r, natHead+peers+"-A MINIUPNPD-PEER"+leave+filterHead+filter6Head)
		wantHealthy(t, f)
		must(t, f.Teardown())
		wantRules(t, r, nothing)

		r.iptables(t, "-t nat -N NAT_POSTROUTING_CHAIN", "-t nat -A POSTROUTING -j NAT_POSTROUTING_CHAIN")
		f = r.firewall(t, options(t))
		must(t, f.Sync([]*portmap.Mapping{flow}))
		wantRules(t, r, natHead+besides+"-A MINIUPNPD-PEER"+leave+filterHead+filter6Head)
		must(t, f.Teardown())

		r.iptables(t, "-t nat -N MINIUPNPD-POSTROUTING")
		f = r.firewall(t, options(t))
		must(t, f.Setup())
		must(t, f.Apply(open(flow)))
		wantRules(t, r, natHead+beside+others+"-A MINIUPNPD-POSTROUTING"+leave+filterHead+filter6Head)
		must(t, f.Apply(closing(flow)))
		wantHealthy(t, f)
		must(t, f.Teardown())
	})
}

func TestOutboundWithoutRules(t *testing.T) {
	t.Parallel()
	r := newRouter(t, "legacy")
	f := r.firewall(t, options(t))
	must(t, f.Setup())
	for _, peer := range []string{"11.22.35.254:0", "[2001:db8::1]:53", "[::ffff:1.2.3.4]:53"} {
		if err := f.Apply(open(outbound(6001, "192.168.101.20:6000", peer))); err == nil {
			t.Errorf("peer %s", peer)
		}
	}
	must(t, f.Teardown())
}
