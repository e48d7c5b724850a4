package netfilter_test

import (
	"slices"
	"strings"
	"testing"

	"igdd/pkg/netlab"
	"igdd/pkg/netlab/packetlab"
)

// placeRow is a firewall, with what the daemon does beside it and after each list
// of edits. BAD, OTHER and HOST are addresses of a source, of another source and of
// a host with mappings.
type placeRow struct {
	name   string
	scene  int    // index in scenes
	nat    string // rules of IPv4
	filter string // rules, and policies as ":FORWARD DROP"
	sets   []packetlab.Set
	want   looked // in table filter
	inNAT  looked // in table nat, at first; nothing: the jump is at the end of PREROUTING
	edits  [][]string
	then   []looked // in table filter, after each
}

// natEnd is where a jump in table nat is beside rules that do not concern it.
var natEnd = looked{jumps: []string{"nat PREROUTING end"}}

func at(places ...string) looked {
	var l looked
	for _, p := range places {
		l.jumps = append(l.jumps, "filter "+p)
	}
	return l
}

// butDead adds the connections that the daemon says are dead.
func (l looked) butDead(dead ...string) looked {
	l.dead = dead
	return l
}

// inFront are rules that are in front of what ends all connections.
const inFront = ":FORWARD DROP\nFORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\nFORWARD -i lan0 -j ACCEPT\n"

