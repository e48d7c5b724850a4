package netfilter_test

import (
	"slices"
	"strings"
	"testing"

	"igdd/pkg/netfilter"
)

// firewall is an administrator's rule set, as far as it concerns our chains.
type firewall struct {
	name    string
	ip4     []string // commands of iptables
	ip6     []string // and of ip6tables
	chains  func(*netfilter.Options)
	hooked  bool     // it leads to our chains in all tables
	removes []string // what it does when it is stopped
}

// load makes the firewall, and a blocklist in front of it.
func (w firewall) load(t *testing.T, r *router) {
	t.Helper()
	r.iptables(t, w.ip4...)
	r.iptables(t, "-I FORWARD -s 203.0.113.0/24 -i wan0 -j DROP")
	for _, command := range append(w.ip6, "-I FORWARD -s 2001:db8:bad::/48 -i wan0 -j DROP") {
		r.run(t, "ip6tables", strings.Fields(command)...)
	}
}

func (w firewall) options(t *testing.T) netfilter.Options {
	o := options(t)
	if w.chains != nil {
		w.chains(&o)
	}
	return o
}

// firewalls are of all kinds that lead to our chains, and two that do not.
func firewalls() []firewall {
	return []firewall{
		{name: "none"},
		{name: "AIF with its plugin", ip4: slices.Concat(aifStart, pluginStart, pluginHook),
			removes: []string{"-t nat -D POST_NAT_PREROUTING_CHAIN -i wan0 -j MINIUPNPD", "-t nat -F MINIUPNPD", "-t nat -X MINIUPNPD",
				"-D POST_FORWARD_CHAIN -i wan0 ! -o wan0 -j MINIUPNPD", "-F MINIUPNPD", "-X MINIUPNPD"}},
		{name: "AIF without", ip4: aifStart},
		{name: "fw3", hooked: true,
			ip4: []string{"-t nat -N MINIUPNPD", "-t nat -N MINIUPNPD-POSTROUTING", "-t nat -N zone_wan_prerouting", "-t nat -N zone_wan_postrouting",
				"-t nat -A PREROUTING -i wan0 -m comment --comment !fw3 -j zone_wan_prerouting", "-t nat -A zone_wan_prerouting -j MINIUPNPD",
				"-t nat -A POSTROUTING -o wan0 -j zone_wan_postrouting", "-t nat -A zone_wan_postrouting -j MINIUPNPD-POSTROUTING",
				"-P FORWARD DROP", "-N MINIUPNPD", "-N zone_wan_forward", "-A FORWARD -i wan0 -j zone_wan_forward", "-A zone_wan_forward -j MINIUPNPD"},
			ip6: []string{"-N MINIUPNPD", "-N zone_wan_forward", "-A FORWARD -i wan0 -j zone_wan_forward", "-A zone_wan_forward -j MINIUPNPD"},
			removes: []string{"-t nat -F zone_wan_prerouting", "-t nat -X MINIUPNPD", "-t nat -F zone_wan_postrouting", "-t nat -X MINIUPNPD-POSTROUTING",
				"-F zone_wan_forward", "-X MINIUPNPD"}},
		{name: "Shorewall, three chains deep, with conditions", hooked: true,
			chains: func(o *netfilter.Options) { o.NATChain, o.ForwardChain = "UPnP", "forwardUPnP" },
			ip4: []string{"-t nat -N UPnP", "-t nat -N net_dnat", "-t nat -A PREROUTING -i wan+ -g net_dnat", "-t nat -A net_dnat -p udp -j UPnP",
				"-t nat -A net_dnat -p tcp -j UPnP", "-N forwardUPnP", "-N net_frwd", "-N net-loc", "-A FORWARD -i wan0 -j net_frwd",
				"-A net_frwd -o lan0 -j net-loc", "-A net-loc -m conntrack --ctstate NEW -j forwardUPnP", "-A net-loc -j DROP"},
			ip6: []string{"-N forwardUPnP", "-N net_frwd", "-N net-loc", "-A FORWARD ! -i lan0 -j net_frwd", "-A net_frwd -j net-loc",
				"-A net-loc -j forwardUPnP"},
			removes: []string{"-t nat -F net_dnat", "-t nat -X UPnP", "-F net-loc", "-X forwardUPnP"}},
		{name: "Asus", hooked: true, chains: func(o *netfilter.Options) { o.NATChain, o.ForwardChain = "VUPNP", "FUPNP" },
			ip4: []string{"-t nat -N VUPNP", "-t nat -N VSERVER", "-t nat -A PREROUTING -d 11.22.33.44/32 -j VSERVER", "-t nat -A VSERVER -j VUPNP",
				"-N FUPNP", "-A FORWARD -m conntrack --ctstate DNAT -j ACCEPT", "-A FORWARD -j FUPNP"},
			ip6: []string{"-N FUPNP", "-A FORWARD -j FUPNP"}},
		{name: "by hand", hooked: true,
			ip4: []string{"-t nat -N MINIUPNPD", `-t nat -A PREROUTING -i wan0 -m comment --comment "to -j MINIUPNPD -i lan0" -j MINIUPNPD`,
				"-N MINIUPNPD", "-A FORWARD -i wan+ ! -o wan+ -j MINIUPNPD", `-A FORWARD -j LOG --log-prefix "fwd -i wan0 -j DROP "`},
			ip6:     []string{"-N MINIUPNPD", "-A FORWARD -i wan0 ! -o wan0 -j MINIUPNPD"},
			removes: []string{"-t nat -F PREROUTING", "-t nat -X MINIUPNPD", "-F FORWARD", "-X MINIUPNPD"}},
	}
}

