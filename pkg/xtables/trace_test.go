package xtables

import (
	"errors"
	"net/netip"
	"testing"
)

// web is a new connection to a port of the router that the rules of webRules forward.
var web = Connection{
	In: "wan0", Protocol: TCP,
	Source: netip.MustParseAddrPort("198.51.100.7:0"), Destination: netip.MustParseAddrPort("11.22.33.44:80"),
}

// webRoute is the routing of a router whose LAN is 192.168.50.0/24.
func webRoute(to netip.Addr) (Route, error) {
	switch {
	case to == web.Destination.Addr():
		return Route{Local: true}, nil
	case netip.MustParsePrefix("192.168.50.0/24").Contains(to):
		return Route{Out: "lan0", Masquerade: netip.MustParseAddr("192.168.50.1")}, nil
	case netip.MustParsePrefix("198.51.100.0/24").Contains(to):
		return Route{Out: "wan0", Masquerade: web.Destination.Addr()}, nil
	}
	return Route{}, errors.New("no route to " + to.String())
}

const webRules = `*nat
:PREROUTING ACCEPT [0:0]
:MINIUPNPD - [0:0]
-A PREROUTING -i wan0 -j MINIUPNPD
-A MINIUPNPD -p tcp -m tcp --dport 80 -j DNAT --to-destination 192.168.50.10:8080
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
-A FORWARD -d 192.168.50.10/32 -p tcp -m tcp --dport 8080 -j ACCEPT
COMMIT
`

