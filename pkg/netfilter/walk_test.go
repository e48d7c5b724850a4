package netfilter

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"igdd/pkg/portmap"
	"igdd/pkg/xtables"
)

// nat reads table nat from its rules, "CHAIN RULE" a line. Chains stand where
// they are first named, or on a line of their own.
func nat(t *testing.T, rules string) xtables.Table {
	t.Helper()
	text := "*nat\n:PREROUTING ACCEPT [0:0]\n"
	for line := range strings.SplitSeq(rules, "\n") {
		line = strings.TrimSpace(line)
		if chain, _, isRule := strings.Cut(line, " "); chain != "" {
			text += ":" + chain + " - [0:0]\n"
			if isRule {
				text += "-A " + line + "\n"
			}
		}
	}
	tables, err := xtables.ParseSnapshot(text + "COMMIT\n")
	if err != nil {
		t.Fatal(err)
	}
	return tables["nat"]
}

// worded lists ports as "tcp 80 443 udp 5000-5010", in ascending order.
func worded(set xtables.PortSet) string {
	var b strings.Builder
	for _, p := range []portmap.Protocol{portmap.TCP, portmap.UDP} {
		for i, r := range set.Ranges(xtables.Protocol(p)) {
			if i == 0 {
				fmt.Fprintf(&b, " %s", strings.ToLower(p.String()))
			}
			fmt.Fprintf(&b, " %d", r.First)
			if r.Last > r.First {
				fmt.Fprintf(&b, "-%d", r.Last)
			}
		}
	}
	return strings.TrimPrefix(b.String(), " ")
}

// reservedBy returns the ports that forwards take.
func reservedBy(forwards []portmap.Forward) string {
	var set xtables.PortSet
	for _, f := range forwards {
		set = set.Or(xtables.PortsOf(xtables.PortRange(f.External), xtables.Protocol(f.Protocol)))
	}
	return worded(set)
}

// What firewalls have in front of, around and behind our jump.
const (
	ours    = "PREROUTING -i wan0 -j MINIUPNPD\n"
	aif     = "NAT_PREROUTING_CHAIN\nPOST_NAT_PREROUTING_CHAIN\nPREROUTING -j NAT_PREROUTING_CHAIN\n"
	aifEnd  = "PREROUTING -j POST_NAT_PREROUTING_CHAIN\nPOST_NAT_PREROUTING_CHAIN -i wan0 -j MINIUPNPD\n"
	every   = "tcp 1-65535 udp 1-65535"
	to      = " -j DNAT --to-destination 192.168.50.9\n"
	dockers = `PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
		DOCKER -i docker0 -j RETURN
		DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
`
	kubes = `PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
		KUBE-SERVICES -d 10.43.14.22/32 -p tcp -m comment --comment "default/app:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-1
		KUBE-SERVICES -m comment --comment "nodeports; must be the last" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
		KUBE-NODEPORTS -p tcp -m tcp --dport 30080 -j KUBE-EXT-1
		KUBE-EXT-1 -m comment --comment "masquerade traffic" -j KUBE-MARK-MASQ
		KUBE-EXT-1 -j KUBE-SVC-1
		KUBE-SVC-1 -m statistic --mode random --probability 0.33333333349 -j KUBE-SEP-1
		KUBE-SVC-1 -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-2
		KUBE-SVC-1 -j KUBE-SEP-3
		KUBE-SEP-1 -s 10.42.0.5/32 -j KUBE-MARK-MASQ
		KUBE-SEP-1 -p tcp -m tcp -j DNAT --to-destination 10.42.0.5:8080
		KUBE-SEP-2 -p tcp -m tcp -j DNAT --to-destination 10.42.0.6:8080
		KUBE-SEP-3 -p tcp -m tcp -j DNAT --to-destination 10.42.0.7:8080
		KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
`
	zones = `PREROUTING_ZONES -i wan0 -g PRE_external
		PREROUTING_ZONES -i lan0 -g PRE_internal
		PREROUTING_ZONES -g PRE_external
		PRE_internal
		PREROUTING -j PREROUTING_ZONES
`
	redsocks = `PREROUTING -p tcp -j REDSOCKS
		REDSOCKS -d 127.0.0.0/8 -j RETURN
		REDSOCKS -d 192.168.0.0/16 -j RETURN
		REDSOCKS -m addrtype --dst-type LOCAL -j RETURN
		REDSOCKS -p tcp -j REDIRECT --to-ports 12345
`
)

