package config

import (
	"reflect"
	"strings"
	"testing"

	"igdd/pkg/portmap"
)

// wordsDraft returns a draft that knows two names and the interfaces of an rc.conf.
func wordsDraft() *draft {
	d := newDraft(machine{})
	d.where = "here"
	d.names = map[string]string{"xbox": "02:00:00:00:00:10", "twice": ""}
	d.devices = map[string]string{"INTIF": "eth1", "INT2IF": "eth2", "INT3IF": "", "DMZIF": "none"}
	return d
}

// ofWords parses a single rule.
func ofWords(line string) (portmap.Rule, error) {
	return wordsDraft().parseWords(strings.Fields(line))
}

func TestWordsTaken(t *testing.T) {
	for line, want := range map[string]string{
		"allow": "allow",
		"DENY":  "deny",
		"allow external 1024-65535 internal 22 host 192.168.1.5 interface eth1 from natpmp": "",
		"allow from UPnP,pcp internal 1-2,7":                                                "allow internal 1-2,7 from pcp,upnp",
		"deny from upnp,upnp":                                                               "deny from upnp",
		"allow external 80,443,5000-5063":                                                   "",
		"allow external 0-65535":                                                            "",
		"allow host 192.168.1.5/32":                                                         "allow host 192.168.1.5",
		"allow host 192.168.1.0/24":                                                         "",
		"allow host 0.0.0.0/0":                                                              "allow",
		"allow host 2001:db8::5/128":                                                        "allow host 2001:db8::5",
		"allow host 2001:db8::/64":                                                          "",
		"allow host ::/0":                                                                   "",
		"allow host AA-bb-cc-dd-ee-02":                                                      "allow host aa:bb:cc:dd:ee:02",
		"allow host aabb.ccdd.ee02":                                                         "allow host aa:bb:cc:dd:ee:02",
		"allow host xbox":                                                                   "allow host 02:00:00:00:00:10",
		"deny host XBox.lan":                                                                "deny host 02:00:00:00:00:10",
		"deny interface INT2IF":                                                             "deny interface eth2",
		"deny interface br-lan.7":                                                           "",
		"deny interface eth1,int2if,br0":                                                    "deny interface eth1,eth2,br0",
	} {
		if want == "" {
			want = line
		}
		r, err := ofWords(line)
		if err != nil || RuleText(r) != want || RuleAndPlace(r) != want+" (here)" {
			t.Errorf("%q: %q, %v, want %q", line, RuleAndPlace(r), err, want)
		}
		if again, err := ofWords(RuleText(r)); err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%q is reported as %q, which is %+v, %v; want %+v", line, RuleText(r), again, err, r)
		}
	}
}

