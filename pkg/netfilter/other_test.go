package netfilter_test

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"igdd/pkg/netfilter"
	"igdd/pkg/netlab"
	"igdd/pkg/portmap"
)

// otherVariant returns the variant of iptables that a router does not use.
func otherVariant(variant string) string {
	if variant == "nft" {
		return "legacy"
	}
	return "nft"
}

// other returns the same router with the programs of the other variant.
func (r *router) other(t *testing.T, variant string) *router {
	t.Helper()
	return &router{Namespace: r.Namespace, tools: netlab.Tools(t, otherVariant(variant)), lock: r.lock}
}

// lookAtOther looks at the other variant's tables.
func (g nsFirewall) lookAtOther(t *testing.T, v portmap.Family) (reasons []string) {
	t.Helper()
	must(t, g.router.Do(func() error { reasons = g.LookAtOther(t.Context(), v); return nil }))
	return reasons
}

// otherCase is rules of the other variant, beside a mapping of UDP port 3001 to
// port 7, and a pinhole to that.
type otherCase struct {
	name     string
	commands []string // of iptables, with the table
	want     string   // the reason, after "the rules of NAME "; "": connections arrive
}

// others are rule sets in the other variant.
var others = []otherCase{
	{"policy", []string{"-t filter -P FORWARD DROP", "-t filter -A FORWARD -i lan0 -j ACCEPT", "-t filter -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT"},
		"stop them: filter FORWARD policy DROP"},
	{"policy that lets other ports in", []string{"-t filter -P FORWARD DROP", "-t filter -A FORWARD -p tcp --dport 80 -j ACCEPT", "-t filter -A FORWARD -p udp --dport 53 -j ACCEPT"},
		"stop some of them: filter FORWARD policy DROP"},
	{"range of ports", []string{"-t filter -A FORWARD -i wan0 -p udp --dport 5:99 -j DROP"},
		"stop some of them: filter FORWARD -i wan0 -p udp -m udp --dport 5:99 -j DROP"},
	{"REJECT at the end", []string{"-t filter -A FORWARD -i lan0 -j ACCEPT", "-t filter -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT", "-t filter -A FORWARD -j REJECT"},
		"stop them: filter FORWARD -j REJECT"},
	{"called chain", []string{"-t filter -N zone", "-t filter -A zone -o lan0 -j DROP", "-t filter -A FORWARD -i wan+ -j zone"},
		"stop them: filter zone -o lan0 -j DROP"},
	{"table mangle", []string{"-t mangle -A FORWARD -i wan0 -j DROP"}, "stop them: mangle FORWARD -i wan0 -j DROP"},
	{"table raw", []string{"-t raw -A PREROUTING -i wan0 -p udp -j DROP"}, "stop them: raw PREROUTING -i wan0 -p udp -j DROP"},
	{"other ports, hosts and chains", []string{"-t filter -P INPUT DROP", "-t filter -A FORWARD -p udp --dport 100:200 -j DROP", "-t filter -A FORWARD -p tcp -j DROP -d ELSEWHERE",
		"-t filter -A FORWARD -i lan0 -o wan0 -p udp --dport 25 -j DROP", "-t filter -N unused", "-t filter -A unused -j DROP"}, ""},
}

// TestOtherVariantStopsMappings has rules in the variant of iptables that the
// daemon does not use, and asks the kernel whether a connection arrives.
func TestOtherVariantStopsMappings(t *testing.T) {
	t.Parallel()
	v4, v6 := "11.22.33.44:3001", "[2001:db8:50::10]:7"
	for _, c := range others {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, variant := range netlab.Variants {
				t.Run(variant+"/IPv4", func(t *testing.T) { c.check(t, variant, portmap.IPv4, "iptables", "192.168.50.99", v4) })
				t.Run(variant+"/IPv6", func(t *testing.T) { c.check(t, variant, portmap.IPv6, "ip6tables", "2001:db8:50::99", v6) })
			}
		})
	}
}