// TestTracePath demands the reasons of a path, and its rules in the tables of one
// variant of iptables or two.
func TestTracePath(t *testing.T) {
	for _, tt := range []struct {
		what, rules, others string
		fate                Fate
		to, by, doubt       string
	}{
		{"a mapping", webRules, "", Arrives, "192.168.50.10:8080", "", ""},
		{"no rules", "", "", Arrives, "11.22.33.44:80", "", ""},
		{"a rule after one that may stop it", "*filter\n-A INPUT -m set --match-set bad src -j DROP\n-A INPUT -j REJECT\nCOMMIT\n", "", Stopped, "11.22.33.44:80",
			"filter INPUT -j REJECT", ""},
		{"a policy after a rule that may accept it", "*filter\n:INPUT DROP [0:0]\n-A INPUT -m set --match-set good src -j ACCEPT\nCOMMIT\n", "", Unknown, "11.22.33.44:80",
			"filter INPUT policy DROP", "filter INPUT -m set --match-set good src -j ACCEPT"},
		{"a policy after a rule that may stop it", "*filter\n:INPUT DROP [0:0]\n-A INPUT -m set --match-set bad src -j DROP\nCOMMIT\n", "", Stopped, "11.22.33.44:80",
			"filter INPUT policy DROP", ""},
		{"a certain stop after an uncertain one", "*raw\n-A PREROUTING -m set --match-set bad src -j DROP\nCOMMIT\n*filter\n-A INPUT -j DROP\nCOMMIT\n", "", Stopped, "11.22.33.44:80",
			"filter INPUT -j DROP", ""},
		{"a program that decides", "*filter\n-A INPUT -j NFQUEUE --queue-num 1\nCOMMIT\n", "", Unknown, "11.22.33.44:80",
			"filter INPUT -j NFQUEUE --queue-num 1", "filter INPUT -j NFQUEUE --queue-num 1"},
		{"a forward that may match", "*nat\n-A PREROUTING -m set --match-set some src -j DNAT --to-destination 192.168.50.9\nCOMMIT\n", "", Unknown, "invalid AddrPort",
			"", "nat PREROUTING -m set --match-set some src -j DNAT --to-destination 192.168.50.9"},
		{"a forward to several hosts", "*nat\n-A PREROUTING -j DNAT --to-destination 192.168.50.9-192.168.50.11\nCOMMIT\n", "", Unknown, "invalid AddrPort",
			"", "nat PREROUTING -j DNAT --to-destination 192.168.50.9-192.168.50.11"},
		{"a host that cannot be reached", "*nat\n-A PREROUTING -j DNAT --to-destination 10.0.0.1\nCOMMIT\n*filter\n-A FORWARD -j DROP\nCOMMIT\n", "", Stopped, "10.0.0.1:80",
			"no route to 10.0.0.1", ""},
		{"a mark set before a forward to another port", "*mangle\n-A PREROUTING -j MARK --set-xmark 0x1/0xffffffff\nCOMMIT\n" +
			"*nat\n-A PREROUTING -p tcp -j DNAT --to-destination 192.168.50.9:8080\nCOMMIT\n*filter\n-A FORWARD -m mark --mark 0x1 -j DROP\nCOMMIT\n", "", Unknown, "192.168.50.9:8080",
			"filter FORWARD -m mark --mark 0x1 -j DROP", "filter FORWARD -m mark --mark 0x1 -j DROP"},
		{"a policy of the other variant", webRules, "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n", Stopped, "192.168.50.10:8080",
			"iptables-legacy filter FORWARD policy DROP", ""},
		{"a forward of the other variant alone", "", "*nat\n-A PREROUTING -j DNAT --to-destination 192.168.50.9\nCOMMIT\n", Arrives, "192.168.50.9:80", "", ""},
		{"the same forward in both", webRules, "*nat\n-A PREROUTING -j DNAT --to-destination 192.168.50.10:8080\nCOMMIT\n", Arrives, "192.168.50.10:8080", "", ""},
		{"forwards of both to two hosts", webRules, "*nat\n-A PREROUTING -j DNAT --to-destination 192.168.50.9\nCOMMIT\n", Unknown, "invalid AddrPort", "", ""},
		{"an exception of the other variant", webRules, "*nat\n-A PREROUTING -j ACCEPT\nCOMMIT\n", Arrives, "192.168.50.10:8080", "", ""},
	} {
		t.Run(tt.what, func(t *testing.T) {
			own, err := ParseSnapshot(tt.rules)
			others, err2 := ParseSnapshot(tt.others)
			if err := errors.Join(err, err2); err != nil {
				t.Fatal(err)
			}
			p := Trace(web, webRoute, Variant{Tables: own}, Variant{"iptables-legacy", others})
			if p.Fate != tt.fate || p.To.String() != tt.to || p.By != tt.by || p.Doubt != tt.doubt {
				t.Errorf("fate %v at %v by %q, which depends on %q; want %v, %s, %q, %q", p.Fate, p.To, p.By, p.Doubt, tt.fate, tt.to, tt.by, tt.doubt)
			}
		})
	}
}

// TestTraceSteps demands the rules that a connection passes, with their places.
func TestTraceSteps(t *testing.T) {
	s, err := ParseSnapshot(webRules + "*raw\n-A PREROUTING -p udp -j DROP\n-A PREROUTING -m set --match-set bad src -j DROP\nCOMMIT\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []struct {
		text         string
		index, depth int
		certain      bool
	}{
		{"iptables-nft raw PREROUTING -m set --match-set bad src -j DROP", 1, 0, false},
		{"iptables-nft nat PREROUTING -i wan0 -j MINIUPNPD", 0, 0, true},
		{"iptables-nft nat MINIUPNPD -p tcp -m tcp --dport 80 -j DNAT --to-destination 192.168.50.10:8080", 0, 1, true},
		{"iptables-nft filter FORWARD -d 192.168.50.10/32 -p tcp -m tcp --dport 8080 -j ACCEPT", 0, 0, true},
	}
	steps := Trace(web, webRoute, Variant{"iptables-nft", s}).Steps
	if len(steps) != len(want) {
		t.Fatalf("%d steps, want %d", len(steps), len(want))
	}
	for i, w := range want {
		if got := steps[i]; got.String() != w.text || got.Index != w.index || got.Depth != w.depth || got.IsCertain() != w.certain {
			t.Errorf("step %q, rule %d, depth %d, certain %v; want %v", got, got.Index, got.Depth, got.IsCertain(), w)
		}
	}
}
