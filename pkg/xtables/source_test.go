package xtables

import (
	"errors"
	"net/netip"
	"testing"
)

// game is a new connection of a host on the LAN to a host of the Internet.
var game = Connection{
	In: "lan0", Protocol: UDP,
	Source: netip.MustParseAddrPort("192.168.50.10:3074"), Destination: netip.MustParseAddrPort("198.51.100.7:3478"),
}

// kept returns the source of an address whose port is kept.
func kept(text string) Source {
	at := netip.MustParseAddrPort(text)
	return Source{at.Addr(), PortRange{at.Port(), at.Port()}, true}
}

// oneOf returns the source of an address that gets one of some ports.
func oneOf(address string, first, last uint16) Source {
	return Source{Addr: netip.MustParseAddr(address), Ports: PortRange{first, last}}
}

// postrouting returns a table nat with rules of POSTROUTING.
func postrouting(rules string) string { return "*nat\n" + rules + "COMMIT\n" }

// TestTraceSource demands the source as which a connection from the LAN leaves, and on
// which rule that depends.
func TestTraceSource(t *testing.T) {
	const masquerade = "-A POSTROUTING -o wan0 -j MASQUERADE\n"
	const own, uplink = "192.168.50.10:3074", "11.22.33.44:3074"
	unknown := Source{}
	for _, tt := range []struct {
		what, rules, others string
		from                Source
		fate                Fate
		doubt               string
	}{
		{"no rules", "", "", kept(own), Arrives, ""},
		{"MASQUERADE", postrouting(masquerade), "", kept(uplink), Arrives, ""},
		{"MASQUERADE by another uplink", postrouting("-A POSTROUTING -o wan1 -j MASQUERADE\n"), "", kept(own), Arrives, ""},
		{"a pattern", postrouting("-A POSTROUTING -o wan+ -j MASQUERADE\n"), "", kept(uplink), Arrives, ""},
		{"a rule that leaves the source", postrouting("-A POSTROUTING -s 192.168.50.0/24 -j ACCEPT\n" + masquerade), "", kept(own), Arrives, ""},
		{"the mapped port", postrouting("-A POSTROUTING -s 192.168.50.10/32 -o wan0 -p udp -m udp --sport 3074 -j MASQUERADE --to-ports 40001\n" + masquerade), "",
			oneOf("11.22.33.44", 40001, 40001), Arrives, ""},
		{"another port of the host", postrouting("-A POSTROUTING -s 192.168.50.10/32 -o wan0 -p udp -m udp --sport 3075 -j MASQUERADE --to-ports 40001\n" + masquerade), "",
			kept(uplink), Arrives, ""},
		{"ports with its own", postrouting("-A POSTROUTING -p udp -j MASQUERADE --to-ports 3000-4000\n"), "", kept(uplink), Arrives, ""},
		{"ports without", postrouting("-A POSTROUTING -p udp -j MASQUERADE --to-ports 5000-5063\n"), "", oneOf("11.22.33.44", 5000, 5063), Arrives, ""},
		{"random ports", postrouting("-A POSTROUTING -p udp -j MASQUERADE --to-ports 3000-4000 --random\n"), "", oneOf("11.22.33.44", 3000, 4000), Arrives, ""},
		{"any random port", postrouting("-A POSTROUTING -j MASQUERADE --random-fully\n"), "", oneOf("11.22.33.44", 0, 0), Arrives, ""},
		{"SNAT", postrouting("-A POSTROUTING -j SNAT --to-source 203.0.113.5\n"), "", kept("203.0.113.5:3074"), Arrives, ""},
		{"SNAT to a port", postrouting("-A POSTROUTING -p udp -j SNAT --to-source 203.0.113.5:40001\n"), "", oneOf("203.0.113.5", 40001, 40001), Arrives, ""},
		{"SNAT to a port alone", postrouting("-A POSTROUTING -p udp -j SNAT --to-source :40001\n"), "", oneOf("192.168.50.10", 40001, 40001), Arrives, ""},
		{"SNAT to several addresses", postrouting("-A POSTROUTING -j SNAT --to-source 203.0.113.5-203.0.113.9\n"), "", unknown, Arrives,
			"nat POSTROUTING -j SNAT --to-source 203.0.113.5-203.0.113.9"},
		{"SNAT to nothing", postrouting("-A POSTROUTING -j SNAT\n"), "", unknown, Arrives, "nat POSTROUTING -j SNAT"},
		{"SNAT to no ports", postrouting("-A POSTROUTING -j SNAT --to-source 203.0.113.5:http\n"), "", unknown, Arrives, "nat POSTROUTING -j SNAT --to-source 203.0.113.5:http"},
		{"NETMAP", postrouting("-A POSTROUTING -s 192.168.50.0/24 -j NETMAP --to 203.0.113.0/24\n"), "", kept("203.0.113.10:3074"), Arrives, ""},
		{"a set", postrouting("-A POSTROUTING -m set --match-set game src -j SNAT --to-source 203.0.113.5\n" + masquerade), "", unknown, Arrives,
			"nat POSTROUTING -m set --match-set game src -j SNAT --to-source 203.0.113.5"},
		{"a set for the same", postrouting("-A POSTROUTING -m set --match-set game src -j MASQUERADE\n" + masquerade), "", kept(uplink), Arrives, ""},
		{"a set that calls", postrouting(":GAME - [0:0]\n-A POSTROUTING -m set --match-set game src -j GAME\n" + masquerade + "-A GAME -j SNAT --to-source 203.0.113.5\n"), "", unknown,
			Arrives, "nat POSTROUTING -m set --match-set game src -j GAME"},
		{"IPsec", postrouting("-A POSTROUTING -m policy --dir out --pol ipsec -j ACCEPT\n" + masquerade), "", unknown, Arrives, "nat POSTROUTING -m policy --dir out --pol ipsec -j ACCEPT"},
		{"states", postrouting("-A POSTROUTING -m conntrack --ctstate SNAT -j ACCEPT\n-A POSTROUTING -m conntrack --ctstate DNAT -j ACCEPT\n" + masquerade), "", kept(uplink), Arrives, ""},
		{"a policy that drops", "*nat\n:POSTROUTING DROP [0:0]\nCOMMIT\n", "", unknown, Unknown, "nat POSTROUTING policy DROP"},
		{"a program that decides", postrouting("-A POSTROUTING -j NFQUEUE\n" + masquerade), "", unknown, Unknown, "nat POSTROUTING -j NFQUEUE"},
		{"a prefix that is rewritten", "*mangle\n-A POSTROUTING -j SNPT\nCOMMIT\n" + postrouting(masquerade), "", unknown, Unknown, "mangle POSTROUTING -j SNPT"},
		{"not tracked", "*raw\n-A PREROUTING -j CT --notrack\nCOMMIT\n" + postrouting(masquerade), "", kept(own), Arrives, ""},
		{"perhaps not tracked", "*raw\n-A PREROUTING -m set --match-set a src -j CT --notrack\nCOMMIT\n" + postrouting(masquerade), "", unknown, Arrives,
			"raw PREROUTING -m set --match-set a src -j CT --notrack"},
		{"stopped", "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n" + postrouting(masquerade), "", unknown, Stopped, ""},
		{"stopped where it leaves", "*mangle\n-A POSTROUTING -p udp -j DROP\nCOMMIT\n" + postrouting(masquerade), "", unknown, Stopped, ""},
		{"the other variant alone", "", postrouting(masquerade), kept(uplink), Arrives, ""},
		{"the same in both", postrouting(masquerade), postrouting(masquerade), kept(uplink), Arrives, ""},
		{"an exception of the other variant", postrouting(masquerade), postrouting("-A POSTROUTING -j ACCEPT\n"), kept(uplink), Arrives, ""},
		{"two sources in both", postrouting(masquerade), postrouting("-A POSTROUTING -j SNAT --to-source 203.0.113.5\n"), unknown, Arrives, ""},
	} {
		t.Run(tt.what, func(t *testing.T) {
			p := traceRules(t, game, tt.rules, tt.others)
			if p.From != tt.from || p.Fate != tt.fate || p.FromDoubt != tt.doubt || p.Out != "wan0" {
				t.Errorf("fate %v by %s from %v, which depends on %q; want %v, %v, %q", p.Fate, p.Out, p.From, p.FromDoubt, tt.fate, tt.from, tt.doubt)
			}
		})
	}
}