var placeRows = []placeRow{
	{name: "no firewall", filter: "", want: at("FORWARD end")},
	{name: "policy DROP", filter: ":FORWARD DROP", want: at("FORWARD end")},
	{name: "established only", filter: inFront, want: at("FORWARD end")},
	{name: "LOG", filter: inFront + "FORWARD -j LOG --log-prefix drop\nFORWARD -j DROP", want: at("FORWARD before -j DROP")},
	{name: "blocklist", filter: inFront + "FORWARD -s BAD -j DROP\nFORWARD -i wan0 -j DROP", want: at("FORWARD before -i wan0 -j DROP")},
	{name: "blocklist at the end", filter: "FORWARD -i lan0 -j ACCEPT\nFORWARD -s BAD -j DROP", want: at("FORWARD end")},
	{name: "blocklist behind the end", filter: inFront + "FORWARD -i wan0 -j DROP\nFORWARD -s BAD -j DROP", want: at("FORWARD before -i wan0 -j DROP")},
	{name: "a protocol refused", filter: inFront + "FORWARD -p tcp -j REJECT --reject-with tcp-reset\nFORWARD -j DROP",
		want: at("FORWARD before -j DROP").butDead("TCP connections from wan0")},
	{name: "everything accepted before a blocklist", filter: "FORWARD -i wan0 -j ACCEPT\nFORWARD -s BAD -j DROP", want: at("FORWARD before -i wan0 -j ACCEPT")},

	{name: "ufw", filter: `:FORWARD DROP
		FORWARD -j ufw-before-forward
		FORWARD -j ufw-after-forward
		FORWARD -j ufw-reject-forward
		ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
		ufw-before-forward -j ufw-user-forward
		ufw-user-forward -s BAD -j DROP
		ufw-after-forward -m limit --limit 3/min -j LOG
		ufw-reject-forward -j REJECT`, want: at("FORWARD before -j ufw-reject-forward")},
	{name: "docker", filter: `:FORWARD DROP
		FORWARD -j DOCKER-USER
		FORWARD -o docker0 -j DOCKER
		FORWARD -i docker0 ! -o docker0 -j ACCEPT
		DOCKER -p tcp -m tcp --dport 80 -j ACCEPT
		DOCKER-USER -s BAD -j DROP
		DOCKER-USER -j RETURN`, want: at("FORWARD end")},
	{name: "fw3", filter: `:FORWARD DROP
		FORWARD -m comment --comment !fw3 -j forwarding_rule
		FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment !fw3 -j ACCEPT
		FORWARD -i wan0 -m comment --comment !fw3 -j zone_wan_forward
		FORWARD -m comment --comment !fw3 -j reject
		forwarding_rule -s BAD -j DROP
		zone_wan_forward -j zone_wan_dest_REJECT
		zone_wan_dest_REJECT -o wan0 -j reject
		reject -p tcp -j REJECT --reject-with tcp-reset
		reject -j REJECT`, want: at(`FORWARD before -m comment --comment "!fw3" -j reject`)},
	{name: "fw3 with its chain", nat: "PREROUTING -i wan0 -j zone_wan_prerouting\nzone_wan_prerouting -j MINIUPNPD", filter: `:FORWARD DROP
		FORWARD -s BAD -j DROP
		FORWARD -i wan0 -j zone_wan_forward
		FORWARD -j reject
		zone_wan_forward -j MINIUPNPD
		reject -p tcp -j REJECT --reject-with tcp-reset
		reject -j REJECT`, inNAT: looked{dead: []string{}}},
	{name: "Shorewall", filter: `:FORWARD DROP
		FORWARD -i wan0 -o lan0 -j net-loc
		FORWARD -j reject
		net-loc -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
		net-loc -s BAD -j DROP
		net-loc -j Drop
		net-loc -j DROP
		Drop -p tcp -m tcp --dport 113 -j reject
		Drop -p udp -m udp --dport 137:139 -j DROP
		reject -p tcp -j REJECT --reject-with tcp-reset
		reject -j REJECT`, want: at("net-loc before -j DROP")},
	{name: "Shorewall, no exceptions", filter: `:FORWARD DROP
		FORWARD -i wan0 -o lan0 -j net-loc
		net-loc -s BAD -j DROP
		net-loc -j DROP`, want: at("net-loc before -j DROP")},
	{name: "firewalld", filter: `FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
		FORWARD -j FORWARD_ZONES
		FORWARD -j REJECT
		FORWARD_ZONES -i lan0 -g FWD_internal
		FORWARD_ZONES -g FWD_public
		FWD_internal -j ACCEPT
		FWD_public -s BAD -j REJECT`, want: at("FORWARD before -j REJECT --reject-with REJECTED")},
	{name: "goto a zone", filter: `:FORWARD DROP
		FORWARD -i wan0 -g zone_wan
		FORWARD -s OTHER -j DROP
		zone_wan -s BAD -j DROP
		zone_wan -m limit --limit 1/min -j LOG`, want: at("zone_wan end")},
	{name: "EdgeOS", filter: `FORWARD -j VYATTA_FW_IN_HOOK
		FORWARD -j VYATTA_POST_FW_FWD_HOOK
		VYATTA_FW_IN_HOOK -i wan0 -j WAN_IN
		VYATTA_POST_FW_FWD_HOOK -j ACCEPT
		WAN_IN -m state --state RELATED,ESTABLISHED -j RETURN
		WAN_IN -m state --state INVALID -j DROP
		WAN_IN -s BAD -j DROP
		WAN_IN -d HOST -p tcp -m tcp --dport 443 -j RETURN
		WAN_IN -m comment --comment "WAN_IN-10000 default-action drop" -j DROP`,
		want: at(`WAN_IN before -m comment --comment "WAN_IN-10000 default-action drop" -j DROP`)},
	{name: "FreshTomato", nat: "PREROUTING -d 11.22.33.1/32 -j WANPREROUTING\nWANPREROUTING -j upnp\nupnp", filter: `:FORWARD DROP
		FORWARD -i wan0 -j wanin
		FORWARD -i lan0 -j ACCEPT
		FORWARD -i wan0 -j upnp
		wanin -s BAD -j REJECT
		upnp`, inNAT: looked{dead: []string{}}},
	{name: "AIF with a DMZ", scene: 1, filter: `:FORWARD DROP
		FORWARD -j BASE_FORWARD_CHAIN
		FORWARD -i wan0 -o dmz0 -j INET_DMZ_FORWARD_CHAIN
		FORWARD -i ppp0 -o dmz0 -j INET_DMZ_FORWARD_CHAIN
		FORWARD -j POST_FORWARD_CHAIN
		FORWARD -j DROP
		BASE_FORWARD_CHAIN -s BAD -j DROP
		INET_DMZ_FORWARD_CHAIN -m limit --limit 1/min -j LOG
		INET_DMZ_FORWARD_CHAIN -j DROP
		POST_FORWARD_CHAIN`, want: at("FORWARD before -i wan0 -o dmz0 -j INET_DMZ_FORWARD_CHAIN", "FORWARD before -i ppp0 -o dmz0 -j INET_DMZ_FORWARD_CHAIN", "POST_FORWARD_CHAIN end")},
	{name: "AIF with a DMZ and a blocklist behind it", scene: 1, filter: `:FORWARD DROP
		FORWARD -i wan0 -o dmz0 -j INET_DMZ_FORWARD_CHAIN
		FORWARD -i ppp0 -o dmz0 -j INET_DMZ_FORWARD_CHAIN
		FORWARD -s BAD -j DROP
		FORWARD -j POST_FORWARD_CHAIN
		FORWARD -j DROP
		INET_DMZ_FORWARD_CHAIN -j DROP
		POST_FORWARD_CHAIN`, want: at("INET_DMZ_FORWARD_CHAIN before -j DROP", "POST_FORWARD_CHAIN end")},

	{name: "two uplinks", scene: 1, filter: inFront + "FORWARD -s BAD -j DROP\nFORWARD -i wan0 -j DROP\nFORWARD -s OTHER -j DROP\nFORWARD -i ppp0 -j DROP",
		want: at("FORWARD before -i wan0 -j DROP", "FORWARD before -i ppp0 -j DROP")},
	{name: "two LANs", scene: 1, filter: inFront + "FORWARD -o lan0 -j DROP\nFORWARD -o dmz0 -j DROP", want: at("FORWARD before -o lan0 -j DROP")},
	{name: "two LANs, one with a blocklist", scene: 1, filter: inFront + "FORWARD -o lan0 -j DROP\nFORWARD -s BAD -j DROP\nFORWARD -o dmz0 -j DROP",
		want: at("FORWARD before -o dmz0 -j DROP").butDead("connections from wan0 to lan0", "connections from ppp0 to lan0")},
	{name: "two LANs in chains", scene: 1, filter: inFront + `FORWARD -o lan0 -j to-lan
		FORWARD -o dmz0 -j to-dmz
		to-lan -s BAD -j DROP
		to-lan -j DROP
		to-dmz -s OTHER -j DROP
		to-dmz -j DROP`, want: at("to-dmz before -j DROP", "to-lan before -j DROP")},
	{name: "a pattern with a link", scene: 2, filter: inFront + "FORWARD -s BAD -j DROP\nFORWARD -i ppp0 -j DROP", want: at("FORWARD before -i ppp0 -j DROP", "FORWARD end")},
	{name: "a pattern without a link", scene: 3, filter: inFront + "FORWARD -s BAD -j DROP\nFORWARD -i ppp0 -j DROP", want: at("FORWARD end")},
	{name: "a pattern in the rules", scene: 3, filter: inFront + "FORWARD -s BAD -j DROP\nFORWARD -i ppp+ -j DROP", want: at("FORWARD before -i ppp+ -j DROP")},

	{name: "a pattern with two links", scene: 4, filter: inFront + "FORWARD -i ppp0 -j DROP\nFORWARD -i ppp1 -s BAD -j DROP\nFORWARD -i ppp1 -j DROP",
		want: looked{}.butDead("connections from ppp0")},

	{name: "a jump for an old address", nat: "PREROUTING -d 44.55.66.77/32 -i wan0 -j MINIUPNPD", filter: inFront, want: at("FORWARD end"), inNAT: natEnd},
	{name: "a jump behind a REJECT", filter: inFront + "FORWARD -s BAD -j DROP\nFORWARD -i wan0 -m conntrack --ctstate NEW -j DROP\nFORWARD -i wan0 ! -o wan0 -j MINIUPNPD",
		want: at("FORWARD before -i wan0 -m conntrack --ctstate NEW -j DROP")},
	{name: "a jump of other form behind a REJECT", filter: inFront + "FORWARD -i wan0 -j DROP\nFORWARD -j MINIUPNPD", want: at("FORWARD before -i wan0 -j DROP")},
	{name: "a jump for UDP only", filter: inFront + "FORWARD -p udp -j MINIUPNPD\nFORWARD -s BAD -j DROP", want: at("FORWARD end")},
	{name: "a jump for UDP only, policy ACCEPT", filter: "FORWARD -p udp -j MINIUPNPD\nFORWARD -s BAD -j DROP"},
	{name: "a jump at the top", filter: ":FORWARD DROP\nFORWARD -i wan0 ! -o wan0 -j MINIUPNPD\nFORWARD -s BAD -j DROP"},

	{name: "1:1 NAT", nat: "PREROUTING -d 11.22.33.9/32 -i wan0 -j DNAT --to-destination 192.168.77.9", filter: inFront, want: at("FORWARD end"), inNAT: natEnd},
	{name: "exposed host behind the jump", nat: "PREROUTING -i wan0 -j MINIUPNPD\nPREROUTING -i wan0 -j DNAT --to-destination 192.168.77.9", filter: inFront, want: at("FORWARD end"), inNAT: looked{dead: []string{}}},
	{name: "exposed host before the jump", nat: "PREROUTING -i wan0 -j DNAT --to-destination 192.168.77.9\nPREROUTING -i wan0 -p tcp -j MINIUPNPD", filter: inFront, want: at("FORWARD end"), inNAT: looked{dead: []string{}}},
	{name: "exposed host, jump missing", nat: "PREROUTING -i wan0 -j DNAT --to-destination 192.168.77.9", filter: inFront, want: at("FORWARD end"),
		inNAT: looked{jumps: []string{"nat PREROUTING before -i wan0 -j DNAT --to-destination 192.168.77.9"}}},

	{name: "crowdsec before", filter: inFront + "FORWARD -m set --match-set blocked src -j DROP\nFORWARD -j DROP", sets: blockedSet, want: at("FORWARD before -j DROP")},
	{name: "crowdsec behind the jump later", filter: inFront, sets: blockedSet, want: at("FORWARD end"),
		edits: [][]string{{"-A FORWARD -m set --match-set blocked src -j DROP"}}, then: []looked{at("FORWARD end")}},
	{name: "fail2ban at the head later", filter: inFront + "FORWARD -j DROP", want: at("FORWARD before -j DROP"),
		edits: [][]string{{"-N f2b", "-A f2b -s BAD -j REJECT", "-A f2b -j RETURN", "-I FORWARD 1 -p tcp -j f2b"}}, then: []looked{at("FORWARD before -j DROP")}},
	{name: "a host blocked behind the jump", filter: inFront, want: at("FORWARD end"), edits: [][]string{{"-A FORWARD -s BAD -j DROP"}}, then: []looked{at("FORWARD end")}},
	{name: "a chain with a blocked host behind the jump", filter: inFront, want: at("FORWARD end"),
		edits: [][]string{{"-N blocked", "-A blocked -s BAD -j DROP", "-A FORWARD -j blocked"}}, then: []looked{at("FORWARD end")}},
	{name: "a host blocked where no rules were", want: at("FORWARD end"), edits: [][]string{{"-A FORWARD -s BAD -j DROP"}}, then: []looked{at("FORWARD end")}},
	{name: "harmless rules later", filter: inFront + "FORWARD -i wan0 -j DROP", want: at("FORWARD before -i wan0 -j DROP"),
		edits: [][]string{{"-I FORWARD 1 -i lan0 -o wan0 -j ACCEPT"}, {"-I FORWARD 3 -p icmp -j ACCEPT"}, {"-A FORWARD -o wan0 -j ACCEPT"}},
		then:  []looked{at("FORWARD before -i wan0 -j DROP"), at("FORWARD before -i wan0 -j DROP"), at("FORWARD before -i wan0 -j DROP")}},
	{name: "harmless rules behind the jump", filter: inFront, want: at("FORWARD end"), edits: [][]string{{"-A FORWARD -o wan0 -j ACCEPT"}},
		then: []looked{at("FORWARD before -o wan0 -j ACCEPT")}},
	{name: "the end moved before the jump", filter: inFront + "FORWARD -s BAD -j DROP", want: at("FORWARD end"), edits: [][]string{{"-I FORWARD 4 -i wan0 -j DROP"}},
		then: []looked{at("FORWARD before -i wan0 -j DROP")}},
	{name: "a RETURN behind the jump", filter: `:FORWARD DROP
		FORWARD -i wan0 -j A
		FORWARD -s BAD -j DROP
		FORWARD -j DROP
		A -i lan0 -j ACCEPT
		A -s OTHER -j DROP
		A -i wan0 -j DROP`, want: at("A before -i wan0 -j DROP"), edits: [][]string{{"-I A 4 -s BAD -j RETURN"}}, then: []looked{at("A before -i wan0 -j DROP")}},
	{name: "the administrator's own jump later", filter: inFront + "FORWARD -s BAD -j DROP", want: at("FORWARD end"),
		edits: [][]string{{"-I FORWARD 4 -i wan0 -j MINIUPNPD"}, {"-D FORWARD -i wan0 -j MINIUPNPD"}}, then: []looked{{}, at("FORWARD end")}},
	{name: "reloaded", filter: inFront + "FORWARD -s BAD -j DROP\nFORWARD -j DROP", want: at("FORWARD before -j DROP"),
		edits: [][]string{{"-F FORWARD", "-A FORWARD -i lan0 -j ACCEPT", "-A FORWARD -s BAD -j DROP", "-A FORWARD -j DROP"}}, then: []looked{at("FORWARD before -j DROP")}},
	{name: "reloaded, without our chain", filter: inFront + "FORWARD -s BAD -j DROP\nFORWARD -j DROP", want: at("FORWARD before -j DROP"),
		edits: [][]string{{"-F FORWARD", "-F MINIUPNPD", "-X MINIUPNPD", "-A FORWARD -i lan0 -j ACCEPT", "-A FORWARD -s BAD -j DROP", "-A FORWARD -j DROP"}},
		then:  []looked{at("FORWARD before -j DROP")}},
}

