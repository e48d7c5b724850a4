package netfilter_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"igdd/pkg/netlab"
	"igdd/pkg/netlab/packetlab"
	"igdd/pkg/portmap"
)

// exitGenerator makes firewalls that translate what leaves.
type exitGenerator struct {
	*rand.Rand
	hasDoubt bool // rules that select by more than where packets come from and go to
	counts   bool // there are rules whose effect depends on the packets before
	names    []string
	rules    map[string][]string // by chain
}

func (g *exitGenerator) pick(words ...string) string { return words[g.IntN(len(words))] }

func (g *exitGenerator) oneIn(n int) bool { return g.IntN(n) == 0 }

// not negates a condition now and then.
func (g *exitGenerator) not(condition string) string {
	if g.oneIn(4) {
		return "! " + condition
	}
	return condition
}

// out is a condition about the device that packets leave by, or none.
func (g *exitGenerator) out() string {
	return g.pick("", "", "-o wan0", "-o wan0", "-o wan0", "-o ppp0", "-o ppp0", "-o ppp+", "-o ppp+", "-o ppp1", "-o wan+", "-o tun0", "-o lan0", "! -o lan0", "! -o wan0", "! -o ppp+", "-o +", "-o lan+")
}

// source and destination are conditions about addresses.
func (g *exitGenerator) source() string {
	return g.not("-s " + g.pick("192.168.101.0/24", "192.168.102.0/24", "192.168.103.0/24", "192.168.0.0/16", "192.168.101.20/32", "192.168.101.16/28", "192.168.101.128/25", "172.17.0.0/16", "10.9.0.0/24", "11.22.33.1/32"))
}

func (g *exitGenerator) destination() string {
	return g.not("-d " + g.pick("10.8.0.0/16", "10.0.0.0/8", "192.168.0.0/16", "192.168.101.0/24", "198.51.100.7/32", "203.0.113.0/24", "11.22.33.0/24", "192.168.100.1/32", "0.0.0.7/0.0.0.15"))
}

// protocol is a condition about protocols and ports.
func (g *exitGenerator) protocol() string {
	p := g.pick("tcp", "udp", "udp")
	switch g.IntN(5) {
	case 0:
		return g.not("-p " + g.pick("tcp", "udp", "icmp", "esp"))
	case 1:
		return fmt.Sprintf("-p %s -m %s %s", p, p, g.not("--sport "+g.pick("5555", "4000:6000", "1024:65535", "5060")))
	case 2:
		return fmt.Sprintf("-p %s -m %s %s", p, p, g.not("--dport "+g.pick("53", "80", "1:1023", "3074")))
	case 3:
		return fmt.Sprintf("-p %s -m multiport %s", p, g.not(g.pick("--dports 53,80", "--sports 5555,5600", "--ports 53,5555", "--dports 3000:4000")))
	}
	return "-p " + p
}

// harmless is a condition that a copy of it meets whenever the rule does.
func (g *exitGenerator) harmless() string {
	return g.pick("-m policy --dir out --pol none", "-m policy --dir out --pol ipsec", "-m policy --dir out --pol ipsec --strict --proto esp",
		"-m conntrack --ctstate NEW", "-m conntrack ! --ctstate INVALID", "-m conntrack ! --ctstate DNAT", "-m conntrack --ctstate ESTABLISHED,RELATED", "-m state --state NEW,RELATED",
		"-m addrtype ! --dst-type LOCAL", "-m addrtype --dst-type UNICAST", "-m addrtype --src-type LOCAL --limit-iface-out", "-m addrtype ! --src-type LOCAL", "-m set "+g.not("--match-set far dst"),
		"-m iprange "+g.not("--src-range 192.168.101.10-192.168.101.40"), "-m iprange --dst-range 198.51.100.1-203.0.113.9",
		`-m comment --comment "a \"-j MASQUERADE\" of ours"`, `-m comment --comment "it's -o wan0"`, `-m comment --comment "back\\slash ! -s"`, `-m comment --comment "!fw3"`, "-m comment --comment --to-ports")
}

// doubtful is a condition that more than the packet decides.
func (g *exitGenerator) doubtful() string {
	if g.oneIn(4) {
		g.counts = true
		return "-m statistic --mode nth --every " + g.pick("2", "3") + " --packet 0"
	}
	return g.pick("-m mark --mark 0x1", "-m mark --mark 0x2/0x2", "-m mark ! --mark 0x4/0x4", "-m connmark --mark 0x1", "-m statistic --mode random --probability 1.0",
		"-m set "+g.not("--match-set near src"), "-m set --match-set far dst --return-nomatch", "-m conntrack --ctorigsrc 192.168.101.20", "-m length --length 0:60", "-m limit --limit 10000/sec --limit-burst 10000",
		"-m conntrack --ctstatus SEEN_REPLY", "-m conntrack --ctorigdst 198.51.100.7")
}

