package config

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"igdd/pkg/portmap"
)

// lan is the rule for 192.168.101.0/24 that AstLinux writes, but for its ports.
func lan(externalFirst, externalLast, internalFirst, internalLast uint16) portmap.Rule {
	return portmap.Rule{
		Allow:    true,
		External: portmap.Ports{{First: externalFirst, Last: externalLast}},
		Network:  netip.MustParseAddr("192.168.101.0"), Mask: 0xffffff00,
		Internal: portmap.Ports{{First: internalFirst, Last: internalLast}},
	}
}

// single is a rule for one host and equal ports.
func single(port uint16, host string, mask uint32) portmap.Rule {
	ports := portmap.Ports{{First: port, Last: port}}
	return portmap.Rule{Allow: true, External: ports, Network: netip.MustParseAddr(host), Mask: mask, Internal: ports}
}

func TestRulesTaken(t *testing.T) {
	denied := portmap.Rule{External: portmap.Ports{{Last: 65535}}, Network: netip.IPv4Unspecified(), Internal: portmap.Ports{{Last: 65535}}}
	for line, want := range map[string]portmap.Rule{
		"allow 1024-65535 192.168.101.0/24 1024-65535":              lan(1024, 65535, 1024, 65535),
		"deny 0-65535 0.0.0.0/0 0-65535":                            denied,
		"allow 80 192.168.1.1 80":                                   single(80, "192.168.1.1", 0xffffffff),
		"allow 80 192.168.1.1/32 80":                                single(80, "192.168.1.1", 0xffffffff),
		"allow 0 192.168.1.1 0":                                     single(0, "192.168.1.1", 0xffffffff),
		"allow 00080 192.168.1.1 080":                               single(80, "192.168.1.1", 0xffffffff),
		"allow 80 192.168.1.1/255.255.255.0 80":                     single(80, "192.168.1.1", 0xffffff00),
		"allow 80 192.168.1.1/255.0.255.0 80":                       single(80, "192.168.1.1", 0xff00ff00),
		"allow 80 192.168.1.1/0 80":                                 single(80, "192.168.1.1", 0),
		"allow\t80\t192.168.1.1\t80":                                single(80, "192.168.1.1", 0xffffffff),
		"  allow  80   192.168.1.1 80 \t":                           single(80, "192.168.1.1", 0xffffffff),
		"allow 80 192.168.1.1 80 # a comment":                       single(80, "192.168.1.1", 0xffffffff),
		"allow 80 192.168.1.1 80#c":                                 single(80, "192.168.1.1", 0xffffffff),
		"allow 80 192.168.1.1 80#c more":                            single(80, "192.168.1.1", 0xffffffff),
		`allow 80 192.168.1.1 80 ""`:                                single(80, "192.168.1.1", 0xffffffff),
		"allow 1024-65535 192.168.101.0/24 22":                      lan(1024, 65535, 22, 22),
		"allow 3000-3000 192.168.101.0/255.255.255.0 65535 # a # b": lan(3000, 3000, 65535, 65535),
	} {
		got, err := parseRule(line)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v; want %+v", line, got, err, want)
			continue
		}
		if again, err := parseRule(RuleText(got)); err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("%q is reported as %q, which is %+v, %v", line, RuleText(got), again, err)
		}
	}
}

// TestRulesOfOneHost reads hardware and IPv6 addresses in several spellings.
func TestRulesOfOneHost(t *testing.T) {
	const hardware, one = "aa:bb:cc:dd:ee:ff", "2001:db8::5/128"
	for address, want := range map[string]string{
		"aa:bb:cc:dd:ee:ff":        hardware,
		"AA:BB:cc:DD:ee:FF":        hardware,
		"aa-bb-cc-dd-ee-ff":        hardware,
		"AA-BB-CC-DD-EE-FF":        hardware,
		"aabb.ccdd.eeff":           hardware,
		"aabbccddeeff":             hardware,
		"aa:bb:cc:dd:ee:ff/32":     hardware,
		"aa-bb-cc-dd-ee-ff/32":     hardware,
		"10-20-30-40-50-60":        "10:20:30:40:50:60",
		"2001:db8::5":              one,
		"2001:DB8:0:0:0:0:0:5":     one,
		"2001:db8::0.0.0.5":        one,
		"2001:db8::5/128":          one,
		"2001:db8::/32":            "2001:db8::/32",
		"2001:db8::/064":           "2001:db8::/64",
		"2001:db8::":               "2001:db8::/128",
		"2001:db8:0:50::/64":       "2001:db8:0:50::/64",
		"fd00::/8":                 "fd00::/8",
		"::/0":                     "::/0",
		"00:11:22:33:44:55:66:77":  "0:11:22:33:44:55:66:77/128",
		"2001:db8:1:2:3:4:5:6/128": "2001:db8:1:2:3:4:5:6/128",
	} {
		r, err := parseRule("allow 80 " + address + " 90")
		if err != nil || RuleText(r) != "allow 80 "+want+" 90" {
			t.Errorf("%s is read as %q, %v", address, RuleText(r), err)
		}
		if again, err := parseRule(RuleText(r)); err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%q is read as %+v, %v", RuleText(r), again, err)
		}
	}
}

