package netfilter_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"igdd/pkg/netlab"
)

// placeGenerator makes firewalls out of the parts that matter for where a jump
// can be.
type placeGenerator struct {
	*rand.Rand
	family *placeFamily
	calls  []string // chains that a rule may call
}

func (g *placeGenerator) pick(words ...string) string { return words[g.IntN(len(words))] }

func (g *placeGenerator) oneIn(n int) bool { return g.IntN(n) == 0 }

// source is a condition that some packets meet.
func (g *placeGenerator) source() string {
	s := g.family.sources
	return g.pick("-s "+g.pick(s...), g.pick("-i ppp1", "-i ppp0", "-i wan0", "-o dmz0", "! -i ppp0")+" -s "+g.pick(s...), "-s "+g.pick(s...), "! -s "+g.pick(s...), "-s "+g.pick(s[0], s[1]))
}

// selection is the conditions of a rule that some connections meet, and others
// do not.
func (g *placeGenerator) selection() string {
	host := g.family.hosts[g.pick("lan0", "dmz0")]
	proto := g.pick("tcp", "udp")
	return g.pick(g.source(), g.source(), g.source(), "-d "+host, "-p "+proto, fmt.Sprintf("-p %s -m %s --dport %s", proto, proto, g.pick("6881", "80:81", "1024:65535")),
		"-m limit --limit 1000/sec --limit-burst 1000", "-m mark --mark 0x1", "-p "+proto+" -m multiport --dports 6881,80", "! -p "+proto)
}

// plain is the conditions of a rule that connections from an uplink meet.
func (g *placeGenerator) plain() string {
	return g.pick("", "", "-i wan0", "-i wan0", "-i ppp0", "-i ppp1", "-i ppp+", "-i wan+", "! -i lan0", "-o lan0", "-o dmz0", "-i wan0 -o lan0", "-m conntrack --ctstate NEW",
		"-m state --state NEW,INVALID", "-m comment --comment last", "-i wan0 -m conntrack ! --ctstate RELATED,ESTABLISHED", "-i wan0 -o dmz0")
}

// harmless is a rule that stops nothing from an uplink.
func (g *placeGenerator) harmless() string {
	return g.pick("-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "-i lan0 -j ACCEPT", "-j LOG", "-m limit --limit 3/min -j LOG", "-m conntrack --ctstate INVALID -j DROP",
		"-o wan0 -j ACCEPT", "-i dmz0 -o lan0 -j DROP", "-p icmp -j ACCEPT", "-j CONNMARK --restore-mark")
}

// rule returns a rule of table filter.
func (g *placeGenerator) rule() string {
	verdict := g.pick("DROP", "DROP", "REJECT", "ACCEPT")
	switch n := g.IntN(20); {
	case n < 5:
		return g.selection() + " -j " + g.pick(verdict, verdict, "RETURN")
	case n < 9:
		return g.harmless()
	case n < 14 && len(g.calls) > 0:
		return g.pick(g.plain(), g.plain(), g.selection()) + g.pick(" -j ", " -j ", " -g ") + g.pick(g.calls...)
	case n < 15:
		return g.plain() + " -j RETURN"
	case n < 18:
		return g.plain() + " -j " + verdict
	}
	return g.harmless()
}

// jump returns a jump of the administrator's own, now and then.
func (g *placeGenerator) jump() string {
	return g.pick(g.plain(), g.plain(), "-p udp", g.selection()) + " -j MINIUPNPD"
}

// ruleSet returns rules in tables filter and nat.
func (g *placeGenerator) ruleSet() string {
	var b strings.Builder
	own := g.oneIn(4)
	fmt.Fprintf(&b, "*filter\n:FORWARD %s [0:0]\n", g.pick("DROP", "DROP", "ACCEPT"))
	names := []string{"A", "B", "C", "D"}[:g.IntN(5)]
	for _, name := range names {
		fmt.Fprintf(&b, ":%s - [0:0]\n", name)
	}
	if own {
		b.WriteString(":MINIUPNPD - [0:0]\n")
	}
	for i, name := range append([]string{"FORWARD"}, names...) {
		g.calls = names[i:]
		for range 1 + g.IntN(6) {
			fmt.Fprintf(&b, "-A %s %s\n", name, g.rule())
		}
		if own && g.oneIn(3) {
			fmt.Fprintf(&b, "-A %s %s\n", name, g.jump())
		}
	}
	b.WriteString("COMMIT\n")
	g.calls = names
	if g.family == placeFamilies[0] {
		g.nat(&b)
	}
	return b.String()
}

