package netfilter_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"igdd/pkg/netfilter"
	"igdd/pkg/portmap"
)

// exitNetwork is the router's in TestJumpsInFrontOfExits.
func exitNetwork() netfilter.Network {
	return netfilter.Network{
		Uplink:   netfilter.Uplink{Device: "wan0", Addrs: []netip.Addr{netip.MustParseAddr("11.22.33.1")}},
		LANs:     []string{"lan0", "lan1"},
		Networks: []netip.Prefix{netip.MustParsePrefix("192.168.101.0/24"), netip.MustParsePrefix("192.168.102.0/24")},
		Sources:  map[string]netip.Addr{"wan0": netip.MustParseAddr("11.22.33.1"), "ppp0": netip.MustParseAddr("22.33.44.1")},
	}
}

// The jumps are directly in front of the firewall's rules that translate the source of
// packets from a LAN to an uplink, marked by a +, and nowhere else.
func TestJumpsInFrontOfExits(t *testing.T) {
	t.Parallel()
	rows := map[string]struct {
		rules string // of table nat; a line with a + gets a jump that selects the same
		doubt string // in the log
	}{
		"for all":                  {rules: "+POSTROUTING -o wan0 -j MASQUERADE"},
		"by any interface":         {rules: "+POSTROUTING -j MASQUERADE"},
		"by all but one":           {rules: "+POSTROUTING ! -o wan0 -j MASQUERADE\n+POSTROUTING ! -o lan0 -j MASQUERADE"},
		"for LANs":                 {rules: "+POSTROUTING -s 192.168.101.0/24 ! -d 192.168.101.0/24 -o wan0 -j MASQUERADE\n+POSTROUTING -s 192.168.102.0/24 ! -d 192.168.102.0/24 -o wan0 -j MASQUERADE\nPOSTROUTING -s 192.168.103.0/24 -o wan0 -j MASQUERADE"},
		"for containers":           {rules: "POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE\n+POSTROUTING -o wan0 -j MASQUERADE"},
		"for a part of a LAN":      {rules: "+POSTROUTING -s 192.168.101.128/25 -o wan0 -j MASQUERADE"},
		"two uplinks":              {rules: "+POSTROUTING -o wan0 -j MASQUERADE\n+POSTROUTING -o ppp0 -j MASQUERADE\nPOSTROUTING -o tun0 -j MASQUERADE"},
		"a pattern":                {rules: "+POSTROUTING -o ppp+ -j MASQUERADE"},
		"exempt by destination":    {rules: "POSTROUTING -d 10.9.0.0/16 -j ACCEPT\n+POSTROUTING -o wan0 -j MASQUERADE"},
		"exempt by policy":         {rules: "POSTROUTING -m policy --dir out --pol ipsec -j ACCEPT\n+POSTROUTING -o wan0 -m policy --dir out --pol none -j MASQUERADE"},
		"by protocol and port":     {rules: "+POSTROUTING -o wan0 -p udp -m udp --sport 5060 -j MASQUERADE\n+POSTROUTING -o wan0 -p tcp -m multiport --dports 80,443 -j MASQUERADE"},
		"in chains":                {rules: ":OUT\n:WAN\nPOSTROUTING -j OUT\nOUT -o wan0 -j WAN\n+WAN -m comment --comment \"a -j MASQUERADE of ours\" -j MASQUERADE"},
		"to its address":           {rules: "+POSTROUTING -o wan0 -j SNAT --to-source 11.22.33.1\n+POSTROUTING -o ppp0 -j SNAT --to-source 22.33.44.1"},
		"to another address":       {rules: "POSTROUTING -o wan0 -j SNAT --to-source 11.22.33.9\nPOSTROUTING -o ppp0 -j SNAT --to-source 11.22.33.1"},
		"to one of two uplinks'":   {rules: "POSTROUTING -j SNAT --to-source 11.22.33.1\nPOSTROUTING ! -o lan0 -j SNAT --to-source 22.33.44.1"},
		"to a pattern's address":   {rules: "+POSTROUTING -o ppp+ -j SNAT --to-source 22.33.44.1"},
		"in a chain of both":       {rules: ":C\nPOSTROUTING -o wan0 -j C\nPOSTROUTING -o ppp0 -m mark --mark 0x1 -j C\nC -j SNAT --to-source 11.22.33.1", doubt: "nat C -j SNAT"},
		"to a range of ports":      {rules: "+POSTROUTING -o wan0 -p udp -j MASQUERADE --to-ports 5000-5063\n+POSTROUTING -o wan0 -p tcp -j SNAT --to-source 11.22.33.1:5000-5063"},
		"to a port":                {rules: "POSTROUTING -s 192.168.101.20/32 -o wan0 -p udp -m udp --sport 5060 -j MASQUERADE --to-ports 5060\n+POSTROUTING -o wan0 -j MASQUERADE"},
		"another network to each":  {rules: "POSTROUTING -s 192.168.101.0/24 -o wan0 -j NETMAP --to 11.22.34.0/24"},
		"exempt by a mark":         {rules: "POSTROUTING -m mark --mark 0x1 -j ACCEPT\n+POSTROUTING -o wan0 -j MASQUERADE"},
		"by a mark":                {rules: "POSTROUTING -o wan0 -m mark --mark 0x1 -j MASQUERADE", doubt: "nat POSTROUTING -o wan0 -m mark --mark 0x1 -j MASQUERADE"},
		"by chance":                {rules: "POSTROUTING -o wan0 -m statistic --mode random --probability 0.50000000000 -j MASQUERADE", doubt: "-m statistic"},
		"in a chain for a mark":    {rules: ":OUT\nPOSTROUTING -m mark --mark 0x1 -j OUT\nOUT -o wan0 -j MASQUERADE", doubt: "nat OUT -o wan0 -j MASQUERADE"},
		"in a chain but unmarked":  {rules: ":OUT\n+POSTROUTING -o ppp0 -j MASQUERADE\nPOSTROUTING -j OUT\nOUT -m mark ! --mark 0x1/0x1 -j RETURN\nOUT -j MASQUERADE", doubt: "nat OUT -j MASQUERADE"},
		"but unmarked to others":   {rules: ":OUT\nPOSTROUTING -j OUT\nOUT -d 10.9.0.0/16 -m mark ! --mark 0x1/0x1 -j RETURN\n+OUT -j MASQUERADE"},
		"in a chain but marked":    {rules: ":OUT\nPOSTROUTING -j OUT\nOUT -m mark --mark 0x1/0x1 -j RETURN\n+OUT -j MASQUERADE"},
		"by a mark, then for all":  {rules: "POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE\n+POSTROUTING -o wan0 -j MASQUERADE", doubt: "0x4000"},
		"twice the same selection": {rules: "+POSTROUTING -o wan0 -j MASQUERADE\nPOSTROUTING -o wan0 -j SNAT --to-source 11.22.33.1"},
		"for none":                 {rules: "POSTROUTING -o lan0 -j MASQUERADE"},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachVariant(t, func(t *testing.T, r *router) { testExits(t, r, row.rules, row.doubt) })
		})
	}
}