// TestBitsBeyondTheMask makes IPv6 addresses by lot: a rule for one with bits
// beyond its mask is about that address alone, and says so.
func TestBitsBeyondTheMask(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		b := [16]byte{0x20, 0x01, 0x0d, 0xb8}
		for i := range random.IntN(13) {
			b[4+i] = byte(random.Uint32())
		}
		p := netip.PrefixFrom(netip.AddrFrom16(b), random.IntN(129))
		r, err := parseRule(fmt.Sprintf("allow 80 %v 90", p))
		want := p
		if p != p.Masked() {
			want = netip.PrefixFrom(p.Addr(), 128)
		}
		if r.Prefix != want || isRemark(err) != (p != want) || err != nil && !isRemark(err) {
			t.Fatalf("%v is read as %v, %v", p, r.Prefix, err)
		}
	}
}

func TestRulesRefused(t *testing.T) {
	const tail, head = " 192.168.1.1 80", "allow 80 "
	for line, reason := range map[string]string{
		head + "192.168.1.1/33 80":        "mask",
		head + "192.168.300.1 80":         "address",
		head + "host.lan 80":              "address",
		head + "/32 80":                   "address",
		head + "/ 80":                     "address",
		head + "0x7f.1.1.1 80":            "address",
		head + "aa:bb:cc:dd:ee:ff/48 80":  "mask",
		head + "aa:bb:cc:dd:ee:ff/24 80":  "mask",
		head + "aa:bb:cc:dd:ee:ff/ 80":    "mask",
		head + "aa:bb:cc:dd:ee 80":        "address",
		head + "aa:bb:cc:dd:ee:fg 80":     "address",
		head + "aa-bb-cc:dd-ee-ff 80":     "address",
		head + "aabbccddee 80":            "address",
		head + "aa-bb-cc-dd-ee-ff-0-1 80": "address",
		head + "02-0-0-0-0-0 80":          "address",
		head + "2001:db8::1/129 80":       "mask",
		head + "2001:db8::/ffff:: 80":     "mask",
		head + "2001:db8::/ 80":           "mask",
		head + "2001:db8::/+32 80":        "mask",
		head + "[2001:db8::1] 80":         "address",
		head + "2001:db8::1%eth1 80":      "without %eth1",
		head + "fe80::1 80":               "hardware address",
		head + "fe80::1%eth1/64 80":       "hardware address",
		head + "::ffff:192.168.1.1 80":    "write 192.168.1.1",
		head + "2001:db8: 80":             "address",
		head + "192.168.1.1/32x 80":       "mask",
		head + "192.168.1.1/-1 80":        "mask",
		head + "192.168.1.1/ 80":          "mask",
		head + "192.168.1.1/255.255 80":   "mask",
		head + "192.168.101/24 80":        "address", // 2.1: 192.168.0.101
		head + "10/8 80":                  "address", // 2.1: 0.0.0.10, 2.3.11: 255.192.0.0
		head + "24 80":                    "address",
		"allow 70000" + tail:              "port",
		"allow -" + tail:                  "port",
		"allow 90-80" + tail:              "first port is above last port",
		"allow 65535-1024" + tail:         "first port is above last port",
		"allow 1024-" + tail:              "port",
		"allow -80" + tail:                "port",
		"allow +80" + tail:                "port",
		"allow 80 - 90" + tail:            "address",
		"allow 80-90-100" + tail:          "port",
		"allow 80" + tail + "-90-100":     "port",
		"allow 80 192.168.1.1 x":          "port",
		"ALLOW 80" + tail:                 "neither allow nor deny",
		"allowed 80" + tail:               "neither allow nor deny",
		"allow80" + tail:                  "neither allow nor deny",
		"denyx":                           "neither allow nor deny",
		"allow":                           "a rule has",
		"allow 80":                        "a rule has",
		"deny":                            "a rule has",
		"allow 80 192.168.1.1":            "a rule has",
		"allow 80 192.168.1.1 # 80":       "a rule has",
		"allow 80 192.168.1.1 80 [":       "regex",
		`allow 80 192.168.1.1 80 "["`:     "regex",
		`allow 80 192.168.1.1 80 "(?i)a"`: "regex",
		"allow 80 192.168.1.1 80 a b":     "follows the regex",
		`allow 80 192.168.1.1 80 "a" b`:   "follows the regex",
	} {
		if r, err := parseRule(line); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%q: %+v, error %v, want one about %q", line, r, err, reason)
		}
	}
}