// TestWordsRefused gives rules that cannot be read: one that allows is skipped, and one
// that denies does not deny less than it may mean.
func TestWordsRefused(t *testing.T) {
	for rest, want := range map[string]struct{ reason, denied string }{
		"external 80- host 192.168.1.5":        {"port", "deny host 192.168.1.5"},
		"external 80, host 192.168.1.5":        {"port", "deny host 192.168.1.5"},
		"external 90-80 host 192.168.1.5":      {"first port is above", "deny host 192.168.1.5"},
		"external 70000":                       {"port", "deny"},
		"external 80 - 90 host 192.168.1.5":    {`"-" is none of`, "deny"},
		"external 80 90 host 192.168.1.5":      {`"90" is none of`, "deny"},
		"external 80 external 90":              {"twice", "deny"},
		"external 80 host":                     {"nothing follows", "deny"},
		"external":                             {"nothing follows", "deny"},
		"external 80 hots 192.168.1.5":         {`"hots" is none of`, "deny"},
		"external 80 host 192.168.1.5/33":      {"mask", "deny external 80"},
		"external 80 host 192.168.1.5/24":      {"write 192.168.1.5 or 192.168.1.0/24", "deny external 80"},
		"host 2001:db8::5/64 from upnp":        {"write 2001:db8::5 or 2001:db8::/64", "deny from upnp"},
		"host 192.168.1.0/255.255.255.0":       {"number of bits", "deny"},
		"host 0.0.0.0":                         {"leave it out", "deny"},
		"host ::":                              {"leave it out", "deny"},
		"host 300.1.1.1":                       {"invalid address", "deny"},
		"host fe80::1":                         {"hardware address", "deny"},
		"host ::ffff:192.168.1.5":              {"write 192.168.1.5", "deny"},
		"host ff:ff:ff:ff:ff:ff":               {"not a host's hardware", "deny"},
		"host aa:bb:cc:dd:ee:02/32":            {"not a host's hardware", "deny"},
		"internal 22 host laptop":              {`write "name laptop HARDWARE-ADDRESS"`, "deny internal 22"},
		"host twice from pcp":                  {"more than one", "deny from pcp"},
		"host lap#top":                         {"invalid address", "deny"},
		"interface a/b from pcp":               {"invalid interface", "deny from pcp"},
		"interface eth1, from pcp":             {"invalid interface", "deny from pcp"},
		"interface INT2IF,a/b from pcp":        {"invalid interface", "deny from pcp"},
		"interface \"eth1\" internal 22":       {"invalid interface", "deny internal 22"},
		"interface $INT2IF internal 22":        {"invalid interface", "deny internal 22"},
		"from http internal 22":                {"none of natpmp, pcp and upnp", "deny internal 22"},
		"from pcp, natpmp":                     {"", "deny"},
		"1024-65535 192.168.1.0/24 22":         {`write "%s external 1024-65535 internal 22 host 192.168.1.0/24"`, "deny"},
		`1024-65535 192.168.1.0/24 22 torrent`: {"what clients write", "deny"},
	} {
		for _, action := range []string{"allow", "deny"} {
			d := wordsDraft()
			d.addWords("allow internal 1\n" + action + " " + rest)
			got, expected := strings.TrimPrefix(rulesOf(&d.Config), "allow internal 1\n"), ""
			if action == "deny" {
				expected = want.denied + "\n"
			}
			reason := strings.ReplaceAll(want.reason, "%s", action)
			if got != expected || d.BadRules != 1 || len(d.Warnings) != 1 || !strings.HasPrefix(d.Warnings[0], "here, line 2: ") || !strings.Contains(unquoted(d.Warnings[0]), unquoted(reason)) {
				t.Errorf("%s %s: rules %q, want %q; warnings %q", action, rest, got, expected, d.Warnings)
			}
		}
	}
}