// TestRuleSetsAreLeftAsTheyWere starts and ends beside each firewall, by all
// ways in which a service can end.
func TestRuleSetsAreLeftAsTheyWere(t *testing.T) {
	t.Parallel()
	ends := map[string]func(*testing.T, nsFirewall, netfilter.Options){
		"stop": func(t *testing.T, f nsFirewall, _ netfilter.Options) { must(t, f.Teardown()) },
		"kill and start, which fails": func(t *testing.T, f nsFirewall, o netfilter.Options) {
			must(t, f.takeDown(t.Context(), o))
		},
		"kill, start and stop": func(t *testing.T, f nsFirewall, o netfilter.Options) {
			next := f.router.firewall(t, o)
			must(t, next.Setup())
			must(t, next.Sync(some()))
			must(t, next.Teardown())
		},
		"kill, start and stop at once": func(t *testing.T, f nsFirewall, o netfilter.Options) {
			must(t, f.router.firewall(t, o).Teardown())
		},
	}
	for _, w := range firewalls() {
		for name, end := range ends {
			t.Run(w.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				eachVariant(t, func(t *testing.T, r *router) { w.isLeftAsItWas(t, r, end) })
			})
		}
	}
}

// isLeftAsItWas checks that a service that ran beside the firewall leaves its
// rules unchanged.
func (w firewall) isLeftAsItWas(t *testing.T, r *router, end func(*testing.T, nsFirewall, netfilter.Options)) {
	t.Helper()
	w.load(t, r)
	before := r.rules(t)
	o := w.options(t)
	o.OwnershipFile = t.TempDir() + "/record"
	f := r.firewall(t, o)
	must(t, f.Setup())
	must(t, f.Apply(open(some()...)))
	wantHealthy(t, f)
	if jumps := added(before, r.rules(t), "-j "+o.NATChain+"\n"); w.hooked && jumps != "" {
		t.Errorf("a second way to our chains:\n%s", jumps)
	}
	end(t, f, o)
	if after := r.rules(t); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
	wantNoRecord(t, o.OwnershipFile)
	r.iptables(t, w.removes...)
}

