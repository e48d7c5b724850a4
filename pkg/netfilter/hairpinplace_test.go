package netfilter

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"igdd/pkg/portmap"
	"igdd/pkg/xtables"
)

// The jumps of lan0, as rows have them: "@" stands for either.
var hairpinJumps = map[string]string{"filter": "-i lan0 -o lan0 -j MINIUPNPD-HAIRPIN", "nat": "-i lan0 -j MINIUPNPD-HAIRPIN"}

// TestHairpinPlace places the jumps of lan0 in the administrator's rules. A jump that
// an earlier look has placed is in the rows, too.
func TestHairpinPlace(t *testing.T) {
	for _, row := range []struct {
		name, table string
		rules       string // separated by ";": those of other chains begin with their names, policies with ":"
		want        string // those of the built-in chain afterwards, and the jumps in other ones
	}{
		{"a policy", "filter", ":FORWARD DROP", "@"},
		{"all pass", "filter", "", ""},
		{"all pass by a rule", "filter", ":FORWARD DROP;-i lan0 -j ACCEPT", "-i lan0 -j ACCEPT"},
		{"a rule that passes all what is translated", "filter", ":FORWARD DROP;-m conntrack --ctstate DNAT -j ACCEPT", "-m conntrack --ctstate DNAT -j ACCEPT"},
		{"a final REJECT", "filter", "-i lan0 -o wan0 -j ACCEPT;-j REJECT", "-i lan0 -o wan0 -j ACCEPT;@;-j REJECT"},
		{"one for what comes from the LAN", "filter", "-i lan0 -o wan0 -j ACCEPT;-i lan0 -j DROP", "-i lan0 -o wan0 -j ACCEPT;@;-i lan0 -j DROP"},
		{"one for the uplink", "filter", ":FORWARD DROP;-i wan0 -j DROP", "-i wan0 -j DROP;@"},
		{"behind a rule against one host", "filter", "-s 192.168.50.66/32 -j DROP;-j DROP", "-s 192.168.50.66/32 -j DROP;@;-j DROP"},
		{"behind one that is added", "filter", "@;-s 192.168.50.66/32 -j DROP;-j DROP", "-s 192.168.50.66/32 -j DROP;@;-j DROP"},
		{"isolation", "filter", "-i lan0 -o lan0 -j REJECT;-j DROP", "-i lan0 -o lan0 -j REJECT;-j DROP"},
		{"isolation of what goes to the LAN", "filter", "-o lan0 -j DROP", "-o lan0 -j DROP"},
		{"isolation of another LAN", "filter", "-i lan1 -o lan1 -j DROP;-j DROP", "-i lan1 -o lan1 -j DROP;@;-j DROP"},
		{"isolation in a chain", "filter", "-i lan0 -j A;-j DROP;A:-o lan0 -j DROP", "-i lan0 -j A;-j DROP"},
		{"isolation by a chain", "filter", "-i lan0 -o lan0 -j A;-j DROP;A:-j DROP", "-i lan0 -o lan0 -j A;-j DROP"},
		{"isolation by a chain of a chain", "filter", ":FORWARD DROP;-o lan0 -j A;A:-j B;B:-j DROP", "-o lan0 -j A"},
		{"the LAN may connect to the uplink only", "filter", "-i lan0 ! -o wan0 -j DROP;-j DROP", "-i lan0 ! -o wan0 -j DROP;-j DROP"},
		{"isolation of one protocol", "filter", "-i lan0 -o lan0 -p udp -j DROP;-j DROP", "-i lan0 -o lan0 -p udp -j DROP;@;-j DROP"},
		{"isolation that is added", "filter", ":FORWARD DROP;@;-i lan0 -o lan0 -j DROP", "-i lan0 -o lan0 -j DROP"},
		{"a chain for jumps", "filter", "-j POST_FORWARD_CHAIN;-j DROP;POST_FORWARD_CHAIN:-s 192.168.50.66/32 -j DROP", "-j POST_FORWARD_CHAIN;-j DROP;POST_FORWARD_CHAIN:@"},
		{"one in front of a rule against one host", "filter", "-j POST_FORWARD_CHAIN;-s 192.168.50.66/32 -j DROP;-j DROP;POST_FORWARD_CHAIN:-j LOG",
			"-j POST_FORWARD_CHAIN;-s 192.168.50.66/32 -j DROP;@;-j DROP"},
		{"all pass meanwhile", "filter", "-i lan0 -o lan0 -j ACCEPT;@;-j DROP", "-i lan0 -o lan0 -j ACCEPT;-j DROP"},
		{"the chain is called for the LAN", "filter", ":FORWARD DROP;-i lan+ -j MINIUPNPD", "-i lan+ -j MINIUPNPD"},
		{"the chain is called for one host", "filter", ":FORWARD DROP;-s 192.168.50.66/32 -j MINIUPNPD", "-s 192.168.50.66/32 -j MINIUPNPD;@"},

		{"no rules", "nat", "", "@"},
		{"behind forwards", "nat", "-i lan0 -p tcp -m tcp --dport 80 -j DNAT --to-destination 192.168.50.9", "-i lan0 -p tcp -m tcp --dport 80 -j DNAT --to-destination 192.168.50.9;@"},
		{"behind one that is added", "nat", "@;-d 11.22.33.44/32 -p tcp -m tcp --dport 80 -j REDIRECT", "-d 11.22.33.44/32 -p tcp -m tcp --dport 80 -j REDIRECT;@"},
		{"behind a port that stays the router's", "nat", "@;-i lan0 -p tcp -m tcp --dport 80 -j ACCEPT", "-i lan0 -p tcp -m tcp --dport 80 -j ACCEPT;@"},
		{"behind one for the other uplink", "nat", "@;-d 22.33.44.55/32 -p tcp -m tcp --dport 80 -j REDIRECT", "-d 22.33.44.55/32 -p tcp -m tcp --dport 80 -j REDIRECT;@"},
		{"behind one for an address that the router lacks", "nat", "@;-d 198.51.100.7/32 -p tcp -m tcp --dport 80 -j REDIRECT", "-d 198.51.100.7/32 -p tcp -m tcp --dport 80 -j REDIRECT;@"},
		{"in front of one for another address", "nat", "@;-d 11.22.33.9/32 -p tcp -m tcp --dport 80 -j REDIRECT", "@;-d 11.22.33.9/32 -p tcp -m tcp --dport 80 -j REDIRECT"},
		{"all is translated", "nat", "-i lan0 -j DNAT --to-destination 192.168.50.9", "-i lan0 -j DNAT --to-destination 192.168.50.9"},
		{"nothing is translated", "nat", "-i lan0 -j ACCEPT", "-i lan0 -j ACCEPT"},
		{"what is sent to the address is not", "nat", "-d 11.22.33.44/32 -j ACCEPT", "-d 11.22.33.44/32 -j ACCEPT"},
		{"the chain is called for the address", "nat", "-d 11.22.33.44/32 -j MINIUPNPD", "-d 11.22.33.44/32 -j MINIUPNPD"},
		{"the chain is called for the uplink", "nat", "-i wan0 -j MINIUPNPD", "-i wan0 -j MINIUPNPD;@"},
	} {
		t.Run(row.table+"/"+row.name, func(t *testing.T) {
			replace := strings.NewReplacer("@", hairpinJumps[row.table])
			c, n := hairpinOf(row.table)
			tables := parseTable(t, row.table, replace.Replace(row.rules))
			c.jumps = tables.JumpsTo(c.name)
			after := tables.After(c.planJumps(tables, n).edits...)
			got := slices.Clone(after.Rules(c.builtInHook().chain))
			for _, j := range after.JumpsTo(c.name) {
				if j.Chain != c.builtInHook().chain {
					got = append(got, j.Chain+":"+j.Rule)
				}
			}
			if want := strings.FieldsFunc(replace.Replace(row.want), func(r rune) bool { return r == ';' }); !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

// hairpinOf returns the chain for hosts of lan0 in a table, and the network.
func hairpinOf(table string) (*chain, Network) {
	own := []netip.Addr{netip.MustParseAddr("11.22.33.44"), netip.MustParseAddr("22.33.44.55")}
	external := append(slices.Clone(own), netip.MustParseAddr("198.51.100.7"))
	n := Network{Uplink: Uplink{"wan0", own}, LANs: []string{"lan0", "lan1"}, Hairpin: Hairpin{external, []HairpinLAN{{Device: "lan0"}}}}
	f := Firewall{ipv4: newFamily(portmap.IPv4, "iptables", nil), network: func() Network { return n }}
	f.initChains(Options{NATChain: "MINIUPNPD", ForwardChain: "MINIUPNPD", WAN: []string{"wan0"}, Hairpin: true})
	if table == "nat" {
		return f.ipv4.hairpin.nat, n
	}
	return f.ipv4.hairpin.forward, n
}

// parseTable returns a table with rules as rows have them.
func parseTable(t *testing.T, table, rules string) xtables.Table {
	t.Helper()
	builtIn, text := "PREROUTING", "*nat\n:PREROUTING ACCEPT\n"
	if table == "filter" {
		builtIn, text = "FORWARD", "*filter\n:FORWARD ACCEPT\n"
	}
	text += ":MINIUPNPD -\n:MINIUPNPD-HAIRPIN -\n"
	for rule := range strings.SplitSeq(rules, ";") {
		chain, inside, isInside := strings.Cut(rule, ":")
		switch {
		case rule == "":
		case chain == "":
			text = strings.Replace(text, ":FORWARD ACCEPT", rule, 1)
		case isInside:
			text += ":" + chain + " -\n-A " + chain + " " + inside + "\n"
		default:
			text += "-A " + builtIn + " " + rule + "\n"
		}
	}
	s, err := xtables.ParseSnapshot(text + "COMMIT\n")
	if err != nil {
		t.Fatal(err)
	}
	return s[table]
}