// testExits opens a mapping beside rules of table nat, and closes it.
func testExits(t *testing.T, r *router, rules, doubt string) {
	var given, want []string
	chains := ""
	for line := range strings.Lines(rules) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, ":") {
			chains += line + " - [0:0]\n"
			continue
		}
		rule, isExit := strings.CutPrefix(line, "+")
		if isExit {
			want = append(want, "-A "+rule[:strings.LastIndex(rule, "-j ")]+"-j MINIUPNPD-OUTBOUND")
		}
		given, want = append(given, "-A "+rule), append(want, "-A "+rule)
	}
	r.feed(t, "*nat\n"+chains+strings.Join(given, "\n")+"\nCOMMIT\n", "iptables-restore")
	o, log := logged(t, options(t))
	o.WAN, o.Network = []string{"wan0", "ppp+"}, exitNetwork
	f := r.firewall(t, o)
	must(t, f.Setup())
	m := mapping(portmap.UDP, 6666, "192.168.101.20:5555")
	must(t, f.Apply(open(m)))
	wantHealthy(t, f)
	wantRulesInOrder(t, r, want)
	own := 0
	if len(want) > len(given) {
		own = 2 // one for each uplink
	}
	if got := r.ruleTexts(t, "--sport 5555 -j MASQUERADE --to-ports 6666"); len(got) != own {
		t.Errorf("rules of the daemon's are %q, want %d", got, own)
	}
	told := slices.DeleteFunc(log.all, func(line string) bool { return !strings.Contains(line, "may leave by another port") })
	if (doubt != "") != (len(told) == 1) || doubt != "" && !strings.Contains(told[0], doubt) {
		t.Errorf("the log says %q, want %q", told, doubt)
	}
	must(t, f.Apply(closing(m)))
	wantHealthy(t, f)
	must(t, f.Teardown())
	wantRulesInOrder(t, r, given)
}