// added returns the lines that are new and end in this.
func added(before, after, end string) string {
	var b strings.Builder
	for line := range strings.Lines(after) {
		if strings.HasSuffix(line, end) && strings.Count(after, line) > strings.Count(before, line) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// TestWaysThatExcludeTheUplink has ways to our chain that nothing from the
// uplink can take: one jump is made as if they were not there.
func TestWaysThatExcludeTheUplink(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		wan, rule string
		hooked    bool
	}{
		{"wan0", "-i lan0 -j zone", false},
		{"wan0", "! -i wan0 -j zone", false},
		{"wan0", "! -i wan+ -j zone", false},
		{"wan0", "-i wan01 -j zone", false},
		{"wan0", "-i wan+ -j zone", true},
		{"wan0", "! -i lan+ -g zone", true},
		{"wan0", "-p tcp -m tcp --dport 80 -j zone", true},
		{"wan0", "-o lan0 -j zone", true},
		{"wan+", "-i wan0 -j zone", true},
		{"wan+", "! -i wan0 -j zone", true},
		{"wan+", "! -i w+ -j zone", false},
		{"wan+", "-i ppp0 -j zone", false},
	} {
		t.Run(tt.wan+" "+tt.rule, func(t *testing.T) {
			t.Parallel()
			r := newRouter(t, "legacy")
			r.iptables(t, "-N MINIUPNPD", "-N zone", "-N next", "-A next -j MINIUPNPD", "-A zone -g next", "-A FORWARD "+tt.rule)
			o := ipv4(t)
			o.WAN = []string{tt.wan}
			f := r.firewall(t, o)
			must(t, f.Setup())
			wantHealthy(t, f)
			jump := "-A FORWARD -i " + tt.wan + " ! -o " + tt.wan + " -j MINIUPNPD"
			if made := slices.Contains(r.saved(t, "iptables", "filter"), jump); made == tt.hooked {
				t.Errorf("our own jump is there: %v", made)
			}
			must(t, f.Teardown())
		})
	}
}

// TestTheFirewallsOwnWayWins has a firewall add its own jumps to our chains while
// the service runs, and remove them again.
func TestTheFirewallsOwnWayWins(t *testing.T) {
	t.Parallel()
	block := "-I FORWARD -s 203.0.113.0/24 -i wan0 -j DROP"
	way := []string{"-t nat -N zone", "-t nat -A zone -j MINIUPNPD", "-t nat -A PREROUTING -i wan0 -j zone", "-N zone", "-A zone -j MINIUPNPD", "-A FORWARD -i wan0 -j zone"}
	way6 := []string{"-N zone", "-A zone -j MINIUPNPD", "-A FORWARD -i wan0 -j zone"}
	each := func(t *testing.T, r *router, commands []string) {
		for _, command := range commands {
			r.run(t, "ip6tables", strings.Fields(command)...)
		}
	}
	eachVariant(t, func(t *testing.T, r *router) {
		f := r.firewall(t, options(t))
		must(t, f.Sync(some()))
		alone := r.rules(t)
		if n := strings.Count(alone, "-j MINIUPNPD\n"); n != 3 {
			t.Fatalf("%d jumps are ours, want 3:\n%s", n, alone)
		}
		for range 2 {
			r.iptables(t, append(way, block)...)
			each(t, r, way6)
			wantUnhealthy(t, f)
			must(t, f.Sync(some()))
			wantHealthy(t, f)
			if beside := r.rules(t); strings.Count(beside, "-j MINIUPNPD\n") != 3 || strings.Contains(beside, "-A FORWARD -i wan0 ! -o wan0 -j MINIUPNPD") {
				t.Errorf("a jump of ours is in place beside the firewall's:\n%s", beside)
			}
			r.iptables(t, "-t nat -D PREROUTING -i wan0 -j zone", "-t nat -F zone", "-t nat -X zone", "-D FORWARD -i wan0 -j zone", "-F zone", "-X zone",
				strings.Replace(block, "-I", "-D", 1))
			each(t, r, []string{"-D FORWARD -i wan0 -j zone", "-F zone", "-X zone"})
			wantUnhealthy(t, f)
			must(t, f.Sync(some()))
			wantHealthy(t, f)
			wantRules(t, r, alone)
		}
		must(t, f.Teardown())
		wantRules(t, r, nothing)
	})
}

// A jump that equals ours, where ours would be, belongs to another program if it
// was there first.
func TestJumpsOfOthersStayWhereOursWouldBe(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		r.iptables(t, "-N MINIUPNPD", "-N zone", "-A zone -j MINIUPNPD", "-A FORWARD -i wan0 -j zone", "-A FORWARD -i wan0 ! -o wan0 -j MINIUPNPD")
		before := r.saved(t, "iptables", "filter")
		f := r.firewall(t, ipv4(t))
		must(t, f.Setup())
		must(t, f.Sync(nil))
		wantHealthy(t, f)
		must(t, f.Teardown())
		if after := r.saved(t, "iptables", "filter"); !slices.Equal(before, after) {
			t.Errorf("before %q, after %q", before, after)
		}
	})
}
