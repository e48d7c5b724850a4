package netfilter_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"igdd/pkg/netfilter"
	"igdd/pkg/portmap"
)

// Commands of AstLinux's firewall (AIF) and its plugin that concern our chains.
var (
	aifStart = []string{
		"-P FORWARD DROP", "-N BASE_FORWARD_CHAIN", "-N POST_FORWARD_CHAIN",
		"-A FORWARD -j BASE_FORWARD_CHAIN", "-A FORWARD -j POST_FORWARD_CHAIN", "-A FORWARD -j DROP",
		"-t nat -N NAT_PREROUTING_CHAIN", "-t nat -N POST_NAT_PREROUTING_CHAIN",
		"-t nat -A PREROUTING -j NAT_PREROUTING_CHAIN",
		"-t nat -A PREROUTING -i wan0 -p tcp -m tcp --dport 8022 -j DNAT --to-destination 192.168.50.9:22",
		"-t nat -A PREROUTING -j POST_NAT_PREROUTING_CHAIN",
	}
	aifStop     = []string{"-P FORWARD DROP", "-F", "-X", "-t nat -F", "-t nat -X"}
	pluginStart = []string{"-t nat -N MINIUPNPD", "-N MINIUPNPD"}
	pluginHook  = []string{"-t nat -A POST_NAT_PREROUTING_CHAIN -i wan0 -j MINIUPNPD", "-A POST_FORWARD_CHAIN -i wan0 ! -o wan0 -j MINIUPNPD"}
	// The restart in place flushes the chains that are kept for others.
	aifRestart = []string{"-t nat -F POST_NAT_PREROUTING_CHAIN", "-F POST_FORWARD_CHAIN"}
)

// aifRules are the chains with our jumps and rules in them.
func aifRules(natJumps, natRules, filterJumps, filterRules string) string {
	return "*iptables nat\n:MINIUPNPD\n:NAT_PREROUTING_CHAIN\n:POST_NAT_PREROUTING_CHAIN\n" +
		"-A PREROUTING -j NAT_PREROUTING_CHAIN\n" +
		"-A PREROUTING -i wan0 -p tcp -m tcp --dport 8022 -j DNAT --to-destination 192.168.50.9:22\n" +
		"-A PREROUTING -j POST_NAT_PREROUTING_CHAIN\n" + natJumps + natRules +
		"*iptables filter\n:BASE_FORWARD_CHAIN\n:MINIUPNPD\n:POST_FORWARD_CHAIN\n" +
		"-A FORWARD -j BASE_FORWARD_CHAIN\n-A FORWARD -j POST_FORWARD_CHAIN\n-A FORWARD -j DROP\n" + filterJumps + filterRules +
		"*ip6tables filter\n"
}

const (
	aifNATJump    = "-A POST_NAT_PREROUTING_CHAIN -i wan0 -j MINIUPNPD\n"
	aifFilterJump = "-A POST_FORWARD_CHAIN -i wan0 ! -o wan0 -j MINIUPNPD\n"
	oneDNAT       = "-A MINIUPNPD -p tcp -m tcp --dport 3001 -j DNAT --to-destination 192.168.50.10:80\n"
	oneAccept     = "-A MINIUPNPD -d 192.168.50.10/32 -p tcp -m tcp --dport 80 -j ACCEPT\n"
)

// ipv4 returns the options of a router whose IPv6 we leave alone.
func ipv4(t testing.TB) netfilter.Options {
	o := options(t)
	o.IPv6 = false
	return o
}

func TestBesideAIF(t *testing.T) {
	t.Parallel()
	one := mapping(portmap.TCP, 3001, "192.168.50.10:80")
	bare := strings.ReplaceAll(aifRules("", "", "", ""), ":MINIUPNPD\n", "")
	hooked := aifRules(aifNATJump, oneDNAT, aifFilterJump, oneAccept)
	empty := aifRules(aifNATJump, "", aifFilterJump, "")
	for _, tt := range []struct {
		name   string
		before []string // what happened before the service starts
		after  []string // and while it runs
		want   string   // after the repair
		left   string   // after the end
	}{
		{"plugin first", append(pluginStart, pluginHook...), nil, hooked, empty},
		{"no plugin", nil, nil, hooked, bare},
		{"restart, plugin hooks", append(pluginStart, pluginHook...), append(aifRestart, pluginHook...), hooked, empty},
		{"AST-100: restart, no plugin hooks", append(pluginStart, pluginHook...), aifRestart, hooked, aifRules("", "", "", "")},
		{"plugin hooks again", append(pluginStart, pluginHook...), pluginHook, hooked, empty},
		{"AST-101: stop, start, plugin starts", append(pluginStart, pluginHook...),
			append(append(append(aifStop, aifStart...), pluginStart...), pluginHook...), hooked, empty},
		{"AST-101: stop, start, no plugin", nil, append(aifStop, aifStart...), hooked, bare},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			eachVariant(t, func(t *testing.T, r *router) {
				r.iptables(t, aifStart...)
				r.iptables(t, tt.before...)
				f := r.firewall(t, ipv4(t))
				must(t, f.Setup())
				must(t, f.Apply(open(one)))
				r.iptables(t, tt.after...)
				if ok, err := f.Healthy(); ok != (wantsNoRepair(tt.after)) || err != nil {
					t.Errorf("healthy: %v, %v", ok, err)
				}
				must(t, f.Sync([]*portmap.Mapping{one}))
				wantRules(t, r, tt.want)
				wantHealthy(t, f)
				must(t, f.Teardown())
				wantRules(t, r, tt.left)
			})
		})
	}
}