// wantRulesInOrder compares the rules of table nat that are in no chain of the daemon's
// and do not call MINIUPNPD, chain by chain.
func wantRulesInOrder(t *testing.T, r *router, want []string) {
	t.Helper()
	chain := func(rule string) string { return strings.Fields(rule)[1] }
	byChain := func(a, b string) int { return strings.Compare(chain(a), chain(b)) }
	got := slices.DeleteFunc(r.ruleTexts(t, ""), func(rule string) bool {
		return strings.HasPrefix(chain(rule), "MINIUPNPD") || strings.HasSuffix(rule, "-j MINIUPNPD")
	})
	slices.SortStableFunc(got, byChain)
	slices.SortStableFunc(want, byChain)
	if !slices.Equal(got, want) {
		t.Errorf("the rules are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// ruleTexts returns the rules of table nat that contain a text, in their order.
func (r *router) ruleTexts(t *testing.T, text string) []string {
	return slices.DeleteFunc(r.saved(t, "iptables", "nat"), func(line string) bool {
		return !strings.HasPrefix(line, "-A ") || !strings.Contains(line, text)
	})
}

// The jumps follow the firewall's rules, and its own chain comes first.
func TestJumpsFollowExits(t *testing.T) {
	t.Parallel()
	const (
		exit  = "-A POSTROUTING -o wan0 -j MASQUERADE"
		jump  = "-A POSTROUTING -o wan0 -j MINIUPNPD-OUTBOUND"
		other = "-A POSTROUTING -d 10.9.0.0/16 -o wan0 -j ACCEPT"
	)
	eachVariant(t, func(t *testing.T, r *router) {
		o := options(t)
		o.Network = exitNetwork
		f := r.firewall(t, o)
		must(t, f.Setup())
		m := mapping(portmap.UDP, 6666, "192.168.101.20:5555")
		must(t, f.Apply(open(m)))
		steps := []struct {
			command string
			want    []string
			own     string // the chain that has the rule; "": none has
		}{
			{"-t nat -A " + exit[3:], []string{jump, exit}, "MINIUPNPD-OUTBOUND"},
			{"-t nat -I POSTROUTING 2 " + other[len("-A POSTROUTING "):], []string{other, jump, exit}, "MINIUPNPD-OUTBOUND"},
			{"-t nat -D " + jump[3:], []string{other, jump, exit}, "MINIUPNPD-OUTBOUND"},
			{"-t nat -D " + exit[3:], []string{other}, ""},
			{"-t nat -A " + exit[3:], []string{other, jump, exit}, "MINIUPNPD-OUTBOUND"},
			{"-t nat -N MINIUPNPD-POSTROUTING", []string{other, exit}, "MINIUPNPD-POSTROUTING"},
			{"-t nat -F MINIUPNPD-POSTROUTING", []string{other, exit}, "MINIUPNPD-POSTROUTING"},
		}
		for _, step := range steps {
			r.iptables(t, step.command)
			must(t, f.Sync([]*portmap.Mapping{m}))
			wantHealthy(t, f)
			wantRulesInOrder(t, r, step.want)
			var own []string
			for _, rule := range r.ruleTexts(t, "--to-ports 6666") {
				own = append(own, strings.Fields(rule)[1])
			}
			if strings.Join(own, " ") != step.own {
				t.Errorf("after %q the rule is in %q, want %q", step.command, own, step.own)
			}
		}
		must(t, f.Teardown())
		wantRulesInOrder(t, r, []string{other, exit})
	})
}

// MASQUERADE gives packets by a link in several networks one of several addresses, so it
// does not do what SNAT does.
func TestExitsOfLinkInSeveralNetworks(t *testing.T) {
	t.Parallel()
	const (
		jump = "-A POSTROUTING -o wan0 -p udp -j MINIUPNPD-OUTBOUND"
		exit = "-A POSTROUTING -o wan0 -p udp -j MASQUERADE"
		snat = "-A POSTROUTING -o wan0 -j SNAT --to-source 11.22.33.1"
	)
	eachVariant(t, func(t *testing.T, r *router) {
		r.iptables(t, "-t nat "+exit, "-t nat "+snat)
		o, n := options(t), exitNetwork()
		n.Sources["wan0"] = netip.Addr{}
		o.Network = func() netfilter.Network { return n }
		f := r.firewall(t, o)
		must(t, f.Setup())
		must(t, f.Apply(open(mapping(portmap.UDP, 6666, "192.168.101.20:5555"))))
		wantHealthy(t, f)
		wantRulesInOrder(t, r, []string{jump, exit, snat})
		must(t, f.Teardown())
	})
}

// What other hosts send from an external port leaves by another one, and what a target
// sends from the external port of another mapping leaves by its own.
func TestOthersLeaveMappedPorts(t *testing.T) {
	t.Parallel()
	first, second := mapping(portmap.UDP, 6666, "192.168.101.20:5555"), mapping(portmap.UDP, 7777, "192.168.101.21:6666")
	wants := []string{
		"-s 192.168.101.21/32 -o wan0 -p udp -m udp --sport 6666 -j MASQUERADE --to-ports 7777",
		"-s 192.168.101.20/32 -o wan0 -p udp -m udp --sport 5555 -j MASQUERADE --to-ports 6666",
		"-o wan0 -p udp -m udp --sport 6666 -j MASQUERADE --to-ports 6667-65535",
		"-o wan0 -p udp -m udp --sport 7777 -j MASQUERADE --to-ports 7778-65535",
	}
	eachVariant(t, func(t *testing.T, r *router) {
		r.iptables(t, "-t nat -A POSTROUTING -o wan0 -j MASQUERADE")
		o := options(t)
		o.Network = exitNetwork
		f := r.firewall(t, o)
		must(t, f.Setup())
		must(t, f.Apply(open(first)))
		must(t, f.Apply(open(second)))
		demand := func(when string, wants []string) {
			t.Helper()
			wantHealthy(t, f)
			var got []string
			for _, rule := range r.ruleTexts(t, "-A MINIUPNPD-OUTBOUND ") {
				got = append(got, strings.TrimPrefix(rule, "-A MINIUPNPD-OUTBOUND "))
			}
			if !slices.Equal(got, wants) {
				t.Errorf("%s: %q, want %q", when, got, wants)
			}
		}
		demand("at first", wants)
		for _, command := range []string{"-D MINIUPNPD-OUTBOUND " + wants[0], "-D MINIUPNPD-OUTBOUND " + wants[3], "-F MINIUPNPD-OUTBOUND"} {
			r.iptables(t, "-t nat "+command)
			must(t, f.Sync([]*portmap.Mapping{first, second}))
			demand("after "+command, wants)
		}
		r.iptables(t, "-t nat -D MINIUPNPD-OUTBOUND "+wants[0], "-t nat -A MINIUPNPD-OUTBOUND "+wants[0])
		must(t, f.Sync([]*portmap.Mapping{first, second}))
		demand("after a rule has gone to the end", wants)

		r.iptables(t, "-t nat -F POSTROUTING", "-t nat -A POSTROUTING -o wan0 -p udp -j MASQUERADE --to-ports 5000-9999")
		must(t, f.Sync([]*portmap.Mapping{first, second}))
		demand("where the firewall gives ports of a range", wants[:2])
		must(t, f.Teardown())
	})
}

// Of which mappings the target sends by the external port depends on the setting.
func TestOutboundChoice(t *testing.T) {
	t.Parallel()
	same, different := mapping(portmap.UDP, 5555, "192.168.101.20:5555"), mapping(portmap.TCP, 6666, "192.168.101.20:5555", filter("11.22.35.254/32", 0))
	const (
		ofSame      = "-s 192.168.101.20/32 -o wan0 -p udp -m udp --sport 5555 -j MASQUERADE --to-ports 5555"
		ofDifferent = "-s 192.168.101.20/32 -d 11.22.35.254/32 -o wan0 -p tcp -m tcp --sport 5555 -j MASQUERADE --to-ports 6666"
	)
	for choice, want := range map[netfilter.Outbound][]string{
		netfilter.OutboundAuto: {ofDifferent}, netfilter.OutboundAlways: {ofSame, ofDifferent}, netfilter.OutboundNever: nil,
	} {
		eachVariant(t, func(t *testing.T, r *router) {
			r.iptables(t, "-t nat -A POSTROUTING -o wan0 -j MASQUERADE")
			o := options(t)
			o.Network, o.Outbound = exitNetwork, choice
			f := r.firewall(t, o)
			must(t, f.Setup())
			must(t, f.Apply(open(same, different)))
			wantHealthy(t, f)
			var got []string
			for _, rule := range r.ruleTexts(t, "-A MINIUPNPD-OUTBOUND -s") {
				got = append(got, strings.TrimPrefix(rule, "-A MINIUPNPD-OUTBOUND "))
			}
			if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
				t.Errorf("with choice %d the rules are %q, want %q", choice, got, want)
			}
			must(t, f.Teardown())
		})
	}
}

// A process that was killed leaves nothing to one for which mappings determine no port of
// what hosts send.
func TestOutboundOfKilledProcess(t *testing.T) {
	t.Parallel()
	const exit = "-A POSTROUTING -o wan0 -j MASQUERADE"
	eachVariant(t, func(t *testing.T, r *router) {
		r.iptables(t, "-t nat -A "+exit[3:])
		o := options(t)
		o.Network, o.OwnershipFile = exitNetwork, t.TempDir()+"/record"
		killed := r.firewall(t, o)
		must(t, killed.Setup())
		m := mapping(portmap.UDP, 6666, "192.168.101.20:5555")
		must(t, killed.Apply(open(m)))

		again := r.firewall(t, o)
		must(t, again.Setup())
		must(t, again.Sync([]*portmap.Mapping{m}))
		wantHealthy(t, again)
		wantRulesInOrder(t, r, []string{"-A POSTROUTING -o wan0 -j MINIUPNPD-OUTBOUND", exit})

		o.Outbound = netfilter.OutboundNever
		last := r.firewall(t, o)
		must(t, last.Setup())
		must(t, last.Sync([]*portmap.Mapping{m}))
		wantHealthy(t, last)
		wantRulesInOrder(t, r, []string{exit})
		if left := r.ruleTexts(t, "OUTBOUND"); len(left) > 0 {
			t.Errorf("%q are left", left)
		}
	})
}

// A kernel that refuses the rules for packets that leave still forwards those that come in.
func TestRefusedOutboundRules(t *testing.T) {
	t.Parallel()
	const exit = "-A POSTROUTING -o wan0 -j SNAT --to-source 11.22.33.1"
	eachVariant(t, func(t *testing.T, r *router) {
		r.iptables(t, "-t nat -A "+exit[3:])
		r.refuses(t, "-A MINIUPNPD-OUTBOUND .*MASQUERADE")
		o, log := logged(t, options(t))
		o.Network = exitNetwork
		f := r.firewall(t, o)
		must(t, f.Setup())
		first, second := mapping(portmap.UDP, 6666, "192.168.101.20:5555"), mapping(portmap.TCP, 7777, "192.168.101.20:5555")
		must(t, f.Apply(open(first)))
		must(t, f.Apply(open(second)))
		must(t, f.Sync([]*portmap.Mapping{first, second}))
		wantRulesInOrder(t, r, []string{exit})
		f.demandOpen(t, "while the kernel refuses MASQUERADE", []*portmap.Mapping{first, second})
		told := slices.DeleteFunc(log.all, func(line string) bool { return !strings.Contains(line, "the kernel refuses rules for that") })
		if len(told) != 1 {
			t.Errorf("the log says %q, want one line", told)
		}
		must(t, f.Teardown())
	})
}