// TestUnreadableDenials gives rules that cannot be read: what they may deny is
// denied, and nothing else is allowed.
func TestUnreadableDenials(t *testing.T) {
	const everything = "deny 0-65535 0.0.0.0/0 0-65535"
	for line, want := range map[string]string{
		"deny 80 192.168.1.99/33 90":         "deny 80 0.0.0.0/0 90",
		"deny 80 host.lan 90":                "deny 80 0.0.0.0/0 90",
		"deny 80 aa:bb:cc:dd:ee:ff/24 90":    "deny 80 0.0.0.0/0 90",
		"deny 80 aa:bb:cc:dd:ee:f 90":        "deny 80 0.0.0.0/0 90",
		"deny 80 fe80::20 90":                "deny 80 0.0.0.0/0 90",
		"deny 80 2001:db8::20/129 90":        "deny 80 0.0.0.0/0 90",
		"deny 80 2001:db8::20/32 90 # a":     "deny 80 2001:db8::20/128 90",
		"deny 90-80 aa:bb:cc:dd:ee:ff 90":    "deny 0-65535 aa:bb:cc:dd:ee:ff 90",
		"deny 80 2001:db8::/32 90-":          "deny 80 2001:db8::/32 0-65535",
		"deny 80 aa:bb: cc:dd:ee:ff 90":      everything,
		"deny 80 2001:db8:: /64 90":          everything,
		"Deny 80 aa:bb:cc:dd:ee:ff 90":       "deny 80 aa:bb:cc:dd:ee:ff 90",
		"deny 80 ff:ff:ff:ff:ff:ff 90":       "deny 80 ff:ff:ff:ff:ff:ff 90",
		"deny 80 00:00:00:00:00:00 90":       "deny 80 00:00:00:00:00:00 90",
		"deny 80 :: 90":                      "deny 80 ::/128 90",
		"deny 80 ::/32 90":                   "deny 80 ::/32 90",
		"deny 90-80 192.168.1.99 90":         "deny 0-65535 192.168.1.99/32 90",
		"deny 70000 192.168.1.99 90":         "deny 0-65535 192.168.1.99/32 90",
		"deny 80 192.168.1.99 80-":           "deny 80 192.168.1.99/32 0-65535",
		"deny 80 192.168.1.99 80 - 90":       "deny 80 192.168.1.99/32 0-65535",
		"deny 80 192.168.1.99 80 -90":        "deny 80 192.168.1.99/32 0-65535",
		"deny 80 192.168.1.99 80 [":          "deny 80 192.168.1.99/32 0-65535",
		"deny 80 192.168.1.99 80 a b":        "deny 80 192.168.1.99/32 0-65535",
		"deny 80 192.168.1.99 80 \"a\x00b\"": "deny 80 192.168.1.99/32 0-65535",
		"deny 80 - 90 192.168.1.99 80":       everything,
		"deny 80 192.168.1.0 /24 80":         everything,
		"deny 80 192. 168.1.0/24 80":         everything,
		"deny 80":                            everything,
		"deny":                               everything,
		"denyx":                              everything,
		"deny80 192.168.1.99 80":             everything,
		"d\x00e\x00n\x00y\x00":               "",
		"deny\x00 80 192.168.1.99 80":        everything,
		"deny=80 192.168.1.99 80":            everything,
		"Deny 80 192.168.1.99 90":            "deny 80 192.168.1.99/32 90",
		"allow 80 192.168.1.99/33 90":        "",
		"allow 80 aa:bb:cc:dd:ee:ff/0 90":    "",
		"allow 80 2001:db8::20/32 90":        "allow 80 2001:db8::20/128 90",
		"allow 80 2001:db8::20/0 90":         "allow 80 2001:db8::20/128 90",
		"allow 80 2001:db8::20/129 90":       "",
		"allow 80 ::ffff:10.0.0.1/32 90":     "",
		"Allow 80 192.168.1.99 90":           "",
		"allow_unknown=yes":                  "",
		"deny_unknown = yes":                 "",
		"allow 80 0.0.0.0 90":                "allow 80 0.0.0.0/32 90",
	} {
		d := newDraft(machine{})
		d.takeConf("f", "allow 1 10.0.0.1 1\n"+line+"\n")
		got := strings.TrimPrefix(rulesOf(&d.Config), "allow 1 10.0.0.1/32 1\n")
		if strings.TrimSpace(got) != want || len(d.Warnings) != 1 || !strings.HasPrefix(d.Warnings[0], "f:2: ") {
			t.Errorf("%q: rules %q, want %q; warnings %q", line, got, want, d.Warnings)
		}
	}
}

