package xtables_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"igdd/pkg/netlab/packetlab"
)

// randomWords are the addresses of a family that random rules and packets are made
// of.
type randomWords struct {
	sources      []string // of packets
	destinations []string // of packets
	networks     []string // in rules
	ranges       []string // of addresses
	targets      []string // of DNAT
	newSources   []string // of SNAT
	netmaps      []string
	rejections   []string // "--reject-with ..."
	icmp         string   // a condition that no packet meets
}

// generator makes rules and packets.
type generator struct {
	*rand.Rand
	words   *randomWords
	certain bool // only of what trace can know

	table    string
	chain    string   // built-in, or "" in a chain that several may call
	calls    []string // chains that a rule may call
	protocol string   // of the rule: "tcp", "udp" or ""
}

// pick returns one of the words.
func (g *generator) pick(words ...string) string { return words[g.IntN(len(words))] }

// oneIn is true once in n times.
func (g *generator) oneIn(n int) bool { return g.IntN(n) == 0 }

// not negates a condition now and then.
func (g *generator) not(condition string) string {
	if g.oneIn(4) {
		return "! " + condition
	}
	return condition
}

// randomHooks are the built-in chains that get rules.
var randomHooks = []struct {
	table  string
	chains []string
}{
	{"raw", []string{"PREROUTING"}},
	{"mangle", []string{"PREROUTING", "INPUT", "FORWARD", "POSTROUTING"}},
	{"nat", []string{"PREROUTING", "POSTROUTING"}},
	{"filter", []string{"INPUT", "FORWARD"}},
}

