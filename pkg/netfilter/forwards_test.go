package netfilter_test

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"igdd/pkg/netfilter"
	"igdd/pkg/portmap"
)

// Another process may hold the xtables lock for any time.
func TestStaticForwardsWaitForNoLock(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		r.iptables(t, "-t nat -A PREROUTING -p tcp --dport 80 -j REDIRECT")
		f := r.firewall(t, ipv4(t))
		lock, err := os.OpenFile(r.lock, os.O_CREATE|os.O_RDWR, 0o600)
		must(t, err)
		defer lock.Close()
		must(t, unix.Flock(int(lock.Fd()), unix.LOCK_EX))
		found, err := f.StaticForwards(netfilter.Uplink{Device: "wan0"})
		if err != nil || len(found.Certain) != 1 {
			t.Errorf("%v, %v", found, err)
		}
	})
}

func TestStaticForwards(t *testing.T) {
	t.Parallel()
	to := netip.MustParseAddrPort
	forward := func(p portmap.Protocol, first, last uint16, target netip.AddrPort) portmap.Forward {
		return portmap.Forward{Protocol: p, External: portmap.PortRange{First: first, Last: last}, Target: target}
	}
	itself := netip.AddrPort{}
	uplink := netfilter.Uplink{Device: "wan0", Addrs: []netip.Addr{netip.MustParseAddr("11.22.33.44")}}
	tests := []struct {
		rule []string // in table nat
		want []portmap.Forward
	}{
		{strings.Fields("PREROUTING -i wan0 -p tcp --dport 8022 -j DNAT --to-destination 192.168.50.9:22"),
			[]portmap.Forward{forward(portmap.TCP, 8022, 8022, to("192.168.50.9:22"))}},
		{strings.Fields("PREROUTING -p udp --dport 5000:5010 -j DNAT --to-destination 192.168.50.9"),
			[]portmap.Forward{forward(portmap.UDP, 5000, 5010, to("192.168.50.9:0"))}},
		{strings.Fields("PREROUTING -p udp --dport 5000:5010 -j DNAT --to-destination 192.168.50.9-192.168.50.12:6000-6010"),
			[]portmap.Forward{forward(portmap.UDP, 5000, 5010, itself)}}, // no one place
		{strings.Fields("PREROUTING -i wan+ -p tcp -m multiport --dports 80,443,1000:1002 -j DNAT --to-destination 192.168.50.9"), []portmap.Forward{
			forward(portmap.TCP, 80, 80, to("192.168.50.9:0")), forward(portmap.TCP, 443, 443, to("192.168.50.9:0")),
			forward(portmap.TCP, 1000, 1002, to("192.168.50.9:0"))}},
		{strings.Fields("PREROUTING -d 11.22.33.44 -p tcp --dport 25 -j REDIRECT --to-ports 2525"),
			[]portmap.Forward{forward(portmap.TCP, 25, 25, itself)}},
		{strings.Fields("PREROUTING -i wan0 -j DNAT --to-destination 192.168.50.9"), nil}, // what mappings leave
		{strings.Fields("PREROUTING -d 11.22.33.55 -p tcp --dport 25 -j DNAT --to-destination 192.168.50.9"), nil},
		{[]string{"PREROUTING", "-p", "tcp", "-m", "comment", "--comment", `a"-j b`, "--dport", "7", "-j", "DNAT", "--to-destination", "192.168.50.9:7"},
			[]portmap.Forward{forward(portmap.TCP, 7, 7, to("192.168.50.9:7"))}},
		{strings.Fields("NEXT -p tcp --dport 8 -j DNAT --to-destination 192.168.50.9:8"),
			[]portmap.Forward{forward(portmap.TCP, 8, 8, to("192.168.50.9:8"))}},
		{strings.Fields("PREROUTING -p 47 -j DNAT --to-destination 192.168.50.9"), nil},
		{strings.Fields("PREROUTING -i lan0 -p tcp --dport 80 -j REDIRECT --to-ports 3128"), nil},
		{strings.Fields("PREROUTING ! -i wan0 -p tcp --dport 80 -j REDIRECT --to-ports 3128"), nil},
		{strings.Fields("LONELY -p tcp --dport 9 -j DNAT --to-destination 192.168.50.9"), nil},
		{strings.Fields("PREROUTING -p tcp --dport 9 -j ACCEPT"), nil},
	}
	eachVariant(t, func(t *testing.T, r *router) {
		r.iptables(t, "-t nat -N NAT_PREROUTING_CHAIN", "-t nat -A PREROUTING -j NAT_PREROUTING_CHAIN", "-t nat -N LONELY",
			"-t nat -N NEXT", "-t nat -A NAT_PREROUTING_CHAIN -g NEXT")
		f := r.firewall(t, ipv4(t))
		must(t, f.Setup())
		must(t, f.Apply(open(mapping(portmap.TCP, 3001, "192.168.50.10:80"))))
		for _, tt := range tests {
			args := append([]string{"-t", "nat", "-A"}, tt.rule...)
			r.run(t, "iptables", args...)
			got, err := f.StaticForwards(uplink)
			if err != nil || !slices.Equal(got.Certain, tt.want) {
				t.Errorf("%q:\ngot  %v, %v\nwant %v", tt.rule, got.Certain, err, tt.want)
			}
			args[2] = "-D"
			r.run(t, "iptables", args...)
		}
		must(t, f.Teardown())
	})
}