// nat writes rules of table nat.
func (g *placeGenerator) nat(b *strings.Builder) {
	b.WriteString("*nat\n:A - [0:0]\n:MINIUPNPD - [0:0]\n")
	rules := []string{"-i wan0 -j A", "-j A", "-d 11.22.33.1 -j A", "-i wan0 -j DNAT --to-destination 192.168.77.9", "-d 11.22.33.9 -j DNAT --to-destination 192.168.77.9",
		"-p tcp -j DNAT --to-destination 192.168.77.9", "-s 198.51.100.7 -j DNAT --to-destination 192.168.77.9", "-i lan0 -j ACCEPT", "-s 203.0.113.5 -j RETURN", "-i wan0 -j MINIUPNPD",
		"-d 11.22.33.1 -j MINIUPNPD", "-d 11.22.33.8 -j MINIUPNPD", "-p udp -j MINIUPNPD"}
	g.Shuffle(len(rules), func(i, j int) { rules[i], rules[j] = rules[j], rules[i] })
	for _, rule := range rules[:g.IntN(4)] {
		fmt.Fprintf(b, "-A PREROUTING %s\n", rule)
	}
	for _, rule := range rules[len(rules)-g.IntN(3):] {
		if !strings.HasSuffix(rule, "-j A") {
			fmt.Fprintf(b, "-A A %s\n", rule)
		}
	}
	b.WriteString("COMMIT\n")
}

// later returns a rule that calls no chain.
func (g *placeGenerator) later() string {
	calls := g.calls
	defer func() { g.calls = calls }()
	g.calls = nil
	return g.pick(g.rule(), g.rule(), g.jump())
}

// edits returns what another program changes later.
func (g *placeGenerator) edits() (list [][]string) {
	for range 1 + g.IntN(2) {
		chain := g.pick(append([]string{"FORWARD", "FORWARD", "FORWARD"}, g.calls...)...)
		position := g.pick("-I "+chain+" 1 ", "-A "+chain+" ", "-I "+chain+" 2 ")
		list = append(list, []string{"-A " + chain + " -m comment --comment second", position + g.pick(g.later(), g.later(), g.plain()+" -j DROP", g.source()+" -j DROP", g.harmless())})
	}
	return list
}

// The number of random rule sets that legacy iptables gets (nft, which takes three
// times as long, gets a fourth), and the environment variables for longer runs, for the
// seed and for the first set.
const (
	randomPlaces   = 8
	randomSetsEnv  = "NETFILTER_RANDOM_SETS"
	randomSeedEnv  = "NETFILTER_RANDOM_SEED"
	randomFirstEnv = "NETFILTER_RANDOM_FIRST"
)

// envNumber returns the number of an environment variable.
func envNumber(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	must(t, err)
	return n
}

// So are they beside random rules, which other programs change.
func TestPlacesBesideRandomRules(t *testing.T) {
	sets, seed, first := envNumber(t, randomSetsEnv, randomPlaces), envNumber(t, randomSeedEnv, 1), envNumber(t, randomFirstEnv, 0)
	for _, f := range placeFamilies {
		for _, variant := range netlab.Variants {
			t.Run(f.program+"/"+variant, func(t *testing.T) {
				t.Parallel()
				l, sets := newPlaceLab(t, f, variant), sets
				if variant == "nft" && os.Getenv(randomSetsEnv) == "" {
					sets = randomPlaces / 4
				}
				for i := first; i < first+sets; i++ {
					g := placeGenerator{Rand: rand.New(rand.NewPCG(uint64(seed), uint64(i))), family: f}
					s, rules := scenes[g.IntN(len(scenes))], g.ruleSet()
					edits := g.edits()
					t.Run(strconv.Itoa(i), func(t *testing.T) { l.wantNoFault(t, s, rules, nil, edits...) })
				}
			})
		}
	}
}
