package xtables_test

import (
	"testing"

	"igdd/pkg/netlab"
	"igdd/pkg/netlab/packetlab"
)

// mostPerhaps is the share of rows, one of so many, on which trace need not be
// sure although it knows all that the rules ask.
const mostPerhaps = 20

// Trace agrees with the kernel of a router on what becomes of packets under the
// rules of many firewalls.
func TestTraceAgreesWithTheKernel(t *testing.T) {
	for _, f := range families {
		sets := readRuleSets(t, f.folder, f.common...)
		for _, variant := range netlab.Variants {
			t.Run(f.program+"/"+variant, func(t *testing.T) {
				t.Parallel()
				l := newRulesLab(t, f, variant)
				var all, known, perhaps int
				for _, set := range sets {
					t.Run(set.name, func(t *testing.T) {
						unsure := l.compare(t, set.text, set.packets, set.sets...)
						all += len(set.packets)
						if set.class == "" {
							known, perhaps = known+len(set.packets), perhaps+unsure
						}
					})
				}
				t.Logf("%d rule sets, %d packets; perhaps on %d of %d", len(sets), all, perhaps, known)
				if len(sets) < f.leastSets || all < f.leastRows || perhaps*mostPerhaps > known {
					t.Error("too few rule sets or packets, or too often perhaps")
				}
			})
		}
	}
}

// Arno's firewall itself, whose LAN is another one than that of the other rule sets,
// with a mapping, a forward and a blocked host.
func TestTraceAgreesOnArnosFirewall(t *testing.T) {
	const rules = `*nat
-I NAT_PREROUTING_CHAIN -i wan0 -p tcp --dport 8022 -j DNAT --to-destination 192.168.50.9:22
-A MINIUPNPD -p tcp -m tcp --dport 5000 -j DNAT --to-destination 192.168.50.10:5000
COMMIT
*filter
-I INPUT_CHAIN -s 203.0.113.0/24 -j DROP
-I FORWARD_CHAIN -s 203.0.113.0/24 -j DROP
-I FORWARD_CHAIN -i wan0 -d 192.168.50.9 -p tcp --dport 22 -j ACCEPT
-A MINIUPNPD -d 192.168.50.10/32 -p tcp -m tcp --dport 5000 -j ACCEPT
COMMIT
`
	packets, err := parseRuleSet(`#: wan0 tcp,udp 198.51.100.7,203.0.113.5 11.22.33.1,192.168.50.9 0,22,80,5000,8022
#: wan0 tcp,udp 192.168.50.7,10.9.8.7 11.22.33.1 80,5000
#: lan0 tcp,udp 192.168.50.20,10.9.8.7 192.168.50.1,203.0.113.9,11.22.33.1 22,53,67,5000
#: ppp0 tcp 198.51.100.7 22.33.44.1,192.168.50.10 5000
`, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, variant := range netlab.Variants {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			l := newRulesLab(t, &ipv4, variant)
			arno := netlab.NewArno(t, l.Router, variant)
			arno.Plugin(t, true)
			arno.Do(t, "start")
			for _, d := range append(devices, packetlab.Device{Name: "all"}) { // which the firewall sets, and which is not of its rules
				l.Router.Sysctl(t, "net/ipv4/conf/"+d.Name+"/rp_filter", "0")
			}
			if err := l.Router.Do(func() error { _, err := l.run("-restore", rules, "--noflush"); return err }); err != nil {
				t.Fatal(err)
			}
			s, err := l.snapshot()
			if err != nil {
				t.Fatal(err)
			}
			rows, err := l.rows(s, packets.packets)
			if err != nil {
				t.Fatal(err)
			}
			forwarded := 0
			for _, r := range rows {
				if r.arrival.Out != "" {
					forwarded++
				}
				if !r.agrees() || r.perhaps() {
					t.Error(r)
				}
			}
			if forwarded == 0 || forwarded == len(rows) {
				t.Errorf("%d of %d packets were forwarded", forwarded, len(rows))
			}
		})
	}
}