// wantsNoRepair reports whether the commands left our chains and jumps in place.
func wantsNoRepair(commands []string) bool {
	return len(commands) == 0 || len(commands) == len(aifRestart)+len(pluginHook)
}

// With PPPoE the firewall hooks "ppp+" and the init script "ppp0" (AST-104);
// both uplinks lead to the same chains (AST-105).
func TestJumpsOfOthersServe(t *testing.T) {
	t.Parallel()
	o := ipv4(t)
	o.WAN = []string{"ppp0", "eth1"}
	eachVariant(t, func(t *testing.T, r *router) {
		r.iptables(t, aifStart...)
		r.iptables(t, pluginStart...)
		r.iptables(t, "-t nat -A POST_NAT_PREROUTING_CHAIN -i ppp+ -j MINIUPNPD", "-A POST_FORWARD_CHAIN -i ppp+ ! -o ppp+ -j MINIUPNPD",
			"-t nat -A POST_NAT_PREROUTING_CHAIN -i ppp0 -j MINIUPNPD")
		f := r.firewall(t, o)
		want := aifRules("-A POST_NAT_PREROUTING_CHAIN -i ppp+ -j MINIUPNPD\n-A POST_NAT_PREROUTING_CHAIN -i eth1 -j MINIUPNPD\n", "",
			"-A POST_FORWARD_CHAIN -i ppp+ ! -o ppp+ -j MINIUPNPD\n-A POST_FORWARD_CHAIN -i eth1 ! -o eth1 -j MINIUPNPD\n", "")
		for range 2 {
			must(t, f.Setup())
			wantRules(t, r, want)
		}
		must(t, f.Sync(nil))
		wantRules(t, r, want)
		wantHealthy(t, f)
		must(t, f.Teardown())
		wantRules(t, r, aifRules("-A POST_NAT_PREROUTING_CHAIN -i ppp+ -j MINIUPNPD\n", "", "-A POST_FORWARD_CHAIN -i ppp+ ! -o ppp+ -j MINIUPNPD\n", ""))
	})
}

// While the firewall is stopped on purpose nothing is opened (AST-102).
func TestWaitsWhileAIFIsStopped(t *testing.T) {
	t.Parallel()
	one := mapping(portmap.TCP, 3001, "192.168.50.10:80")
	eachVariant(t, func(t *testing.T, r *router) {
		r.iptables(t, aifStart...)
		f := r.firewall(t, options(t))
		must(t, f.Setup())
		must(t, f.Sync([]*portmap.Mapping{one}))
		r.iptables(t, aifStop...)
		stopped := r.rules(t)
		if ok, err := f.Healthy(); ok || !errors.Is(err, netfilter.ErrStopped) {
			t.Errorf("healthy: %v, %v", ok, err)
		}
		if !f.Stopped() {
			t.Error("the firewall does not count as stopped")
		}
		for what, err := range map[string]error{
			"apply": f.Apply(open(mapping(portmap.TCP, 3002, "192.168.50.10:81"))),
			"sync":  f.Sync([]*portmap.Mapping{one}),
			"setup": f.Setup(),
		} {
			if !errors.Is(err, netfilter.ErrStopped) {
				t.Errorf("%s: %v", what, err)
			}
		}
		// The pinholes' firewall is another one: it goes on.
		must(t, f.Apply(open(pinhole(portmap.TCP, "[2001:db8::20]:8080"))))
		must(t, f.Apply(closing(pinhole(portmap.TCP, "[2001:db8::20]:8080"))))
		wantRules(t, r, stopped)

		r.iptables(t, aifStart...)
		wantUnhealthy(t, f)
		must(t, f.Sync([]*portmap.Mapping{one}))
		want := strings.TrimSuffix(aifRules(aifNATJump, oneDNAT, aifFilterJump, oneAccept), "*ip6tables filter\n") + filter6Head
		wantRules(t, r, want)
		wantHealthy(t, f)
		if f.Stopped() {
			t.Error("the firewall still counts as stopped")
		}
		must(t, f.Teardown())
	})
}