// forwardRows are rule sets and the ports to 11.22.33.44 on wan0 that they
// forward, for certain and perhaps.
var forwardRows = []struct{ name, rules, certain, perhaps string }{
	{"nothing", ours, "", ""},
	{"a port", "PREROUTING -i wan0 -p tcp -m tcp --dport 8022" + to + ours, "tcp 8022", ""},
	{"a port behind ours", ours + "PREROUTING -i wan0 -p tcp -m tcp --dport 8022" + to, "tcp 8022", ""},
	{"our jump is missing", "PREROUTING -i wan0 -p tcp -m tcp --dport 8022" + to, "tcp 8022", ""},
	{"another protocol", ours + "PREROUTING -p 47" + to + "PREROUTING -p icmp" + to, "", ""},
	{"any protocol but one", "PREROUTING ! -p tcp" + to + ours, "udp 1-65535", ""},

	{"exposed host", "PREROUTING -i wan0" + to + ours, every, ""},
	{"exposed host behind ours", ours + "PREROUTING -i wan0" + to, "", ""},
	{"exposed host, jump missing", "PREROUTING -i wan0" + to, "", ""},
	{"exposed host of one protocol behind ours", ours + "PREROUTING -i wan0 -p udp -m comment --comment DMZ" + to, "", ""},
	{"exposed host but for a port behind ours", ours + "PREROUTING -i wan0 -p tcp -m tcp ! --dport 22" + to, "", ""},
	{"exposed host by all ports behind ours", ours + "PREROUTING -i wan0 -p tcp -m tcp --dport 1:65535" + to, "", ""},
	{"exposed host in a chain behind ours", ours + "PREROUTING -i wan0 -j DMZ\nDMZ -p tcp -m tcp --dport 80 -j RETURN\nDMZ" + to, "", ""},
	{"a port by the call behind ours", ours + "PREROUTING -p tcp -m tcp --dport 80 -j WEB\nWEB" + to, "tcp 80", ""},
	{"ours for one protocol", "PREROUTING -i wan0 -p udp -j MINIUPNPD\nPREROUTING -i wan0" + to, "tcp 1-65535", ""},
	{"ours perhaps", "PREROUTING -i wan0 -m mark --mark 0x1 -j MINIUPNPD\nPREROUTING -i wan0" + to, "", ""},
	{"ours by goto", "PREROUTING -i wan0 -j WAN\nWAN -g MINIUPNPD\nWAN -p tcp -m tcp --dport 1" + to + "PREROUTING -p tcp -m tcp --dport 2" + to, "tcp 2", ""},

	{"AIF before ours", aif + "NAT_PREROUTING_CHAIN -i wan0" + to + aifEnd, every, ""},
	{"AIF, hook missing", aif + "NAT_PREROUTING_CHAIN -i wan0 -p tcp" + to + "PREROUTING -j POST_NAT_PREROUTING_CHAIN\n", "tcp 1-65535", ""},
	{"AIF behind ours", aif + aifEnd + "PREROUTING -i wan0" + to + "PREROUTING -i wan0 -p udp -m udp --dport 53" + to, "", ""},

	{"interfaces", "PREROUTING -i lan0 -p tcp -m tcp --dport 1" + to + "PREROUTING ! -i wan0 -p tcp -m tcp --dport 2" + to +
		"PREROUTING -i wan+ -p tcp -m tcp --dport 3" + to + "PREROUTING ! -i lan+ -p tcp -m tcp --dport 4" + to, "tcp 3-4", ""},
	{"called for another interface", "PREROUTING -i lan0 -j LAN\nLAN -p tcp -m tcp --dport 1" + to, "", ""},

	{"own address", "PREROUTING -d 11.22.33.44/32 -p tcp -m tcp --dport 1" + to + "PREROUTING -d 11.22.33.0/24 -p tcp -m tcp --dport 2" + to +
		"PREROUTING ! -d 11.22.33.0/24 -p tcp -m tcp --dport 3" + to, "tcp 1-2", ""},
	{"1:1 NAT", "PREROUTING -d 11.22.33.55/32 -i wan0" + to + ours, "", ""},
	{"1:1 NAT called", "PREROUTING -d 11.22.33.55/32 -j MAIL\nMAIL -p tcp -m tcp --dport 25" + to + ours, "", ""},
	{"all but a second address", "PREROUTING ! -d 11.22.33.55/32 -i wan0 -p tcp -m tcp --dport 25" + to, "tcp 25", ""},
	{"local addresses", "PREROUTING -m addrtype --dst-type LOCAL -p tcp -m tcp --dport 1" + to + "PREROUTING -m addrtype ! --dst-type LOCAL -p tcp -m tcp --dport 2" + to +
		"PREROUTING -m addrtype --dst-type BROADCAST,LOCAL -p tcp -m tcp --dport 3" + to + "PREROUTING -m addrtype --dst-type LOCAL --limit-iface-in -p tcp -m tcp --dport 4" + to, "tcp 1 3", "tcp 4"},
	{"a mask with holes", "PREROUTING -d 11.0.33.44/255.0.255.255 -p tcp -m tcp --dport 1" + to, "tcp 1", ""},

	{"one source", "PREROUTING -s 198.51.100.7/32 -i wan0 -p udp -j DNAT --to-destination 192.168.50.9:5060\n" + ours, "", "udp 1-65535"},
	{"all sources but one", "PREROUTING ! -s 198.51.100.7/32 -p tcp -m tcp --dport 80" + to + ours, "", "tcp 80"},
	{"a source on the LAN", "PREROUTING -s 192.168.50.0/24 -p tcp -m tcp --dport 80" + to + ours, "", ""},
	{"any source but the LAN", "PREROUTING ! -s 192.168.50.0/24 -p tcp -m tcp --dport 80" + to + ours, "tcp 80", ""},
	{"one source port", "PREROUTING -p udp -m udp --sport 53 --dport 80" + to + ours, "", "udp 80"},

	{"states", "PREROUTING -p tcp -m conntrack --ctstate NEW,RELATED -m tcp --dport 1" + to + "PREROUTING -p tcp -m state --state NEW -m tcp --dport 2" + to +
		"PREROUTING -p tcp -m conntrack --ctstate RELATED,ESTABLISHED -m tcp --dport 3" + to + "PREROUTING -p tcp -m conntrack ! --ctstate INVALID -m tcp --dport 4" + to +
		"PREROUTING -p tcp -m conntrack ! --ctstate NEW -m tcp --dport 5" + to + "PREROUTING -p tcp -m conntrack --ctstate NEW --ctproto 6 -m tcp --dport 6" + to, "tcp 1-2 4 6", ""},
	{"flags", "PREROUTING -p tcp -m tcp --dport 1 --tcp-flags FIN,SYN,RST,ACK SYN" + to + "PREROUTING -p tcp -m tcp --dport 2 ! --tcp-flags FIN,SYN,RST,ACK SYN" + to +
		"PREROUTING -p tcp -m tcp --dport 3 --tcp-flags RST RST" + to + "PREROUTING -p tcp -m tcp --dport 4 --tcp-flags ACK NONE" + to, "tcp 1 4", ""},
	{"comments", `PREROUTING -p tcp -m comment --comment "a -j b" -m tcp --dport 1` + to + `PREROUTING -p tcp -m comment --comment -j -m tcp --dport 2` + to +
		`PREROUTING -p tcp -m comment --comment ! -m tcp --dport 3` + to + `PREROUTING -p tcp -m comment --comment "x\"--dport 9" -m tcp --dport 4` + to, "tcp 1-4", ""},

	{"several ports", "PREROUTING -p tcp -m multiport --dports 443,80,1000:1002" + to, "tcp 80 443 1000-1002", ""},
	{"several of either side", "PREROUTING -p tcp -m multiport --ports 80,81" + to, "tcp 80-81", "tcp 1-79 82-65535"},
	{"all but several", "PREROUTING -p udp -m multiport ! --dports 1:1023,5060" + to + ours, "udp 1024-5059 5061-65535", ""},
	{"several source ports", "PREROUTING -p tcp -m multiport --sports 80,81" + to + ours, "", "tcp 1-65535"},
	{"narrowed on the way", "PREROUTING -p tcp -m multiport --dports 1:100,200 -j A\nA -p tcp -m tcp ! --dport 50 -j B\nB -p tcp -m multiport --dports 49:51,200:300" + to, "tcp 49 51 200", ""},
	{"once more", "PREROUTING -p tcp -m tcp --dport 80" + to + "PREROUTING -p tcp -m tcp --dport 80:81 -j REDIRECT\n", "tcp 80-81", ""},

	{"RETURN", "PREROUTING -j A\nA -p tcp -m tcp --dport 80 -j RETURN\nA -p tcp" + to + ours, "tcp 1-79 81-65535", ""},
	{"RETURN, then taken", "PREROUTING -j A\nA -p tcp -m tcp --dport 80 -j RETURN\nA -p tcp -m tcp --dport 80:81" + to + "PREROUTING -p tcp -m tcp --dport 80 -j REDIRECT\n", "tcp 80-81", ""},
	{"perhaps RETURN", "PREROUTING -j A\nA -m set --match-set lan src -j RETURN\nA -p tcp -m tcp --dport 80" + to + ours, "", "tcp 80"},
	{"perhaps RETURN, then taken", "PREROUTING -j A\nA -m set --match-set lan src -j RETURN\nA -p tcp -m tcp --dport 80" + to + "PREROUTING -p tcp -m tcp --dport 80 -j REDIRECT\n", "tcp 80", ""},
	{"RETURN of PREROUTING", "PREROUTING -p tcp -m tcp --dport 80 -j RETURN\nPREROUTING -p tcp -m tcp --dport 80:81" + to, "tcp 80-81", ""},
	{"RETURN of PREROUTING behind ours", ours + "PREROUTING -p tcp -m tcp --dport 80 -j RETURN\nPREROUTING -p tcp -m tcp --dport 80:81" + to, "tcp 81", ""},
	{"perhaps ACCEPT of a port", "PREROUTING -s 198.51.100.0/24 -p tcp -m tcp --dport 80 -j ACCEPT\n", "", ""},
	{"ACCEPT", "PREROUTING -j A\nA -p tcp -m tcp --dport 80 -j ACCEPT\nA -p tcp -m tcp --dport 80:81" + to + "PREROUTING -p tcp -m tcp --dport 80 -j REDIRECT\n", "tcp 80-81", ""},
	{"ACCEPT behind ours", ours + "PREROUTING -j A\nA -p tcp -m tcp --dport 80 -j ACCEPT\nA -p tcp -m tcp --dport 80:81" + to, "tcp 81", ""},
	{"perhaps ACCEPT", "PREROUTING -s 198.51.100.0/24 -j ACCEPT\nPREROUTING -p tcp -m tcp --dport 80" + to, "", "tcp 80"},
	{"goto", "PREROUTING -i wan0 -g A\nA -p tcp -m tcp --dport 80" + to + "PREROUTING -p tcp -m tcp --dport 81" + to, "tcp 80", ""},
	{"goto out of a chain", "PREROUTING -j A\nA -p tcp -m multiport --dports 80,81 -g B\nA -p tcp -m tcp --dport 81:82" + to + "B -p tcp -m tcp --dport 80" + to + "PREROUTING -p tcp -m tcp --dport 81 -j REDIRECT\n", "tcp 80-82", ""},
	{"perhaps goto", "PREROUTING -m recent --rcheck --name KNOCK --rsource -g A\nA -j ACCEPT\nPREROUTING -p tcp -m tcp --dport 81" + to, "", "tcp 81"},
	{"a chain without rules", "A\nPREROUTING -j A\nPREROUTING -p tcp -m tcp --dport 81" + to, "tcp 81", ""},
	{"a chain that nothing leads to", "LONELY -p tcp -m tcp --dport 9" + to, "", ""},
	{"chains that call each other", "PREROUTING -j A\nA -j B\nB -j A\nPREROUTING -p tcp -m tcp --dport 81" + to, "tcp 81", ""},

	{"no target", "PREROUTING -i wan0\nPREROUTING -p tcp -m tcp --dport 81" + to, "tcp 81", ""},
	{"targets that go on", "PREROUTING -j LOG --log-prefix \"-j ACCEPT \"\nPREROUTING -p tcp -j MARK --set-xmark 0x1/0x1\nPREROUTING -p tcp -m tcp --dport 81" + to, "tcp 81", ""},
	{"a target not known", "PREROUTING -p tcp -j TPROXY --on-port 3129 --on-ip 0.0.0.0 --tproxy-mark 0x1/0x1\nPREROUTING -m multiport -p tcp --dports 80" + to + "PREROUTING -p udp -m udp --dport 81" + to, "udp 81", "tcp 80"},
	{"NETMAP", "PREROUTING -d 11.22.33.44/32 -p udp -j NETMAP --to 192.168.50.9/32\n" + ours, "udp 1-65535", ""},
	{"conditions not known", "PREROUTING -m mark --mark 0x64 -p tcp" + to + "PREROUTING -p tcp -m tcp --dport 70000 -j REDIRECT\nPREROUTING -p udp -m time --timestart 08:00:00 -m udp --dport 1" + to +
		"PREROUTING -p udp -m string --string \"-j ACCEPT\" --algo bm -m udp --dport 2" + to + "PREROUTING -p udp -m geoip ! --source-country US -m udp --dport 3" + to +
		"PREROUTING -p udp -m limit --limit 3/sec -m udp --dport 4" + to + "PREROUTING -p udp -m socket -m udp --dport 5" + to + ours, "", "tcp 1-65535 udp 1-5"},

	{"docker", dockers + ours, "tcp 8080", ""},
	{"docker behind ours", ours + dockers, "tcp 8080", ""},
	{"kube-proxy", kubes + ours, "tcp 30080", ""},
	{"kube-proxy behind ours", ours + kubes, "tcp 30080", ""},
	{"kube-proxy with a branch that ends nowhere", strings.Replace(kubes, "KUBE-SEP-2 -p tcp -m tcp -j DNAT --to-destination 10.42.0.6:8080", "KUBE-SEP-2 -j ACCEPT", 1) + ours, "", "tcp 30080"},
	{"firewalld by marks", zones + "PRE_external -j PRE_external_allow\nPRE_external_allow -p tcp -m mark --mark 0x64 -j DNAT --to-destination 192.168.50.9:80\n" + ours, "", "tcp 1-65535"},
	{"firewalld", zones + "PRE_external -j PRE_external_allow\nPRE_external_allow -p tcp -m tcp --dport 8080 -j DNAT --to-destination 192.168.50.9:80\n" + ours, "tcp 8080", ""},
	{"transparent proxy", redsocks + ours, "", ""},
	{"transparent proxy for all", strings.Replace(redsocks, "REDSOCKS -m addrtype --dst-type LOCAL -j RETURN", "", 1) + ours, "tcp 1-65535", ""},
	{"transparent proxy by a set", strings.Replace(redsocks, "-m addrtype --dst-type LOCAL", "-m set --match-set local dst", 1) + ours, "", "tcp 1-65535"},
	{"fw3", `PREROUTING -m comment --comment "!fw3: Custom prerouting rule chain" -j prerouting_rule
		prerouting_rule
		PREROUTING -i lan0 -m comment --comment "!fw3" -j zone_lan_prerouting
		PREROUTING -i wan0 -m comment --comment "!fw3" -j zone_wan_prerouting
		zone_lan_prerouting -s 192.168.50.0/24 -d 11.22.33.44/32 -p tcp -m tcp --dport 10101 -m comment --comment "!fw3: HTTP (reflection)" -j DNAT --to-destination 192.168.50.9:80
		zone_wan_prerouting -p tcp -m tcp --dport 10100 -m comment --comment "!fw3: HTTP" -j DNAT --to-destination 192.168.50.9:80
		zone_wan_prerouting -j MINIUPNPD
		zone_wan_prerouting -p udp -m comment --comment "!fw3: DMZ" -j DNAT --to-destination 192.168.50.9
`, "tcp 10100", ""},
	{"VSERVER", "PREROUTING -d 11.22.33.44/32 -j VSERVER\nVSERVER -p tcp -m tcp --dport 8080 -j DNAT --to-destination 192.168.50.9:80\nVSERVER -j MINIUPNPD\nVSERVER" + to, "tcp 8080", ""},
	{"VSERVER of an old address", "PREROUTING -d 11.22.33.43/32 -j VSERVER\nVSERVER -p tcp -m tcp --dport 8080 -j DNAT --to-destination 192.168.50.9:80\nVSERVER -j MINIUPNPD\nVSERVER" + to, "", ""},
	{"port groups", "PREROUTING -i wan0 -p tcp -m set --match-set WEB dst -j DNAT --to-destination 192.168.50.9\n" + ours, "", "tcp 1-65535"},
	{"knocking", "PREROUTING -i wan0 -p tcp -m tcp --dport 22 -m recent --rcheck --seconds 30 --name KNOCK --mask 255.255.255.255 --rsource" + to + ours, "", "tcp 22"},
	{"honeypot", "PREROUTING -i wan0 -p tcp -m set --match-set scanners src -j REDIRECT --to-ports 2222\n" + ours, "", "tcp 1-65535"},
}