// ruleSet returns rules in all tables.
func (g *generator) ruleSet() string {
	var b strings.Builder
	for _, h := range randomHooks {
		g.table = h.table
		busy := h.table == "filter" || h.table == "nat" || g.oneIn(2)
		fmt.Fprintf(&b, "*%s\n", h.table)
		var own []string
		for i := range g.IntN(5) {
			own = append(own, fmt.Sprintf("%s%d", g.pick("chain", "MINIUPNPD", "zone_"), i))
			fmt.Fprintf(&b, ":%s - [0:0]\n", own[i])
		}
		for _, chain := range h.chains {
			fmt.Fprintf(&b, ":%s %s [0:0]\n", chain, g.policy())
			switch {
			case busy && chain == "POSTROUTING": // where matches about the way in, and DNAT, are not allowed
				fmt.Fprintf(&b, ":leaving - [0:0]\n")
				g.rules(&b, chain, chain, []string{"leaving"})
				g.rules(&b, "leaving", chain, nil)
			case busy:
				g.rules(&b, chain, chain, own)
			}
		}
		for i, chain := range own {
			g.rules(&b, chain, "", own[i+1:])
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}

// policy returns that of a built-in chain.
func (g *generator) policy() string {
	if (g.table != "nat" || !g.certain) && g.oneIn(map[string]int{"filter": 3, "mangle": 40, "raw": 40, "nat": 40}[g.table]) {
		return "DROP"
	}
	return "ACCEPT"
}

// rules writes the rules of a chain, which call only chains that come later.
func (g *generator) rules(b *strings.Builder, name, builtIn string, calls []string) {
	g.chain, g.calls = builtIn, calls
	for range 1 + g.IntN(5) {
		fmt.Fprintf(b, "-A %s\n", strings.Join(slices.DeleteFunc(append([]string{name}, g.rule()...), func(s string) bool { return s == "" }), " "))
	}
}

// rule returns the words of a rule.
func (g *generator) rule() []string {
	words := []string{g.protocolCondition()}
	conditions := []func() string{
		g.device, g.outDevice, func() string { return g.not("-s " + g.pick(g.words.networks...)) }, func() string { return g.not("-d " + g.pick(g.words.networks...)) },
		g.port, g.ports, g.flags, g.conntrack, g.state, g.addressType, g.addressRange, g.comment, g.encryption,
	}
	if !g.certain {
		conditions = append(conditions, g.uncertain)
	}
	for _, condition := range conditions {
		if g.oneIn(6) {
			words = append(words, condition())
		}
	}
	return append(words, g.target())
}

// protocolCondition chooses the rule's protocol.
func (g *generator) protocolCondition() string {
	g.protocol = ""
	switch g.IntN(8) {
	case 0, 1, 2:
		g.protocol = "tcp"
	case 3, 4:
		g.protocol = "udp"
	case 5:
		return "! -p " + g.pick("tcp", "udp", "esp")
	default:
		return ""
	}
	return "-p " + g.protocol
}

func (g *generator) device() string {
	if g.chain == "POSTROUTING" {
		return ""
	}
	return g.not("-i " + g.pick("wan0", "wan+", "lan0", "ppp+", "ppp0", "eth+", "dmz0"))
}

func (g *generator) outDevice() string {
	if g.chain == "PREROUTING" || g.chain == "INPUT" {
		return ""
	}
	return g.not("-o " + g.pick("wan0", "wan+", "lan0", "ppp+", "dmz0"))
}

// portWords are ports in rules: some of packets, and ranges that have them at
// their borders.
var portWords = []string{"22", "80", "443", "5000", "8080", "53", "1024", "22:80", "443:5000", "0:1023", "1024:65535", "81:442", "5001:65535"}

// somePorts are ports of packets.
var somePorts = []string{"22", "80", "443", "5000", "8080"}

// port returns a condition about ports of TCP or UDP. A rule has only one of them: from
// several, iptables-nft 1.8.9 makes another rule than it prints, such as "not both"
// of "! --sport A ! --dport B".
func (g *generator) port() string {
	if g.protocol == "" {
		return ""
	}
	return fmt.Sprintf("-m %s %s", g.protocol, g.not(g.pick("--dport", "--dport", "--sport")+" "+g.pick(portWords...)))
}

// ports returns a condition of the module multiport.
func (g *generator) ports() string {
	if g.protocol == "" {
		return ""
	}
	list := []string{g.pick(portWords...), g.pick(portWords...), g.pick(portWords...)}
	return "-m multiport " + g.not(g.pick("--dports", "--dports", "--sports", "--ports")+" "+strings.Join(list[:1+g.IntN(3)], ","))
}

func (g *generator) flags() string {
	if g.protocol != "tcp" {
		return ""
	}
	return "-m tcp " + g.not("--tcp-flags "+g.pick("FIN,SYN,RST,ACK SYN", "SYN,RST SYN", "ALL SYN", "ALL NONE", "FIN,PSH FIN", "SYN,ACK ACK", "ACK NONE"))
}

func (g *generator) conntrack() string {
	if g.table == "raw" {
		return ""
	}
	states := []string{g.pick("NEW", "INVALID", "ESTABLISHED", "RELATED", "DNAT", "UNTRACKED", "SNAT"), g.pick("NEW", "DNAT", "ESTABLISHED,RELATED")}
	words := "-m conntrack " + g.not("--ctstate "+strings.Join(states[:1+g.IntN(2)], ","))
	switch g.IntN(12) {
	case 0:
		words += " --ctdir " + g.pick("ORIGINAL", "REPLY")
	case 1:
		words += " " + g.not("--ctorigdst "+g.pick(g.words.destinations...))
	case 2:
		words = "-m conntrack " + g.not("--ctorigdstport "+g.pick(portWords...))
	case 3:
		words = "-m conntrack " + g.not("--ctorigsrc "+g.pick(g.words.networks...))
	case 4:
		words = "-m conntrack " + g.not("--ctorigdst "+g.pick(g.words.destinations...)) + " --ctproto " + g.pick("6", "17")
	case 5:
		words += " " + g.not("--ctorigsrcport "+g.pick(portWords...))
	}
	return words
}

func (g *generator) state() string {
	if g.table == "raw" {
		return ""
	}
	return "-m state " + g.not("--state "+g.pick("NEW", "RELATED,ESTABLISHED", "INVALID", "NEW,UNTRACKED", "UNTRACKED"))
}

func (g *generator) addressType() string {
	switch {
	case g.oneIn(4):
		return "-m addrtype " + g.not("--src-type "+g.pick("UNICAST", "LOCAL", "MULTICAST"))
	case !g.certain && g.chain != "POSTROUTING" && g.oneIn(4):
		return "-m addrtype " + g.not("--dst-type LOCAL") + " --limit-iface-in"
	}
	return "-m addrtype " + g.not("--dst-type "+g.pick("LOCAL", "LOCAL", "UNICAST", "MULTICAST"))
}

func (g *generator) addressRange() string {
	return "-m iprange " + g.not(g.pick("--src-range", "--dst-range")+" "+g.pick(g.words.ranges...))
}

func (g *generator) comment() string {
	return "-m comment --comment " + g.pick("plain", `"-j DROP"`, `"a \"quoted\" one"`, "--dport", `"! -i"`)
}

// encryption returns a condition about IPsec, of which there is none.
func (g *generator) encryption() string {
	if g.chain != "POSTROUTING" && g.chain != "FORWARD" {
		return ""
	}
	return "-m policy --dir out --pol " + g.pick("none", "ipsec")
}

// uncertain returns a condition that trace cannot judge.
func (g *generator) uncertain() string {
	hardware := "-m mac ! --mac-source " + packetlab.HardwareAddr
	if g.chain == "POSTROUTING" {
		hardware = ""
	}
	return g.pick(hardware,
		"-m limit --limit 1000/sec --limit-burst 1000", "-m statistic --mode random --probability 0.5", "-m length --length 0:50",
		"-m mark --mark 0x1/0x1", "-m mark ! --mark 0x0", "-m mark --mark 0x2", "-m connmark --mark 0x1", "-m time --datestart 2001-01-01", "-m pkttype --pkt-type unicast",
		"-m string --string \"-j DROP\" --algo bm", "-m connlimit --connlimit-upto 5", "-m recent --name r --set", "-m recent --name r --rcheck",
		"-m u32 --u32 0=0", "-m conntrack --ctstatus NONE", g.words.icmp)
}

// target returns what the rule does.
func (g *generator) target() string {
	switch {
	case len(g.calls) > 0 && g.oneIn(2):
		return g.pick("-j", "-j", "-g") + " " + g.pick(g.calls...)
	case g.oneIn(6):
		return g.pick("-j RETURN", "-j RETURN", "-j LOG --log-prefix \"-j DROP \"", "-j NFLOG", "")
	case !g.certain && g.table != "nat" && g.oneIn(8):
		return g.pick("-j MARK --set-xmark 0x1/0x1", "-j MARK --set-xmark 0x2/0xffffffff", "-j MARK --set-xmark 0x0/0xffffffff", "-j CONNMARK --set-xmark 0x1/0xffffffff")
	}
	switch g.table {
	case "nat":
		if g.chain == "POSTROUTING" {
			return g.sourceTranslation()
		}
		return g.translation()
	case "raw":
		return g.pick("-j ACCEPT", "-j ACCEPT", "-j ACCEPT", "-j DROP", "-j CT --notrack", "-j CT --notrack")
	case "mangle":
		return g.pick("-j ACCEPT", "-j ACCEPT", "-j ACCEPT", "-j DROP", "-j DSCP --set-dscp 0x0a", "-j DSCP --set-dscp 0x0a")
	}
	return g.pick("-j ACCEPT", "-j ACCEPT", "-j ACCEPT", "-j DROP", "-j REJECT --reject-with "+g.pick(g.words.rejections...))
}

// translation returns a target of table nat.
func (g *generator) translation() string {
	to, port := g.pick(g.words.targets...), ""
	if g.protocol != "" && g.oneIn(2) {
		port = g.pick(somePorts...)
	}
	switch n := g.IntN(10); {
	case n == 0:
		return "-j ACCEPT"
	case n == 1:
		return "-j NETMAP --to " + g.pick(g.words.netmaps...)
	case n < 4 && port != "":
		return "-j REDIRECT --to-ports " + port
	case n < 4:
		return "-j REDIRECT"
	case n == 4 && !g.certain && port != "":
		return "-j DNAT --to-destination " + joined(to, port+"-9000") + g.pick("", " --random", " --persistent")
	case port != "":
		return "-j DNAT --to-destination " + joined(to, port)
	}
	return "-j DNAT --to-destination " + to
}

// sourceTranslation returns a target of nat POSTROUTING.
func (g *generator) sourceTranslation() string {
	to, ports := g.pick(g.words.newSources...), ""
	if g.protocol != "" && g.oneIn(2) {
		ports = g.pick(newPorts...)
	}
	random := g.pick("", "", "", " --random", " --random-fully")
	switch n := g.IntN(12); {
	case n == 0:
		return "-j ACCEPT"
	case n == 1:
		return "-j NETMAP --to " + g.pick(g.words.netmaps...)
	case n < 5 && ports != "":
		return "-j MASQUERADE --to-ports " + ports + random
	case n < 5:
		return "-j MASQUERADE" + random
	case n == 5 && !g.certain:
		return "-j SNAT --to-source " + to + "-" + to + "0"
	case ports != "":
		return "-j SNAT --to-source " + joined(to, ports) + random
	}
	return "-j SNAT --to-source " + to + random
}

// newPorts are ports in rules for sources: some of packets, and ranges with and without
// those of packets.
var newPorts = []string{"40001", "53", "40123", "53-1024", "40123-40124", "2000-2010", "40000-50000"}

// joined joins an address and ports.
func joined(a, ports string) string {
	if strings.Contains(a, ":") {
		a = "[" + a + "]"
	}
	return a + ":" + ports
}

// packets returns packets, one of a few of each kind.
func (g *generator) packets(n int) []packetlab.Packet {
	var list []packetlab.Packet
	for range n {
		source := joined(g.pick(g.words.sources...), g.pick("53", "1024", "40123"))
		p, err := parsePacket(g.pick("wan0", "wan0", "ppp0", "lan0"), g.pick("tcp", "udp"), source, g.pick(g.words.destinations...), g.pick(somePorts...))
		if err != nil {
			panic(err)
		}
		list = append(list, p)
	}
	return list
}