// blockedSet has BAD.
var blockedSet = []packetlab.Set{{Name: "blocked", Kind: "hash:net", Members: []string{"BAD"}}}

// words replaces the row's words.
func (f *placeFamily) words(text string) string {
	rejected := map[string]string{"trace": "icmp-port-unreachable", "trace6": "icmp6-port-unreachable"}[f.folder]
	return strings.NewReplacer("BAD", f.sources[1], "OTHER", f.sources[2], "HOST", f.hosts["lan0"], "REJECTED", rejected).Replace(text)
}

// ruleSet returns the row's rules, as iptables-restore reads them.
func (w placeRow) ruleSet(f *placeFamily) string {
	text := "*filter\n:FORWARD ACCEPT [0:0]\n" + rows(f.words(w.filter))
	if f == placeFamilies[0] {
		text += "COMMIT\n*nat\n:PREROUTING ACCEPT [0:0]\n" + rows(w.nat)
	}
	return text + "COMMIT\n"
}

// rows returns rules "CHAIN RULE", with the chains that they are in.
func rows(rules string) string {
	var chains, text strings.Builder
	for line := range strings.Lines(rules) {
		line = strings.TrimSpace(line)
		chain, rule, _ := strings.Cut(line, " ")
		switch {
		case line == "":
			continue
		case chain[0] == ':':
			chains.WriteString(line + " [0:0]\n")
			continue
		case chain != "FORWARD" && chain != "PREROUTING" && !strings.Contains(chains.String(), ":"+chain+" "):
			chains.WriteString(":" + chain + " - [0:0]\n")
		}
		if rule != "" {
			text.WriteString("-A " + line + "\n")
		}
		if strings.HasSuffix(rule, " MINIUPNPD") && !strings.Contains(chains.String(), ":MINIUPNPD ") {
			chains.WriteString(":MINIUPNPD - [0:0]\n")
		}
	}
	return chains.String() + text.String()
}