// traceRules follows a connection through the rules of two variants.
func traceRules(t *testing.T, c Connection, rules, others string) Path {
	t.Helper()
	own, err := ParseSnapshot(rules)
	other, err2 := ParseSnapshot(others)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	return Trace(c, webRoute, Variant{Tables: own}, Variant{"iptables-legacy", other})
}

// TestTraceSourceOf has connections that differ from the others.
func TestTraceSourceOf(t *testing.T) {
	const rules = "*nat\n-A PREROUTING -d 11.22.33.44/32 -p udp -j DNAT --to-destination 192.168.50.11:5000\n" +
		"-A POSTROUTING -o wan0 -j MASQUERADE\n-A POSTROUTING -o lan0 -m conntrack --ctstate DNAT --ctorigdst 11.22.33.44 -j MASQUERADE\nCOMMIT\n"
	anyPort, hairpin, inbound, local := game, game, web, game
	anyPort.Source = netip.AddrPortFrom(game.Source.Addr(), 0)
	hairpin.Destination = netip.MustParseAddrPort("11.22.33.44:40000")
	inbound.Protocol = UDP
	local.Destination, local.Protocol = hairpin.Destination, TCP
	for _, tt := range []struct {
		what string
		c    Connection
		from Source
		out  string
		to   string
	}{
		{"of any port", anyPort, kept("11.22.33.44:0"), "wan0", "198.51.100.7:3478"},
		{"to a mapping of the LAN", hairpin, kept("192.168.50.1:3074"), "lan0", "192.168.50.11:5000"},
		{"from outside", inbound, kept("192.168.50.1:0"), "lan0", "192.168.50.11:5000"},
		{"to the router", local, Source{}, "", "11.22.33.44:40000"},
	} {
		p := traceRules(t, tt.c, rules, "")
		if p.From != tt.from || p.Fate != Arrives || p.Out != tt.out || p.To.String() != tt.to {
			t.Errorf("%s: fate %v at %v by %q from %v, want %v", tt.what, p.Fate, p.To, p.Out, p.From, tt.from)
		}
	}
}

