package netfilter_test

import (
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"igdd/pkg/netfilter"
	"igdd/pkg/portmap"
)

// What AIF does about FORWARD and table nat, in its order, on a router with a DMZ.
var (
	aifRuleSteps = []string{
		"-P FORWARD DROP", "-t nat -A PREROUTING -j NAT_PREROUTING_CHAIN", "-t nat -A POSTROUTING -j NAT_POSTROUTING_CHAIN",
		"-A INET_DMZ_FORWARD_CHAIN -j DROP", "-A FORWARD -i wan0 -o dmz0 -j INET_DMZ_FORWARD_CHAIN",
		"-A FORWARD -i lan0 -o lan0 -j ACCEPT", "-A FORWARD -i lan0 -o wan0 -j ACCEPT",
		"-t nat -A POSTROUTING -s 192.168.50.0/24 ! -d 192.168.50.0/24 -o wan0 -j MASQUERADE",
		"-A FORWARD -j POST_FORWARD_CHAIN", "-A FORWARD -j DROP",
		"-t nat -A PREROUTING -j POST_NAT_PREROUTING_CHAIN", "-t nat -A POSTROUTING -j POST_NAT_POSTROUTING_CHAIN",
	}
	aifStartSteps = slices.Concat([]string{
		"-F", "-X", "-t nat -F", "-t nat -X", "-N BASE_FORWARD_CHAIN", "-A FORWARD -j BASE_FORWARD_CHAIN", "-t nat -N NAT_PREROUTING_CHAIN",
		"-t nat -N NAT_POSTROUTING_CHAIN", "-N POST_FORWARD_CHAIN", "-t nat -N POST_NAT_PREROUTING_CHAIN", "-t nat -N POST_NAT_POSTROUTING_CHAIN",
		"-N INET_DMZ_FORWARD_CHAIN",
	}, aifRuleSteps)
	aifStopSteps    = []string{"-P FORWARD DROP", "-F FORWARD", "-t nat -F", "-t nat -X", "-F", "-X"}
	aifRestartSteps = slices.Concat([]string{
		"-F POST_FORWARD_CHAIN", "-t nat -F NAT_PREROUTING_CHAIN", "-t nat -F NAT_POSTROUTING_CHAIN", "-t nat -F POST_NAT_PREROUTING_CHAIN",
		"-t nat -F POST_NAT_POSTROUTING_CHAIN", "-F INET_DMZ_FORWARD_CHAIN", "-F FORWARD", "-t nat -F PREROUTING", "-t nat -F POSTROUTING",
		"-A FORWARD -j BASE_FORWARD_CHAIN",
	}, aifRuleSteps)
)

// aif carries out steps of AIF. It goes on when chains cannot be deleted.
func (r *router) aif(t *testing.T, steps []string) {
	t.Helper()
	for len(steps) > 0 {
		n := slices.IndexFunc(steps, func(step string) bool { return strings.HasSuffix(step, "-X") })
		if n < 0 {
			n = len(steps)
		}
		r.iptables(t, steps[:n]...)
		for ; n < len(steps) && strings.HasSuffix(steps[n], "-X"); n++ {
			_ = r.Do(exec.Command(filepath.Join(r.tools, "iptables"), strings.Fields(steps[n])...).Run)
		}
		steps = steps[n:]
	}
}

// dmzOptions are those of a router with a LAN, whose hosts reach mappings by the external
// address, and a DMZ.
func dmzOptions(t *testing.T) netfilter.Options {
	wan := netip.MustParseAddr("11.22.33.1")
	lan, dmz := netip.MustParsePrefix("192.168.50.0/24"), netip.MustParsePrefix("192.168.88.0/24")
	o := ipv4(t)
	o.Hairpin = true
	o.Network = func() netfilter.Network {
		return netfilter.Network{
			Uplink: netfilter.Uplink{Device: "wan0", Addrs: []netip.Addr{wan}}, LANs: []string{"lan0", "dmz0"},
			Networks: []netip.Prefix{lan, dmz}, Sources: map[string]netip.Addr{"wan0": wan},
			Hairpin: netfilter.Hairpin{External: []netip.Addr{wan}, LANs: []netfilter.HairpinLAN{{Device: "lan0", Networks: []netip.Prefix{lan}}}},
		}
	}
	return o
}

// Wherever AIF is when the tables are looked at and a client asks, they are the same in
// the end, and nothing is left when the daemon ends. The jump in FORWARD is for the DMZ.
func TestBesideEachStepOfAIF(t *testing.T) {
	t.Parallel()
	for name, steps := range map[string][]string{"restart": aifRestartSteps, "stop and start": slices.Concat(aifStopSteps, aifStartSteps)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachVariant(t, func(t *testing.T, r *router) { testEachStep(t, r, steps) })
		})
	}
}

func testEachStep(t *testing.T, r *router, steps []string) {
	held := []*portmap.Mapping{mapping(portmap.TCP, 3001, "192.168.50.10:80"), mapping(portmap.TCP, 3002, "192.168.88.10:80")}
	asked := mapping(portmap.UDP, 3003, "192.168.50.10:3000")
	all := slices.Concat(held, []*portmap.Mapping{asked})
	r.aif(t, aifStartSteps)
	bare := r.rules(t)
	f := r.firewall(t, dmzOptions(t))
	must(t, f.Setup())
	must(t, f.Sync(all))
	want := r.rules(t)
	for _, jump := range []string{"-A FORWARD", "-A POST_FORWARD_CHAIN"} {
		if !strings.Contains(want, jump+" -i wan0 ! -o wan0 -j MINIUPNPD\n") {
			t.Errorf("no jump %s:\n%s", jump, want)
		}
	}
	for i := 0; i <= len(steps) && !t.Failed(); i++ {
		must(t, f.Sync(held))
		r.aif(t, steps[:i])
		_ = f.Sync(held) // the firewall may be stopped
		_ = f.Apply(open(asked))
		r.aif(t, steps[i:])
		must(t, f.Sync(all))
		wantRules(t, r, want)
		wantHealthy(t, f)
		if t.Failed() {
			t.Errorf("that was in front of step %d of %q", i, steps)
		}
	}
	must(t, f.Teardown())
	wantRules(t, r, bare)
}
