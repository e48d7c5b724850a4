package xtables

import "testing"

func TestPasses(t *testing.T) {
	const own = ":MINIUPNPD - [0:0]\n-A FORWARD -i wan0 ! -o wan0 -j MINIUPNPD\n-A MINIUPNPD -d 2001:db8::1/128 -p tcp -m tcp --dport 80 -j ACCEPT\n"
	for rules, want := range map[string]bool{
		"":                                true,
		":FORWARD ACCEPT [0:0]\n":         true,
		":FORWARD ACCEPT [0:0]\n" + own:   true,
		":FORWARD DROP [0:0]\n":           false,
		":FORWARD DROP [12:3400]\n" + own: false,
		":FORWARD DROP [0:0]\n-A FORWARD -i lan0 -o wan0 -j ACCEPT\n":                                                       true,
		":FORWARD DROP [0:0]\n" + own + "-A FORWARD -i lan0 -m conntrack --ctstate NEW -j ACCEPT\n":                         true,
		":FORWARD DROP [0:0]\n-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n":                            false,
		":FORWARD DROP [0:0]\n-A FORWARD -m state --state ESTABLISHED -j ACCEPT\n-A FORWARD -i lo -j ACCEPT\n":              false,
		":FORWARD DROP [0:0]\n-A FORWARD -p ipv6-icmp -j ACCEPT\n":                                                          false,
		":FORWARD DROP [0:0]\n-A FORWARD ! -p ipv6-icmp -j ACCEPT\n":                                                        true,
		":FORWARD DROP [0:0]\n:LAN - [0:0]\n-A FORWARD -i lan0 -j LAN\n-A LAN -j LOG\n-A LAN -p tcp -j ACCEPT\n":            true,
		":FORWARD DROP [0:0]\n:LAN - [0:0]\n-A FORWARD -i lan0 -j LAN\n-A LAN -j DROP\n-A LAN -p tcp -j ACCEPT\n":           false,
		":FORWARD DROP [0:0]\n:LAN - [0:0]\n-A FORWARD -g LAN\n-A FORWARD -j ACCEPT\n-A LAN -j LOG\n":                       false,
		":FORWARD DROP [0:0]\n:LAN - [0:0]\n-A LAN -j ACCEPT\n":                                                             false,
		":FORWARD DROP [0:0]\n-A FORWARD -j NFQUEUE --queue-num 0\n":                                                        true,
		":FORWARD ACCEPT [0:0]\n-A FORWARD -j DROP\n":                                                                       false,
		":FORWARD ACCEPT [0:0]\n-A FORWARD -m comment --comment \"no IPv6\" -j REJECT --reject-with icmp6-adm-prohibited\n": false,
		":FORWARD ACCEPT [0:0]\n-A FORWARD -i wan0 -j DROP\n":                                                               true,
		":FORWARD ACCEPT [0:0]\n:ALL - [0:0]\n-A FORWARD -j ALL\n-A ALL -p tcp -j DROP\n-A ALL -j DROP\n":                   false,
		":FORWARD ACCEPT [0:0]\n:ALL - [0:0]\n-A FORWARD -j ALL\n-A ALL -p tcp -j DROP\n-A ALL -j RETURN\n-A ALL -j DROP\n": true,
		":FORWARD ACCEPT [0:0]\n:ALL - [0:0]\n-A FORWARD -j ALL\n-A ALL -j ALL\n":                                           true,
	} {
		text := "*nat\n:FORWARD DROP [0:0]\nCOMMIT\n*filter\n:INPUT DROP [0:0]\n" + rules + "COMMIT\n"
		s, err := ParseSnapshot(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.PassesAny("MINIUPNPD"); got != want {
			t.Errorf("passes: %v, want %v with\n%s", got, want, rules)
		}
	}
}

// TestPassesOtherTables drops what is routed before table filter sees it.
func TestPassesOtherTables(t *testing.T) {
	for rules, want := range map[string]bool{
		"*raw\n:PREROUTING ACCEPT [0:0]\n":                                                                       true,
		"*raw\n:PREROUTING DROP [0:0]\n":                                                                         false,
		"*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j DROP\n":                                                false,
		"*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -i wan0 -j DROP\n":                                        true,
		"*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -m rpfilter --validmark --invert -j DROP\n":               true,
		"*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p ipv6-icmp -j ACCEPT\n-A PREROUTING -j DROP\n":          false,
		"*raw\n:PREROUTING DROP [0:0]\n-A PREROUTING -i lan0 -j ACCEPT\n":                                        true,
		"*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT DROP [0:0]\n-A OUTPUT -j DROP\n-A PREROUTING -j CT --notrack\n": true,
		"*mangle\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j DROP\n":                                             false,
		"*mangle\n:FORWARD DROP [0:0]\n":                                                                         false,
		"*mangle\n:FORWARD ACCEPT [0:0]\n:NONE - [0:0]\n-A FORWARD -j NONE\n-A NONE -j DROP\n":                   false,
		"*mangle\n:FORWARD ACCEPT [0:0]\n-A FORWARD -j MARK --set-xmark 0x1/0xffffffff\n":                        true,
		"*mangle\n:INPUT DROP [0:0]\n:POSTROUTING ACCEPT [0:0]\n-A INPUT -j DROP\n":                              true,
	} {
		text := rules + "COMMIT\n*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n"
		s, err := ParseSnapshot(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.PassesAny("MINIUPNPD"); got != want {
			t.Errorf("passes: %v, want %v with\n%s", got, want, text)
		}
	}
}