// unquoted returns text without quotes and the backslashes before them.
func unquoted(s string) string { return strings.NewReplacer(`\`, "", `"`, "").Replace(s) }

// TestWordsOfAnotherKind gives lines that do not begin as a rule: what is meant by them
// is not known, so nothing is allowed from there on.
func TestWordsOfAnotherKind(t *testing.T) {
	for line, want := range map[string]string{"alow external 80": "deny\n", "80": "deny\n", "allowed external 80": "deny\n", "allow80": "deny\n", "allow#comment": "deny\n"} {
		d := wordsDraft()
		d.addWords(line)
		if got := rulesOf(&d.Config); got != want || d.BadRules != 1 || len(d.Warnings) != 1 {
			t.Errorf("%q: rules %q, want %q; warnings %q", line, got, want, d.Warnings)
		}
	}
}

// TestTornWords puts one odd character into a rule that denies: if the rule cannot be
// read then, what stands for it denies no less.
func TestTornWords(t *testing.T) {
	tried := 0
	for _, host := range []string{"192.168.1.0/24", "aa:bb:cc:dd:ee:02", "2001:db8::/64", "2001:db8::5", "xbox"} {
		line := "deny external 1000-2000,7 internal 3000 host " + host + " interface eth1 from natpmp,pcp"
		whole, err := ofWords(line)
		if err != nil {
			t.Fatal(err)
		}
		for i := range line {
			for _, odd := range []string{" ", "\t", "-", "/", ".", ":", "x", "\x00", "=", "é", "#", "\"", ",", ";"} {
				torn := line[:i] + odd + line[i:]
				r, err := ofWords(torn)
				if err == nil || isRemark(err) || r.Allow {
					continue
				}
				tried++
				everybody := r.Network.IsValid() && r.Mask == 0 && r.Hardware == ""
				sameHosts := r.Network == whole.Network && r.Mask == whole.Mask && r.Prefix == whole.Prefix && r.Hardware == whole.Hardware
				isWhole := func(part, of any) bool { return reflect.ValueOf(part).IsZero() || reflect.DeepEqual(part, of) }
				if !isWhole(r.External, whole.External) || !isWhole(r.Internal, whole.Internal) || !isWhole(r.Interfaces, whole.Interfaces) ||
					!isWhole(r.Origins, whole.Origins) || !sameHosts && !everybody {
					t.Errorf("%q became %q: %v", torn, RuleText(r), err)
				}
			}
		}
	}
	if tried < 1000 {
		t.Errorf("only %d rules could not be read", tried)
	}
}

// TestNames binds names to hardware addresses.
func TestNames(t *testing.T) {
	const hardware, other = "02:00:00:00:00:01", "02:00:00:00:00:02"
	for text, want := range map[string]struct {
		rules string
		bad   int
	}{
		"name tv " + hardware + "; allow host tv":                                                  {"allow host " + hardware + "\n", 0},
		"NAME TV.lan 02-00-00-00-00-01 # in the kitchen; the old one\ndeny host tv":                {"deny host " + hardware + "\n", 0},
		"name tv " + hardware + "; name set " + hardware + "; allow host set":                      {"allow host " + hardware + "\n", 0},
		"name tv " + hardware + "; name tv " + hardware + "; allow host tv":                        {"allow host " + hardware + "\n", 0},
		"allow host tv; name tv " + hardware:                                                       {"", 1},
		"deny host tv from pcp; name tv " + hardware:                                               {"deny from pcp\n", 1},
		"name tv " + hardware + "; name TV " + other + "; allow host tv; deny host tv":             {"deny\n", 3},
		"name tv " + hardware + "\nallow host tv\nname tv " + other:                                {"allow host " + hardware + "\n", 1},
		"name tv; name; name tv 192.168.1.5; name 1.2 " + hardware + "; name tv ff:ff:ff:ff:ff:ff": {"", 5},
		"name tv " + hardware + " " + other + "; allow host tv":                                    {"", 2},
		"name a,b " + hardware: {"", 1},
		" \n;; # allow\n":      {"", 0},
	} {
		d := newDraft(machine{})
		d.where = "here"
		d.addWords(text)
		if got := rulesOf(&d.Config); got != want.rules || d.BadRules != want.bad || len(d.Warnings) != want.bad {
			t.Errorf("%q: rules %q, want %q; %d are bad, warnings %q", text, got, want.rules, d.BadRules, d.Warnings)
		}
	}
}

// TestRulesVariable reads UPNP_RULES: its rules come before all others, in order.
func TestRulesVariable(t *testing.T) {
	const usual = "allow 1024-65535 192.168.101.0/24 1024-65535\n"
	static := "STATICHOSTS='\ntv.lan telly~192.168.101.30~02:00:00:00:00:01~c~\nnas~192.168.101.31~~\nodd~x~y\npc~192.168.101.32~02:00:00:00:00:02~\npc~192.168.101.33~02:00:00:00:00:03~'\n"
	for value, want := range map[string]struct {
		rules    string
		warnings []string
	}{
		"deny from upnp; allow external 80 interface INTIF": {"deny from upnp\nallow external 80 interface eth1\n" + usual, nil},
		"\n  deny internal 22   # no shell\n\n  allow\n":    {"deny internal 22\nallow\n" + usual, nil},
		"allow host TV":                         {"allow host 02:00:00:00:00:01\n" + usual, nil},
		"deny host nas from pcp":                {"deny from pcp\n" + usual, []string{`UPNP_RULES: rule "deny host nas from pcp" is taken as "deny from pcp": no line above`}},
		"allow host pc":                         {usual, []string{"has more than one hardware address"}},
		"name pc 02:00:00:00:00:02":             {usual, []string{"has another hardware address already"}},
		"deny interface INT2IF; allow from pcp": {"allow from pcp\n" + usual, []string{"INT2IF names no interface, so the rule applies to no host there"}},
		"allow\ndany\nallow external x":         {"allow\ndeny\n" + usual, []string{"UPNP_RULES, line 2: ", "UPNP_RULES, line 3: "}},
	} {
		c, err := parseRC(t, someService+static+"UPNP_RULES='"+value+"'\n")
		if err != nil || rulesOf(c) != want.rules+denyLine || len(c.Warnings) != len(want.warnings) {
			t.Errorf("%q: %v, warnings %q, rules\n%s", value, err, c.Warnings, rulesOf(c))
			continue
		}
		for i, w := range want.warnings {
			if !strings.Contains(unquoted(c.Warnings[i]), unquoted(w)) {
				t.Errorf("%q: warning %q, want %q", value, c.Warnings[i], w)
			}
		}
	}
	c, err := parseRC(t, someService+"UPNP_ALLOW=192.168.101.20 UPNP_RULES='deny from pcp'\n")
	if want := "deny from pcp\nallow 1024-65535 192.168.101.20/32 1024-65535\n" + denyLine; err != nil || rulesOf(c) != want {
		t.Errorf("%v, rules %q, want %q", err, rulesOf(c), want)
	}
	if place := c.Policy.Rules[0].Place; !strings.HasSuffix(place, "/rc.conf: UPNP_RULES") {
		t.Errorf("the rule stands at %q", place)
	}
}

// TestInterfacesOfRules names interfaces that are listened on, those that rc.conf knows but
// does not listen on, and others: a typing error denies no less than was meant.
func TestInterfacesOfRules(t *testing.T) {
	const usual = "allow 1024-65535 192.168.101.0/24 1024-65535\n"
	const guests = "INT2IF=eth2:1 INT2IP=192.168.102.1 INT2NM=255.255.255.0 INT3IF=none\n"
	for value, want := range map[string]struct {
		rules   string
		bad     int
		warning string
	}{
		"deny interface intif":                    {"deny interface eth1\n", 0, ""},
		"deny interface eth1,intif":               {"deny interface eth1,eth1\n", 0, ""},
		"deny interface eth2":                     {"", 0, "eth2 is not listened on, so the rule applies to no host there"},
		"deny interface eth2,INTIF from upnp":     {"deny interface eth1 from upnp\n", 0, "eth2 is not listened on"},
		"deny interface int3if":                   {"", 0, "INT3IF names no interface"},
		"deny interface INTIF,INT3IF":             {"deny interface eth1\n", 0, "INT3IF names no interface"},
		"deny interface INT2IFF from pcp":         {"deny from pcp\n", 1, `is taken as "deny from pcp": INT2IFF is no interface`},
		"deny interface eth9":                     {"deny\n", 1, "eth9 is no interface that is listened on"},
		"deny interface eth1,eth9":                {"deny\n", 1, "eth9 is no interface that is listened on"},
		"deny interface none":                     {"deny\n", 1, "none is no interface that is listened on"},
		"allow interface eth9; allow interface e": {"", 2, "eth9 is no interface that is listened on"},
	} {
		for _, listen := range []string{"", "UPNP_LISTEN='INTIF 192.168.101.9'\n"} {
			c, err := parseRC(t, someService+guests+listen+"UPNP_RULES='"+value+"'\n")
			if err != nil || rulesOf(c) != want.rules+usual+denyLine || c.BadRules != want.bad {
				t.Errorf("%q %s: %v, %d are bad, rules\n%s", value, listen, err, c.BadRules, rulesOf(c))
			}
			if warned := unquoted(strings.Join(c.Warnings, "\n")); (warned == "") != (want.warning == "") || !strings.Contains(warned, unquoted(want.warning)) {
				t.Errorf("%q: warnings %q, want %q", value, warned, want.warning)
			}
		}
	}
	c, err := parseConf(t, minimal+"listening_ip=192.168.7.1/24\nrule=deny interface eth9\n")
	if err != nil || rulesOf(c) != "deny interface eth9\n" || c.BadRules != 0 {
		t.Errorf("eth9 may have a LAN that is given by address: %v, rules %q", err, rulesOf(c))
	}
	c, err = parseConf(t, minimal+"rule=allow interface eth9\n")
	if err != nil || rulesOf(c) != denyLine || c.BadRules != 1 {
		t.Errorf("only an invalid rule: %v, rules %q", err, rulesOf(c))
	}
}

// TestLabelsInRules has the label of an address in the place of an interface, as where
// networks are listened on: the rule must not miss the interface for that.
func TestLabelsInRules(t *testing.T) {
	for rule, want := range map[string]string{
		"deny interface INTIF":                "deny interface eth1\n",
		"deny interface eth1:0":               "deny interface eth1\n",
		"deny external 80 interface eth1:0:0": "deny external 80 interface eth1\n",
		"deny from upnp interface :0":         "deny from upnp\n",
	} {
		c, err := parseRC(t, someService+"INTIF=eth1:0 UPNP_RULES='"+rule+"'\n")
		if err != nil || !strings.HasPrefix(rulesOf(c), want) || !strings.Contains(strings.Join(c.Warnings, "\n"), "UPNP_RULES") {
			t.Errorf("%q: %v, rules\n%s, warnings %q", rule, err, rulesOf(c), c.Warnings)
		}
	}
	for _, device := range []string{"eth1 eth2", "eth/1"} {
		c, err := parseRC(t, someService+"INT2IF='"+device+"' UPNP_RULES='deny interface INT2IF; allow interface INT2IF'\n")
		if err != nil || !strings.HasPrefix(rulesOf(c), "deny\nallow 1024") {
			t.Errorf("INT2IF is %q: %v, rules\n%s, warnings %q", device, err, rulesOf(c), c.Warnings)
		}
	}
}

// TestRuleKey reads rule= among the rules of a miniupnpd.conf.
func TestRuleKey(t *testing.T) {
	text := minimal + "allow 80 192.168.1.1 80\nrule = name tv 02:00:00:00:00:01\nrule=deny host tv from upnp # a comment\nrule=allow interface INTIF; deny internal 1-1023\n" + denyLine
	c, err := parseConf(t, text)
	want := "allow 80 192.168.1.1/32 80\ndeny host 02:00:00:00:00:01 from upnp\ndeny internal 1-1023\n" + denyLine
	if err != nil || rulesOf(c) != want || c.BadRules != 1 {
		t.Errorf("%v, rules\n%s, warnings %q", err, rulesOf(c), c.Warnings)
	}
	demandOneWarning(t, c.Warnings, "INTIF is no interface that is listened on")
	if r := c.Policy.Rules[1]; !strings.HasSuffix(RuleAndPlace(r), "miniupnpd.conf:6)") {
		t.Errorf("the rule is %q", RuleAndPlace(r))
	}
	if !strings.Contains(c.String(), "\nallow 80 192.168.1.1/32 80\nrule=deny host 02:00:00:00:00:01 from upnp\n") {
		t.Errorf("the report is\n%v", c)
	}
	for line, want := range map[string]struct{ rules, warning string }{
		"Rule = deny from pcp":        {"deny from pcp\n", ""},
		"rule deny from pcp":          {"deny from pcp\n", ""},
		"RULE\tallow":                 {"allow\n", ""},
		"rule=":                       {"", ""},
		"rule":                        {"", "is neither a setting"},
		"rules=deny":                  {"", `unknown setting "rules"`},
		"allow from pcp":              {denyLine, `write rule=allow from pcp`},
		"deny external 80 from pcp":   {denyLine, `write rule=deny external 80 from pcp`},
		"deny external 80 host a.b.c": {denyLine, `write rule=deny external 80`},
	} {
		c, err := parseConf(t, minimal+line+"\n")
		if err != nil || rulesOf(c) != want.rules || !strings.Contains(strings.Join(c.Warnings, "\n"), want.warning) || len(c.Warnings) > 0 != (want.warning != "") {
			t.Errorf("%q: %v, rules %q, want %q; warnings %q", line, err, rulesOf(c), want.rules, c.Warnings)
		}
	}
	c, err = parseConf(t, minimal+"rule=allow host tv\n")
	if err != nil || rulesOf(c) != denyLine || c.BadRules != 1 {
		t.Errorf("%v, a rule that nobody can read allows %q", err, rulesOf(c))
	}
}

func FuzzWords(f *testing.F) {
	for _, seed := range []string{
		"allow external 80,443-444 internal 1 host 192.168.1.0/24 interface INTIF from natpmp,upnp", "deny host xbox", "deny host 2001:db8::/64 # a",
		"name tv 02:00:00:00:00:01; allow host tv\nDENY", "allow 1024-65535 192.168.1.0/24 22", "allow host 0.0.0.0/0 from pcp", "deny interface INT3IF;;name tv", "allow host aa-bb-cc-dd-ee-ff",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d := wordsDraft()
		d.addWords(text)
		again := newDraft(machine{})
		again.where = "there"
		for _, r := range d.Policy.Rules {
			again.addWords(RuleText(r))
		}
		if rulesOf(&again.Config) != rulesOf(&d.Config) || again.BadRules > 0 || len(again.Warnings) > 0 {
			t.Errorf("%q is reported as\n%sthat as\n%s, warnings %q", text, rulesOf(&d.Config), rulesOf(&again.Config), again.Warnings)
		}
		for i, r := range again.Policy.Rules {
			if r.Place = d.Policy.Rules[i].Place; !reflect.DeepEqual(r, d.Policy.Rules[i]) {
				t.Errorf("%+v is read again as %+v", d.Policy.Rules[i], r)
			}
		}
	})
}