// conditions are those of a rule.
func (g *exitGenerator) conditions() string {
	list := []string{g.out()}
	for _, c := range []func() string{g.source, g.destination, g.protocol, g.harmless} {
		if g.oneIn(4) {
			list = append(list, c())
		}
	}
	if g.hasDoubt && g.oneIn(4) {
		list = append(list, g.doubtful())
	}
	return strings.Join(list, " ")
}

// translation is a rule that translates.
func (g *exitGenerator) translation() string {
	c, random := g.conditions(), g.pick("", "", "", " --random", " --random-fully")
	ports := ""
	if strings.Contains(c, " -p tcp") || strings.Contains(c, " -p udp") && !strings.Contains(c, "! -p") {
		ports = g.pick("", "5060", "50000-50063", "40001")
	}
	switch g.IntN(10) {
	case 0:
		return c + " -j NETMAP --to " + g.pick("11.22.34.0/24", "11.22.33.9/32")
	case 1, 2:
		return c + " -j SNAT --to-source " + strings.TrimSuffix(g.pick("11.22.33.1", "22.33.44.1", "33.44.55.1")+":"+ports, ":") + random
	case 3:
		return c + " -j SNAT --to-source " + strings.TrimSuffix(g.pick("11.22.33.9", "11.22.33.200-11.22.33.203", "192.168.101.1", "192.168.100.2", "10.9.0.1")+":"+ports, ":") + random
	case 4:
		return g.pick("-o wan0 -j SNAT --to-source 11.22.33.1", "-o wan0 -j SNAT --to-source 192.168.100.2", "-o ppp0 -j SNAT --to-source 22.33.44.1", "-o ppp+ -j SNAT --to-source 33.44.55.1")
	}
	if ports != "" {
		return c + " -j MASQUERADE --to-ports " + ports + random
	}
	return c + " -j MASQUERADE" + random
}

// rule is a rule that may call some chains.
func (g *exitGenerator) rule(calls []string) string {
	switch n := g.IntN(12); {
	case n < 2:
		return g.conditions() + " -j " + g.pick("ACCEPT", "ACCEPT", "RETURN")
	case n < 5 && len(calls) > 0:
		return g.pick(g.conditions(), g.out()) + g.pick(" -j ", " -j ", " -g ") + g.pick(calls...)
	case n < 6:
		return g.conditions() + g.pick("", " -j MARK --set-xmark 0x1/0xffffffff", " -j LOG", ` -j LOG --log-prefix "-j SNAT"`)
	}
	return g.translation()
}

// ruleSet returns a firewall.
func (g *exitGenerator) ruleSet() string {
	g.hasDoubt = g.oneIn(3)
	g.names = append([]string{"POSTROUTING"}, []string{"A", "B", "zone_wan_postrouting", "D"}[:g.IntN(5)]...)
	g.rules = make(map[string][]string)
	for i, name := range g.names {
		for range 1 + g.IntN(5) {
			g.rules[name] = append(g.rules[name], g.rule(g.names[i+1:]))
		}
	}
	g.rules["POSTROUTING"] = append(g.rules["POSTROUTING"], [][]string{
		nil, {"-o wan0 -j MASQUERADE"}, {"-j MASQUERADE"}, {"-s 192.168.101.0/24 ! -d 192.168.0.0/16 -j MASQUERADE", "-s 192.168.102.0/24 -o wan0 -j MASQUERADE"},
		{"-o ppp+ -j MASQUERADE", "-o wan0 -j SNAT --to-source 11.22.33.1"},
	}[g.IntN(5)]...)
	var b strings.Builder
	g.mangle(&b)
	b.WriteString("*nat\n")
	for _, name := range g.names[1:] {
		fmt.Fprintf(&b, ":%s - [0:0]\n", name)
	}
	for _, name := range g.names {
		for _, rule := range g.rules[name] {
			fmt.Fprintf(&b, "-A %s %s\n", name, rule)
		}
	}
	b.WriteString("COMMIT\n")
	return b.String()
}

// mangle writes rules that mark packets, or stop them.
func (g *exitGenerator) mangle(b *strings.Builder) {
	b.WriteString("*mangle\n")
	if g.oneIn(3) {
		fmt.Fprintf(b, "-A PREROUTING -i %s -j MARK --set-xmark %s\n", g.pick("lan0", "lan1"), g.pick("0x1/0xffffffff", "0x2/0x2", "0x4/0x4"))
	}
	if g.oneIn(4) {
		fmt.Fprintf(b, "-A PREROUTING -p udp -m udp --dport 3074 -j MARK --set-xmark %s\n", g.pick("0x1/0xffffffff", "0x2/0x2"))
	}
	if g.oneIn(4) {
		fmt.Fprintf(b, "-A POSTROUTING %s %s -j %s\n", g.out(), g.protocol(), g.pick("DROP", "MARK --set-xmark 0x1/0xffffffff"))
	}
	b.WriteString("COMMIT\n")
	if g.oneIn(4) {
		fmt.Fprintf(b, "*filter\n-A FORWARD %s %s -j %s\nCOMMIT\n", g.out(), g.destination(), g.pick("DROP", "REJECT"))
	}
}