// TestTornDenials puts one odd character into a rule that denies: if the rule
// cannot be read then, what stands for it denies no less.
func TestTornDenials(t *testing.T) {
	tried := 0
	for _, address := range []string{"192.168.1.0/24", "aa:bb:cc:dd:ee:ff", "2001:db8::/64", "2001:db8::5"} {
		tried += tear(t, "deny 1000-2000 "+address+" 3000-4000")
	}
	if tried < 1000 {
		t.Errorf("only %d rules could not be read", tried)
	}
}

// tear puts odd characters into a rule, and returns how often it could not be
// read then.
func tear(t *testing.T, line string) (tried int) {
	t.Helper()
	whole, err := parseRule(line)
	if err != nil {
		t.Fatal(err)
	}
	for i := range line {
		for _, odd := range []string{" ", "\t", "-", "/", ".", ":", "x", "\x00", "=", "é", " # ", "\"", ","} {
			torn := line[:i] + odd + line[i:]
			r, err := parseRule(torn)
			if err == nil || isRemark(err) || r.Allow || !isRule(torn) {
				continue
			}
			tried++
			covers := func(a, b portmap.Ports) bool { return a[0].First <= b[0].First && b[0].Last <= a[0].Last }
			sameHosts := r.Network == whole.Network && r.Mask == whole.Mask && r.Prefix == whole.Prefix && r.Hardware == whole.Hardware
			everybody := r.Network == netip.IPv4Unspecified() && r.Mask == 0 && r.Hardware == "" && !r.Prefix.IsValid()
			if !covers(r.External, whole.External) || !covers(r.Internal, whole.Internal) || r.Description != nil || !sameHosts && !everybody {
				t.Errorf("%q became %q: %v", torn, RuleText(r), err)
			}
		}
	}
	return tried
}

func TestRulesThatNobodyCanReadAllowNothing(t *testing.T) {
	for _, lines := range []string{"allow 80 host.lan 80\n", "allow 1\nAllow 2\n"} {
		c, err := parseConf(t, minimal+lines)
		if err != nil || rulesOf(c) != denyLine || c.BadRules == 0 || !strings.Contains(strings.Join(c.Warnings, "\n"), "no mapping is allowed") {
			t.Errorf("%q: %v, rules %q, warnings %q", lines, err, rulesOf(c), c.Warnings)
		}
	}
}