// want fails the test unless the daemon's jumps in a table are where they should
// be, and it names the dead connections.
func (l looked) check(t *testing.T, got looked, table, when string) {
	t.Helper()
	jumps := slices.DeleteFunc(slices.Clone(got.jumps), func(p string) bool { return !strings.HasPrefix(p, table+" ") })
	if !slices.Equal(jumps, l.jumps) {
		t.Errorf("%s: the jumps are at %q, want %q", when, jumps, l.jumps)
	}
	if table == "filter" && !slices.Equal(got.dead, l.dead) {
		t.Errorf("%s: dead are %q, want %q", when, got.dead, l.dead)
	}
}

func TestPlaces(t *testing.T) {
	for _, f := range placeFamilies {
		for _, variant := range netlab.Variants {
			t.Run(f.program+"/"+variant, func(t *testing.T) {
				t.Parallel()
				l := newPlaceLab(t, f, variant)
				for _, w := range placeRows {
					t.Run(w.name, func(t *testing.T) { w.try(t, l) })
				}
			})
		}
	}
}

// try has the daemon run beside the row's firewall.
func (w placeRow) try(t *testing.T, l *placeLab) {
	var edits [][]string
	for _, list := range w.edits {
		edits = append(edits, strings.Split(l.family.words(strings.Join(list, "\n")), "\n"))
	}
	var sets []packetlab.Set
	for _, set := range w.sets {
		set.Members = []string{l.family.words(set.Members[0])}
		sets = append(sets, set)
	}
	a := l.wantNoFault(t, scenes[w.scene], w.ruleSet(l.family), sets, edits...)
	want := append([]looked{w.want}, w.then...)
	for i, got := range a.looks {
		w := looked{dead: want[i].dead}
		for _, p := range want[i].jumps {
			w.jumps = append(w.jumps, l.family.words(p))
		}
		w.check(t, got, "filter", []string{"at first", "then", "and then", "at last"}[i])
	}
	if l.family == placeFamilies[0] && (w.inNAT.jumps != nil || w.inNAT.dead != nil) {
		w.inNAT.check(t, a.looks[0], "nat", "at first")
	}
}