// edits returns what another program changes later.
func (g *exitGenerator) edits() (list []string) {
	if g.counts {
		return nil
	}
	for range g.IntN(4) {
		list = append(list, g.edit()...)
	}
	if g.counts {
		return nil
	}
	return list
}

// edit returns one change: of a rule, of a chain, or of a jump of the daemon's.
func (g *exitGenerator) edit() []string {
	i := g.IntN(len(g.names))
	name := g.names[i]
	rules, rule := g.rules[name], g.rule(g.names[i+1:])
	at := g.IntN(len(rules) + 1)
	switch n := g.IntN(8); {
	case n < 2 && at < len(rules):
		g.rules[name] = slices.Delete(slices.Clone(rules), at, at+1)
		return []string{"-t nat -D " + name + " " + rules[at]}
	case n < 3 && at < len(rules):
		g.rules[name] = append(slices.Delete(slices.Clone(rules), at, at+1), rules[at])
		return []string{"-t nat -D " + name + " " + rules[at], "-t nat -A " + name + " " + rules[at]}
	case n == 3:
		g.rules[name] = nil
		return []string{"-t nat -F " + name}
	case n == 4 && !slices.Contains(g.names, "NEW"):
		g.names = append(g.names, "NEW")
		g.rules["NEW"] = []string{g.translation()}
		return []string{"-t nat -N NEW", "-t nat -A NEW " + g.rules["NEW"][0], "-t nat -I " + name + " 1 " + g.out() + " -j NEW"}
	case n == 5:
		g.rules[name] = append(rules, rule)
		return []string{"-t nat -A " + name + " " + rule}
	}
	g.rules[name] = append([]string{rule}, rules...)
	return []string{fmt.Sprintf("-t nat -I %s %d %s", name, 1+g.IntN(len(rules)+1), rule)}
}

// packets returns packets, half of them from mapped ports.
func (g *exitGenerator) packets(n int) (list []packetlab.Packet) {
	for range n {
		from := g.pick("lan0 192.168.101.20:5555", "lan0 192.168.101.20:5555", "lan1 192.168.102.40:5555", "lan0 192.168.101.20:4000", "lan0 192.168.101.20:6666",
			"lan0 192.168.101.30:5555", "lan0 192.168.101.200:5555", "guest0 192.168.103.50:5555", " 11.22.33.1:5555", " 192.168.101.1:5555")
		in, source, _ := strings.Cut(from, " ")
		to := g.pick("198.51.100.7", "198.51.100.7", "203.0.113.5", "198.18.0.9", "10.8.1.1", "10.9.0.7", "10.20.1.1", "11.22.33.77", "192.168.100.1", "192.168.102.9", "8.8.4.4")
		list = append(list, packetlab.Packet{
			In: in, Protocol: int([]portmap.Protocol{portmap.TCP, portmap.UDP, portmap.UDP}[g.IntN(3)]),
			Source: netip.MustParseAddrPort(source), Destination: netip.MustParseAddrPort(to + ":" + g.pick("53", "80", "3074")),
		})
	}
	return list
}

// The number of random firewalls that legacy iptables gets in each scene (nft gets a
// third), and of packets that each gets.
const (
	randomExits = 3
	exitPackets = 40
)

// What hosts send leaves with the same source beside random firewalls as without the
// daemon, but for the mapped port, and the firewall's rules stay as they are.
func TestExitsOfRandomFirewalls(t *testing.T) {
	sets, seed, first := envNumber(t, randomSetsEnv, randomExits), envNumber(t, randomSeedEnv, 1), envNumber(t, randomFirstEnv, 0)
	var sent, owed, mapped atomic.Int64
	t.Cleanup(func() {
		t.Logf("%d packets, %d by the mapped port, which %d had to", sent.Load(), mapped.Load(), owed.Load())
		if owed.Load() == 0 && sets >= randomExits {
			t.Error("no packet had to leave by a mapped port")
		}
	})
	for _, s := range exitScenes {
		for _, variant := range netlab.Variants {
			t.Run(s.name+"/"+variant, func(t *testing.T) {
				t.Parallel()
				l, sets := newExitLab(t, s, variant), sets
				if variant == "nft" && os.Getenv(randomSetsEnv) == "" {
					sets = randomExits / 3
				}
				for i := first; i < first+sets; i++ {
					g := exitGenerator{Rand: rand.New(rand.NewPCG(uint64(seed), uint64(i)))}
					rules, packets := g.ruleSet(), g.packets(exitPackets)
					edits := g.edits()
					t.Run(strconv.Itoa(i), func(t *testing.T) { l.wantNoFault(t, rules, packets, edits...) })
				}
				sent.Add(int64(l.sent))
				owed.Add(int64(l.owed))
				mapped.Add(int64(l.mapped))
			})
		}
	}
}