// check checks the case with one family, in which a probe leads to the mapping.
func (c otherCase) check(t *testing.T, variant string, v portmap.Family, program, elsewhere, probe string) {
	lab := netlab.NewLab(t, netlab.Layout{IPv6: true})
	r := newRouterIn(t, lab.Router, variant)
	o := options(t)
	o.Network = func() netfilter.Network { return netfilter.Network{LANs: []string{"lan0"}} }
	f := r.firewall(t, o)
	must(t, f.Sync([]*portmap.Mapping{mapping(portmap.UDP, 3001, "192.168.50.10:7"), pinhole(portmap.UDP, "[2001:db8:50::10]:7")}))
	lab.Clients[0].Echo(t, "udp", ":7")
	p := netlab.Probe{Network: "udp", From: lab.WAN, To: netip.MustParseAddrPort(probe)}
	p.Arrives(t)
	if got := f.lookAtOther(t, v); len(got) > 0 {
		t.Errorf("without rules: %q", got)
	}
	others := r.other(t, variant)
	for _, command := range c.commands {
		others.run(t, program, strings.Fields(strings.ReplaceAll(command, "ELSEWHERE", elsewhere))...)
	}
	got := strings.Join(f.lookAtOther(t, v), "\n")
	if c.want == "" {
		p.Arrives(t)
		if got != "" {
			t.Errorf("got %q though connections arrive", got)
		}
	} else {
		p.Blocked(t)
		want := "the rules of " + program + "-" + otherVariant(variant) + " " + c.want
		if got, _, _ = strings.Cut(got, " --reject-with"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for _, table := range []string{"filter", "mangle", "raw"} {
		others.run(t, program, "-t", table, "-F")
	}
	others.run(t, program, "-P", "FORWARD", "ACCEPT")
	p.Arrives(t)
	if got := f.lookAtOther(t, v); len(got) > 0 {
		t.Errorf("the rules are gone: %q", got)
	}
}

// TestOtherVariantForwards has a forward of a mapping's port in the other variant:
// the kernel asks the one first whose table nat was created last.
func TestOtherVariantForwards(t *testing.T) {
	t.Parallel()
	for _, variant := range netlab.Variants {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			lab := netlab.NewLab(t, netlab.Layout{Clients: 2})
			r := newRouterIn(t, lab.Router, variant)
			f := r.firewall(t, ipv4(t))
			must(t, f.Sync([]*portmap.Mapping{mapping(portmap.UDP, 3001, "192.168.50.10:7"), mapping(portmap.UDP, 3002, "192.168.50.10:7")}))
			lab.Clients[0].Echo(t, "udp", ":7")
			p := netlab.Probe{Network: "udp", From: lab.WAN, To: netip.MustParseAddrPort("11.22.33.44:3001")}
			p.Arrives(t)
			others := r.other(t, variant)
			others.run(t, "iptables", strings.Fields("-t nat -A PREROUTING -i wan0 -p udp --dport 3002 -j DNAT --to-destination 192.168.50.10:7")...)
			if got := f.lookAtOther(t, portmap.IPv4); len(got) > 0 {
				t.Errorf("the same forward: %q", got)
			}
			others.run(t, "iptables", strings.Fields("-t nat -A PREROUTING -i wan0 -p udp --dport 3001 -j DNAT --to-destination 192.168.50.11:7")...)
			p.Blocked(t)
			want := []string{"the rules of iptables-" + otherVariant(variant) +
				" may forward some of them elsewhere: nat PREROUTING -i wan0 -p udp -m udp --dport 3001 -j DNAT --to-destination 192.168.50.11:7"}
			if got := f.lookAtOther(t, portmap.IPv4); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			others.run(t, "iptables", "-t", "nat", "-F")
			p.Arrives(t)
			if got := f.lookAtOther(t, portmap.IPv4); len(got) > 0 {
				t.Errorf("the rule is gone: %q", got)
			}
		})
	}
}

// standIn makes a program that the variant's folder does not have.
func (r *router) standIn(t *testing.T, name, script string) {
	t.Helper()
	netlab.Script(t, filepath.Join(r.tools, name), script)
}

// TestOtherVariantCannotBeListed has tables that only nft can list, and a
// program that fails.
func TestOtherVariantCannotBeListed(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"nft's own table": `printf "# Table \140filter' is incompatible, use 'nft' tool.\n"`,
		"nothing":         "",
		"failure":         "echo no such table >&2; exit 3",
		"garbage":         `printf 'a\n*filter\n-A\n:\nCOMMIT\n*'`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRouter(t, "legacy")
			r.standIn(t, "iptables-nft-save", script)
			f := r.firewall(t, ipv4(t))
			must(t, f.Sync(some()[:1]))
			if got := f.lookAtOther(t, portmap.IPv4); len(got) > 0 {
				t.Errorf("judged: %q", got)
			}
		})
	}
}