func TestRulesWithRegex(t *testing.T) {
	for token, cases := range map[string]struct{ matches, others []string }{
		"foo":                          {[]string{"foo", "My FOO app"}, []string{"", "fo"}},
		`"^My App"`:                    {[]string{"my app 2"}, []string{"not My App", "first\nMy App"}},
		"'a b'":                        {[]string{"A B"}, []string{"ab"}},
		`ab\ cd`:                       {[]string{"ab cd"}, []string{"abcd", `ab\ cd`}},
		"80":                           {[]string{"port 8080"}, []string{"81"}},
		`"unterminated a`:              {[]string{"unterminated a"}, []string{`"`}},
		`"say \"hi\""`:                 {[]string{`say "hi"`}, []string{"say hi"}},
		`'it\'s'`:                      {[]string{"it's"}, []string{"its"}},
		`'a"b'`:                        {[]string{`a"b`}, []string{"ab"}},
		`"a.*z|[[:digit:]]{2}$" # two`: {[]string{"abcz", "x42"}, []string{"42x", "a", "two"}},
		`"#1"`:                         {[]string{"#1"}, []string{"1"}},
		`\\`:                           {[]string{`\`}, []string{"/"}},
	} {
		r, err := parseRule("deny 1 10.0.0.0/8 2 " + token)
		if err != nil {
			t.Errorf("%s: %v", token, err)
			continue
		}
		again, err := parseRule(RuleText(r))
		if err != nil || again.Description.String() != r.Description.String() && token != `'a"b'` {
			t.Errorf("%s is reported as %s, %v", token, RuleText(r), err)
			continue
		}
		for _, expr := range []portmap.Rule{r, again} {
			for _, text := range cases.matches {
				if !expr.Description.MatchString(text) {
					t.Errorf("%s (%v) does not match %q", token, expr.Description, text)
				}
			}
			for _, text := range cases.others {
				if expr.Description.MatchString(text) {
					t.Errorf("%s (%v) matches %q", token, expr.Description, text)
				}
			}
		}
	}
}

func FuzzRule(f *testing.F) {
	for _, seed := range []string{
		"allow 1024-65535 192.168.101.0/24 1024-65535", "deny 0-65535 0.0.0.0/0 0-65535", `allow 80 192.168.1.1/255.0.255.0 80 "^My \"App\"" # c`,
		"allow 80 aa:bb:cc:dd:ee:ff 80", "deny 1 AA-BB-CC-DD-EE-FF/32 1-2", "allow 80 2001:db8::5/32 80", "deny 1 2001:db8::/64 1", "allow 1 ::ffff:1.1.1.1 1", "deny 1 fe80::1%a 1",
		"allow 80 10/8 80", "allow 80 192.168.1.1 80-90-100", "allow", "", "deny 1 1.1.1.1 1#", `allow 1 1.1.1.1 1 '`, `allow 1 1.1.1.1 1 \`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		r, err := parseRule(line)
		if err != nil && !isRemark(err) {
			return
		}
		again, err := parseRule(RuleText(r))
		if err != nil && !isRemark(err) {
			t.Fatalf("%q is reported as %q: %v", line, RuleText(r), err)
		}
		if text := RuleText(again); text != RuleText(r) {
			t.Errorf("%q is reported as %q, and that as %q", line, RuleText(r), text)
		}
		kinds := 0
		for _, is := range []bool{r.Network.Is4(), r.Prefix.IsValid(), r.Hardware != ""} {
			if is {
				kinds++
			}
		}
		again.Description = r.Description
		if r.External[0].First > r.External[0].Last || r.Internal[0].First > r.Internal[0].Last || kinds != 1 || !reflect.DeepEqual(again, r) {
			t.Errorf("%q became %+v", line, r)
		}
	})
}

// TestRulesWithAnotherAction gives rules that neither allow nor deny: what the
// administrator means by them is not known, so nothing is allowed from there on.
func TestRulesWithAnotherAction(t *testing.T) {
	for _, line := range []string{
		"reject 0-65535 0.0.0.0/0 0-65535", "permit 1024-65535 192.168.1.0/24 1024-65535", "dney 80 192.168.1.5/32 80",
		"\"deny 0-65535 0.0.0.0/0 0-65535\"", "alow 1024-65535 192.168.1.0/24 1024-65535 # a", "- 80 aa:bb:cc:dd:ee:ff 80", "block 22 2001:db8::/64 22 \"a=b\"",
		"dany 0-65535 192.168.1.5/33 0-65535", "reject 80-70 192.168.1.5/32 80", "reject 80 host.lan 80", "drop 0-65536 192.168.1.5 80", "drop 80 192.168.1.5",
	} {
		c, err := parseConf(t, minimal+line+"\nallow 1024-65535 0.0.0.0/0 1024-65535\n")
		if err != nil || len(c.Policy.Rules) != 2 || c.BadRules != 1 || !reflect.DeepEqual(c.Policy.Rules[0], denyAll) {
			t.Errorf("%q: %v, %+v", line, err, c)
			continue
		}
		demandWarnings(t, line, c.Warnings, "miniupnpd.conf:4: rule ")
	}
	for _, line := range []string{
		"model_name=WRT 1900 10.0.0.1 2", "friendly_name=a 80 192.168.1.5 80", "; see 80 192.168.1.5 80", "// allow 80 192.168.1.5 80", "include 80 files", "[rules]",
		"listen on 192.168.1.5", "port 80 to 192.168.1.5", "log 192.168.1.5 80",
	} {
		c, err := parseConf(t, minimal+line+"\n")
		if err != nil || len(c.Policy.Rules) > 0 || c.BadRules > 0 {
			t.Errorf("%q: %v, %+v", line, err, c)
		}
	}
}
