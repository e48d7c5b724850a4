package netfilter_test

import (
	"maps"
	"net/netip"
	"testing"

	"igdd/pkg/netfilter"
	"igdd/pkg/netlab"
	"igdd/pkg/portmap"
)

func TestTraffic(t *testing.T) {
	t.Parallel()
	for _, variant := range netlab.Variants {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			lab := netlab.NewLab(t, netlab.Layout{IPv6: true})
			r := newRouterIn(t, lab.Router, variant)
			f := r.firewall(t, options(t))
			must(t, f.Setup())
			r.iptables(t, "-P FORWARD DROP", "-A FORWARD -i lan0 -j ACCEPT", "-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT")

			one := mapping(portmap.UDP, 3001, "192.168.50.10:7", filter("11.22.33.0/24", 0), filter("22.33.44.0/24", 0))
			left, right := mapping(portmap.TCP, 4001, "192.168.50.10:8"), mapping(portmap.TCP, 4002, "192.168.50.10:8")
			hole := pinhole(portmap.UDP, "[2001:db8:50::10]:7")
			idle := mapping(portmap.UDP, 9, "192.168.50.10:9")
			must(t, f.Apply(open(one, left, right, hole, idle, outbound(6001, "192.168.50.10:6000", "11.22.33.1:53"))))
			client := lab.Clients[0]
			client.Echo(t, "udp", ":7")
			client.Echo(t, "tcp", ":8")
			for _, p := range []netlab.Probe{
				{Network: "udp", To: netip.MustParseAddrPort("11.22.33.44:3001")},
				{Network: "tcp", To: netip.MustParseAddrPort("11.22.33.44:4001")},
				{Network: "tcp", To: netip.MustParseAddrPort("11.22.33.44:4001")},
				{Network: "tcp", To: netip.MustParseAddrPort("11.22.33.44:4002")},
				{Network: "udp", To: hole.Internal},
			} {
				p.From = lab.WAN
				p.Arrives(t)
			}
			lab.WAN.Echo(t, "udp", ":53")
			flow := netlab.Probe{Network: "udp", From: client, Source: netip.MustParseAddrPort("192.168.50.10:6000"), To: netip.MustParseAddrPort("11.22.33.1:53")}
			if seen := flow.Arrives(t); seen != netip.MustParseAddrPort("11.22.33.44:6001") {
				t.Errorf("the outbound flow is seen as %v", seen)
			}
			got, err := f.Counters()
			must(t, err)
			for key, n := range got {
				if (n.Packets == 0) != (n.Bytes == 0) || n.Bytes < 28*n.Packets {
					t.Errorf("%v: %+v", key, n)
				}
				n.Bytes = 0
				if key == one.Key || key == hole.Key {
					n.Packets = min(n.Packets, 1) // the probe repeats itself when it has to wait
				}
				got[key] = n
			}
			want := map[portmap.Key]netfilter.Count{
				one.Key: {Packets: 1}, hole.Key: {Packets: 1}, idle.Key: {}, left.Key: {Packets: 2}, right.Key: {Packets: 1},
			}
			if !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			must(t, f.Teardown())
		})
	}
}