func TestForwards(t *testing.T) {
	uplink := Uplink{Device: "wan0", Addrs: []netip.Addr{netip.MustParseAddr("11.22.33.44")}}
	for _, row := range forwardRows {
		t.Run(row.name, func(t *testing.T) {
			found := forwardsOf(nat(t, row.rules), uplink, "wan0")
			if got := reservedBy(found.Certain); got != row.certain {
				t.Errorf("reserved: %q, want %q", got, row.certain)
			}
			var doubtful xtables.PortSet
			for _, c := range found.Rules {
				if !c.Certain {
					doubtful = doubtful.Or(xtables.PortsOf(xtables.PortRange(c.External), xtables.Protocol(c.Protocol)))
				}
				if chain, text, _ := strings.Cut(c.Rule, " "); !slices.Contains(nat(t, row.rules).Rules(chain), text) {
					t.Errorf("%q is no rule", c.Rule)
				}
			}
			if got := worded(doubtful); got != row.perhaps {
				t.Errorf("perhaps: %q, want %q", got, row.perhaps)
			}
		})
	}
}

func TestForwardsOfUplinks(t *testing.T) {
	addr := netip.MustParseAddr
	one, two := addr("11.22.33.44"), addr("11.22.33.55")
	for _, row := range []struct {
		name, rules string
		uplink      Uplink
		wan         []string
		want        string
	}{
		{"a pattern, its link not known", "PREROUTING -i ppp0 -p tcp -m tcp --dport 80" + to, Uplink{}, []string{"ppp+"}, "tcp 80"},
		{"a pattern, its link known", "PREROUTING -i ppp0 -p tcp -m tcp --dport 80" + to, Uplink{Device: "ppp0", Addrs: []netip.Addr{one}}, []string{"ppp+"}, "tcp 80"},
		{"a pattern in the rule", "PREROUTING -i ppp+ -p tcp -m tcp --dport 80" + to, Uplink{}, []string{"ppp0"}, "tcp 80"},
		{"another link of the pattern that ours is in front of", "PREROUTING -i ppp+ -j MINIUPNPD\nPREROUTING -i ppp1 -p tcp -m tcp --dport 80" + to, Uplink{Device: "ppp0", Addrs: []netip.Addr{one}}, []string{"ppp+"}, "tcp 80"},
		{"another link of the pattern, before ours", "PREROUTING -i ppp1 -p tcp -m tcp --dport 80" + to, Uplink{Device: "ppp0", Addrs: []netip.Addr{one}}, []string{"ppp+"}, ""},
		{"the rest of a pattern", "PREROUTING -i ppp+ -j MINIUPNPD\nPREROUTING ! -i ppp0 -p tcp -m tcp --dport 80" + to, Uplink{}, []string{"ppp+"}, "tcp 80"},
		{"another device", "PREROUTING -i pp -p tcp -m tcp --dport 80" + to, Uplink{}, []string{"ppp+"}, ""},
		{"a second uplink, behind ours", "PREROUTING -i wan0 -j MINIUPNPD\nPREROUTING -i wan1 -j MINIUPNPD\nPREROUTING -i wan1 -p tcp -m tcp --dport 80" + to, Uplink{Device: "wan0", Addrs: []netip.Addr{one}}, []string{"wan0", "wan1"}, "tcp 80"},
		{"a second uplink, before ours", "PREROUTING -i wan1 -p tcp -m tcp --dport 80" + to + "PREROUTING -i wan0 -j MINIUPNPD\nPREROUTING -i wan1 -j MINIUPNPD\n",
			Uplink{Device: "wan0", Addrs: []netip.Addr{one}}, []string{"wan0", "wan1"}, ""},
		{"address not known", "PREROUTING -d 11.22.33.44/32 -p tcp -m tcp --dport 80" + to, Uplink{Device: "wan0"}, []string{"wan0"}, ""},
		{"address not known, a rule without", "PREROUTING -m addrtype --dst-type LOCAL -p tcp -m tcp --dport 80" + to, Uplink{Device: "wan0"}, []string{"wan0"}, "tcp 80"},
		{"a second address, before ours", "PREROUTING -d 11.22.33.55/32 -p tcp -m tcp --dport 80" + to + ours, Uplink{"wan0", []netip.Addr{one, two}}, []string{"wan0"}, ""},
		{"a second address, behind ours", ours + "PREROUTING -d 11.22.33.55/32 -p tcp -m tcp --dport 80" + to, Uplink{"wan0", []netip.Addr{one, two}}, []string{"wan0"}, "tcp 80"},
		{"1:1 NAT of a second address, behind ours", ours + "PREROUTING -d 11.22.33.55/32" + to, Uplink{"wan0", []netip.Addr{one, two}}, []string{"wan0"}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := reservedBy(forwardsOf(nat(t, row.rules), row.uplink, row.wan...).Certain); got != row.want {
				t.Errorf("reserved: %q, want %q", got, row.want)
			}
		})
	}
}