// A firewall that is being stopped flushes its chains before it deletes them. Rules that
// were added in between would keep it from that, and have no effect. If the chains stay,
// the firewall counts as stopped, and what was granted meanwhile has no rules.
func TestFlushedFirewallIsLeftAlone(t *testing.T) {
	t.Parallel()
	one, two := mapping(portmap.TCP, 3001, "192.168.50.10:80"), mapping(portmap.TCP, 3002, "192.168.50.10:81")
	eachVariant(t, func(t *testing.T, r *router) {
		r.iptables(t, aifStart...)
		f := r.firewall(t, ipv4(t))
		must(t, f.Setup())
		must(t, f.Sync([]*portmap.Mapping{one}))
		r.iptables(t, "-P FORWARD DROP", "-F", "-t nat -F")
		flushed := r.rules(t)
		f.look()
		wantRules(t, r, flushed)
		if f.Stopped() {
			t.Error("a firewall that may be starting counts as stopped")
		}
		must(t, f.Apply(open(two)))
		eventually(t, "the firewall counts as stopped", func() bool { f.look(); return f.Stopped() })
		wantRules(t, r, flushed)
		if err := f.Apply(closing(two)); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := f.Apply(open(two)); !errors.Is(err, netfilter.ErrStopped) {
			t.Errorf("apply: %v", err)
		}
		r.iptables(t, "-A FORWARD -j POST_FORWARD_CHAIN", "-t nat -A PREROUTING -j POST_NAT_PREROUTING_CHAIN")
		f.look()
		f.demandOpen(t, "when it has started", []*portmap.Mapping{one})
		wantHealthy(t, f)
		must(t, f.Teardown())
	})
}

func TestStoppedFirewallWithoutMappingsIsHealthy(t *testing.T) {
	t.Parallel()
	r := newRouter(t, "legacy")
	r.iptables(t, aifStart...)
	f := r.firewall(t, ipv4(t))
	must(t, f.Setup())
	r.iptables(t, aifStop...)
	must(t, f.Sync(nil))
	wantHealthy(t, f)
	wantRules(t, r, nothing)
	r.iptables(t, aifStart...)
	wantUnhealthy(t, f)
	must(t, f.Sync(nil))
	wantRules(t, r, aifRules(aifNATJump, "", aifFilterJump, ""))
	must(t, f.Teardown())
}

// miniupnpd's own script hooks the built-in chains, and nothing of it is ours.
func TestBesideMiniupnpdsScript(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		r.iptables(t, "-t nat -N MINIUPNPD", "-t nat -A PREROUTING -i wan0 -j MINIUPNPD", "-N MINIUPNPD",
			"-I FORWARD -i wan0 ! -o wan0 -j MINIUPNPD", "-t nat -N MINIUPNPD-POSTROUTING", "-t nat -A POSTROUTING -o wan0 -j MINIUPNPD-POSTROUTING")
		before := r.rules(t)
		f := r.firewall(t, ipv4(t))
		must(t, f.Setup())
		must(t, f.Sync(nil))
		must(t, f.Teardown())
		if after := r.rules(t); after != before {
			t.Errorf("before\n%s\nafter\n%s", before, after)
		}
	})
}

func TestJumpsPrecedeTheDrop(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, r *router) {
		r.iptables(t, "-A FORWARD -j DROP")
		f := r.firewall(t, ipv4(t))
		must(t, f.Setup())
		jump := "-A FORWARD -i wan0 ! -o wan0 -j MINIUPNPD\n-A FORWARD -j DROP\n"
		if !strings.Contains(r.rules(t), jump) {
			t.Errorf("set up:\n%s", r.rules(t))
		}
		r.iptables(t, "-D FORWARD 1")
		must(t, f.Sync(nil))
		if !strings.Contains(r.rules(t), jump) {
			t.Errorf("restored:\n%s", r.rules(t))
		}
		must(t, f.Teardown())
	})
}

// IPv6 may come in by a device of its own, such as a tunnel.
func TestIPv6HasItsOwnUplinks(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.WAN6 = []string{"sit1"}
	eachVariant(t, func(t *testing.T, r *router) {
		must(t, r.firewall(t, o).Setup())
		for tool, jump := range map[string]string{
			"iptables": "-A FORWARD -i wan0 ! -o wan0 -j MINIUPNPD", "ip6tables": "-A FORWARD -i sit1 ! -o sit1 -j MINIUPNPD",
		} {
			if saved := r.saved(t, tool, "filter"); !slices.Contains(saved, jump) {
				t.Errorf("%s lacks %q: %q", tool, jump, saved)
			}
		}
	})
}