// Mappings into the DMZ of Arno's firewall work, whose chain for it ends before the
// hook for mappings, and blocked hosts stay blocked.
func TestPlacesBesideArno(t *testing.T) {
	for _, variant := range netlab.Variants {
		for name, settings := range map[string]string{"no host is denied": "", "a host is denied": "INET_DMZ_HOST_DENY_TCP=\"203.0.113.5>192.168.88.30~6882\"\n"} {
			t.Run(variant+"/"+name, func(t *testing.T) {
				t.Parallel()
				l := newPlaceLab(t, placeFamilies[0], variant)
				arno := netlab.NewArno(t, l.Router, variant)
				arno.Configure(t, "EXT_IF=\"wan0 ppp0\"\nDMZ_IF=dmz0\nDMZ_NET=192.168.88.0/24\nBLOCK_HOSTS=192.0.2.9\n"+settings)
				for _, plugin := range []bool{false, true} {
					arno.Plugin(t, plugin)
					arno.Do(t, "start")
					for _, d := range []string{"all", "wan0", "ppp0", "lan0", "dmz0"} { // the firewall filters by the way back
						l.Router.Sysctl(t, "net/ipv4/conf/"+d+"/rp_filter", "0")
					}
					wantDMZ(t, l)
					arno.Do(t, "stop")
				}
			})
		}
	}
}

// wantDMZ demands that mappings work in the LAN and the DMZ.
func wantDMZ(t *testing.T, l *placeLab) {
	t.Helper()
	a, err := l.run(scenes[1], "MINIUPNPD", "MINIUPNPD")
	must(t, err)
	for _, fault := range a.faults {
		t.Error(fault)
	}
	if dead := a.looks[0].dead; len(dead) > 0 || len(a.open) != 8 {
		t.Errorf("dead are %q, %d of 8 groups arrive; the jumps are at %q", dead, len(a.open), a.looks[0].jumps)
	}
}