// Where a forward leads is said only if it leads nowhere else.
func TestForwardTargets(t *testing.T) {
	for _, row := range []struct{ rules, want string }{
		{"PREROUTING -p tcp -m tcp --dport 80 -j DNAT --to-destination 192.168.50.9:8080", "80-80 192.168.50.9:8080"},
		{"PREROUTING -p tcp -m tcp --dport 80 -j DNAT --to-destination 192.168.50.9", "80-80 192.168.50.9:0"},
		{"PREROUTING -p tcp -m tcp --dport 80:90 -j DNAT --to-destination 192.168.50.9:80-90", "80-90 192.168.50.9:0"},
		{"PREROUTING -p tcp -m tcp --dport 80:90 -j DNAT --to-destination 192.168.50.9:81-91", "80-90 invalid AddrPort"},
		{"PREROUTING -p tcp -m tcp --dport 80:90 -j DNAT --to-destination 192.168.50.9:80-90/1080", "80-90 invalid AddrPort"},
		{"PREROUTING -p tcp -m tcp --dport 80 -j DNAT --to-destination 192.168.50.9-192.168.50.12", "80-80 invalid AddrPort"},
		{"PREROUTING -p tcp -m tcp --dport 80 -j DNAT --to-destination 192.168.50.9 --random", "80-80 invalid AddrPort"},
		{"PREROUTING -p tcp -m tcp --dport 80 -j DNAT --to-destination :8080", "80-80 invalid AddrPort"},
		{"PREROUTING -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 8080", "80-80 invalid AddrPort"},
		{"PREROUTING -p tcp -m tcp --dport 80 -m statistic --mode nth --every 2 --packet 0 -j DNAT --to-destination 192.168.50.9:1\n" +
			"PREROUTING -p tcp -m tcp --dport 80:81 -j DNAT --to-destination 192.168.50.10:1", "81-81 192.168.50.10:1, 80-80 invalid AddrPort"},
	} {
		var got []string
		for _, f := range forwardsOf(nat(t, row.rules), Uplink{Device: "wan0"}, "wan0").Certain {
			got = append(got, fmt.Sprintf("%d-%d %v", f.External.First, f.External.Last, f.Target))
		}
		if text := strings.Join(got, ", "); text != row.want {
			t.Errorf("%s:\ngot  %s\nwant %s", row.rules, text, row.want)
		}
	}
}