// TestTracePolicyOfIPsec has rules about encryption, where it is known that there is none.
func TestTracePolicyOfIPsec(t *testing.T) {
	c := game
	c.NoIPsec = true
	for rule, matches := range map[string]bool{
		"-m policy --dir out --pol none":                                     true,
		"-m policy --dir out --pol ipsec":                                    false,
		"-m policy --dir out --pol ipsec --proto esp --mode tunnel":          false,
		"-o wan0 -m policy --dir out --pol none -m comment --comment policy": true,
		"-m policy --dir out --pol none -s 10.0.0.0/8":                       false,
		"-m policy --dir out --pol ipsec ! --reqid 7":                        false,
	} {
		want := kept("192.168.50.10:3074")
		if matches {
			want = kept("11.22.33.44:3074")
		}
		if p := traceRules(t, c, postrouting("-A POSTROUTING "+rule+" -j MASQUERADE\n"), ""); p.From != want {
			t.Errorf("%s: from %v, want %v", rule, p.From, want)
		}
	}
	const in = "filter FORWARD -m policy --dir in --pol ipsec -j DROP"
	if p := traceRules(t, c, "*filter\n-A FORWARD -m policy --dir in --pol ipsec -j DROP\nCOMMIT\n", ""); p.Fate != Unknown || p.By != in {
		t.Errorf("fate %v by %q: what comes in may be encrypted", p.Fate, p.By)
	}
}

// TestTraceSourceIPv6 has addresses of IPv6 in rules.
func TestTraceSourceIPv6(t *testing.T) {
	own := kept("[2001:db8:50::10]:3074")
	for rule, want := range map[string]Source{
		"-j SNAT --to-source 2001:db8:33::9":                kept("[2001:db8:33::9]:3074"),
		"-j SNAT --to-source [2001:db8:33::9]:40001":        oneOf("2001:db8:33::9", 40001, 40001),
		"-j SNAT --to-source [2001:db8:33::9]:40001-40009":  oneOf("2001:db8:33::9", 40001, 40009),
		"-j SNAT --to-source 2001:db8:33::9-2001:db8:33::a": {},
		"-j NETMAP --to 2001:db8:99::/64":                   kept("[2001:db8:99::10]:3074"),
		"-j MASQUERADE":                                     {},
	} {
		if got := own.after(ParseRule(rule), netip.Addr{}); got != want {
			t.Errorf("%s: %v, want %v", rule, got, want)
		}
	}
}
