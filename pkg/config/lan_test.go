package config

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestListeningInterfaces reads listening_ip in all its forms.
func TestListeningInterfaces(t *testing.T) {
	for value, want := range map[string]struct{ lans, warning string }{
		"lan0":                          {"[lan0]", ""},
		"lan0/24":                       {"[lan0/24]", ""},
		"lan0/255.255.255.0":            {"[lan0/24]", ""},
		"lan0/255.255.255.192 # guests": {"[lan0/26]", ""},
		"br-lan.20@x_y":                 {"[br-lan.20@x_y]", ""},
		"eth0:1":                        {"[eth0]", "all of eth0 is used"},
		"eth0:lan/25":                   {"[eth0/25]", "all of eth0 is used"},
		"192.168.1.1":                   {"[192.168.1.1/24]", ""},
		"192.168.1.1/16":                {"[192.168.1.1/16]", ""},
		"192.168.1.1/255.255.255.0":     {"[192.168.1.1/24]", ""},
		"192.168.1.0/24":                {"[192.168.1.0/24]", ""},
		"::ffff:192.168.1.1/24":         {"[192.168.1.1/24]", ""},
		"2001:db8::1/64":                {"[2001:db8::1/64]", ""},
		"2001:db8:0:1::/64":             {"[2001:db8:0:1::/64]", ""},
		"2001:db8::1":                   {"[2001:db8::1/64]", ""},
		"lan0 lan1":                     {"[lan0 lan1]", ""},
		"lan0\tlan1  lan0 # lan2":       {"[lan0 lan1]", ""},
		"lan0 lan0/25":                  {"[lan0]", ""},
		"192.168.1.1/24 192.168.2.1/25": {"[192.168.1.1/24 192.168.2.1/25]", ""},
		"192.168.1.1/24 88.22.44.13":    {"[192.168.1.1/24]", "88.22.44.13 is a public address"},
		"192.168.1.1/24 lan1":           {"[192.168.1.1/24 lan1]", ""},
		"lan0 192.168.1.1/33":           {"[lan0]", `"192.168.1.1/33": mask "33"`},
		"lan0#1":                        {"[lan0#1]", ""}, // as the kernel has it
		"lan0/33":                       {"[]", `"lan0/33": mask "33"`},
		"lan0/":                         {"[]", `"lan0/": mask ""`},
		"lan0/255.0.255.0":              {"[]", "is not contiguous"},
		"192.168.1.300":                 {"[]", "neither an interface nor an address"},
		"192.168.1":                     {"[]", "neither an interface nor an address"},
		"0.0.0.0":                       {"[]", "name the interface"},
		"::":                            {"[]", "name the interface"},
		"10.0.0.1/0":                    {"[]", "name the interface"},
		"224.0.0.1":                     {"[]", "name the interface"},
		"fe80::1":                       {"[]", "name the interface"},
		"fe80::1%lan0":                  {"[]", "name the interface"},
		"2001:db8::1/129":               {"[]", "2001:db8::1/129"},
		"2001:db8::1/0":                 {"[]", "name the interface"},
		"":                              {"[]", "neither an interface nor an address"},
		"# lan0":                        {"[]", "neither an interface nor an address"},
		"averyveryverylongname":         {"[]", "neither an interface nor an address"},
		"lan0\x00":                      {"[]", "neither an interface nor an address"},
	} {
		d := newDraft(machine{})
		d.takeConf("f", "listening_ip = "+value+" \n")
		if got := fmt.Sprint(d.LANs); got != want.lans {
			t.Errorf("%q: %s, want %s", value, got, want.lans)
		}
		demandWarnings(t, value, d.Warnings, want.warning)
		again := newDraft(machine{})
		for _, lan := range d.LANs {
			again.takeConf("f", "listening_ip="+lan.String())
		}
		if fmt.Sprint(again.LANs) != want.lans || len(again.Warnings) > 0 {
			t.Errorf("%q is reported as %v, which is read as %v, %q", value, d.LANs, again.LANs, again.Warnings)
		}
	}
}

// TestComments looks for comments behind values: in names a # is a character.
func TestComments(t *testing.T) {
	for line, want := range map[string]struct{ report, warning string }{
		"http_port=5000 # a":            {"http_port=5000", `"# a" is taken as a comment`},
		"http_port=5000\t#a # b":        {"http_port=5000", `"#a # b" is taken as a comment`},
		"http_port=5000#a":              {"http_port=0", `invalid number "5000#a"`},
		"ext_ifname=wan0 # the WAN":     {"ext_ifname=wan0", "is taken as a comment"},
		"ext_ip= # none":                {"ext_ip=", "is taken as a comment"},
		"enable_natpmp=yes # a":         {"enable_natpmp=yes", "is taken as a comment"},
		"secure_mode=no # a":            {"secure_mode=no", "is taken as a comment"},
		"lease_file=/a#b":               {"lease_file=/a#b", ""},
		"presentation_url=http://a/#b":  {"presentation_url=http://a/#b", ""},
		"friendly_name=Router #1":       {"friendly_name=Router #1", ""},
		"serial=#1 #2":                  {"serial=#1 #2", ""},
		"enable_natpmp=\"yes\"":         {"enable_natpmp=no", `"\"yes\"" is taken as no`},
		"ext_ifname2=\"wan1\"":          {"ext_ifname2=\"wan1\"", "cannot be used in firewall rules"},
		"ext_ifname2=-j":                {"ext_ifname2=-j", "cannot be used in firewall rules"},
		"ext_ifname2=eth3:2":            {"ext_ifname2=eth3", "all of eth3 is used"},
		"ext_ifname2=eth1.20@a":         {"ext_ifname2=eth1.20@a", ""},
		"HTTP_PORT=5000":                {"http_port=0", `unknown setting "HTTP_PORT"`},
		"http_port 5000":                {"http_port=0", "neither a setting"},
		"http_port\x00=5000":            {"http_port=0", "unknown setting"},
		"http_port=1\nhttp_port = 5000": {"http_port=5000", ""},
	} {
		c, err := parseConf(t, minimal+line+"\n")
		if err != nil || !strings.Contains(c.String(), "\n"+want.report+"\n") && !strings.HasPrefix(c.String(), want.report+"\n") {
			t.Errorf("%q: %v, want %q in\n%v", line, err, want.report, c)
			continue
		}
		demandWarnings(t, line, c.Warnings, want.warning)
	}
}

// TestCauseBeforeConsequence demands that an error of settings names what could
// not be used before what is missing because of it, however much else is wrong.
func TestCauseBeforeConsequence(t *testing.T) {
	rubbish := strings.Repeat("rubbish\n", 2*mostWarnings)
	for text, want := range map[string]struct{ cause, missing string }{
		"ext_ifname=a/b\nlistening_ip=lan0\n":                                   {"f:1: ext_ifname: invalid interface name \"a/b\"", "no external interface"},
		"ext_ifname=wan0\nlistening_ip=lan0/33\n":                               {"f:2: listening_ip: \"lan0/33\": mask", "no listening interface"},
		"ext_ifname=wan0\nlistening_ip=192.168.1.300\n":                         {"f:2: listening_ip: \"192.168.1.300\" is neither", "no listening interface"},
		minimal + "ext_perform_stun=yes\n":                                      {"f:4: ext_perform_stun=yes needs", "set ext_stun_host"},
		minimal + "ext_ip=11.22.33.44\next_stun_host=s\next_perform_stun=yes\n": {"f:4: the announced address is 11.22.33.44", "/f:6: ext_perform_stun: remove"},
		rubbish + "ext_ifname=wan0\nlistening_ip=lan/0/0":                       {"f:102: listening_ip: ", "no listening interface"},
	} {
		_, err := testMachine(t).parse([]string{"-f", write(t, "f", text)})
		if err == nil {
			t.Errorf("%q can be used", text)
			continue
		}
		cause, missing := strings.Index(err.Error(), want.cause), strings.Index(err.Error(), want.missing)
		if cause < 0 || missing < cause {
			t.Errorf("%.40q: error %q, want %q before %q", text, err, want.cause, want.missing)
		}
		for _, line := range strings.Split(err.Error(), "\n") {
			if !strings.HasPrefix(line, "miniupnpd: ") {
				t.Errorf("%.40q: line %q of the error", text, line)
			}
		}
	}
}

func TestCauseInRC(t *testing.T) {
	for text, want := range map[string]struct{ cause, missing string }{
		someService + "EXTIF=a/b\n":                                 {"rc.conf: EXTIF: invalid interface name \"a/b\"", "no external interface"},
		someService + "INTIF=none\n":                                {"rc.conf: UPNP_LISTEN: INTIF is not served: INTIF=\"none\" INTIP=", "no listening interface"},
		someService + "INTIF=eth1/33\n":                             {"rc.conf: UPNP_LISTEN: \"eth1/33\": mask", "no listening interface"},
		someService + "UPNP_EXT_IP=11.22.33.44\nUPNP_STUN_HOST=s\n": {"rc.conf: UPNP_EXT_IP: the announced address is 11.22.33.44", "rc.conf: UPNP_STUN_HOST: ext_perform"},
		someService + "UPNP_LISTEN=eth1 UPNP_STUN_HOST=:":           {"rc.conf: UPNP_LISTEN: invalid word \"eth1\"", "no listening interface"},
	} {
		_, err := parseRC(t, text)
		if err == nil || !strings.Contains(err.Error(), want.cause) || strings.Index(err.Error(), want.missing) < strings.Index(err.Error(), want.cause) {
			t.Errorf("%q: error %v, want %q before %q", text, err, want.cause, want.missing)
		}
	}
}

// TestRCOfOtherEditors reads an rc.conf with other ends of lines, and one with
// the mark of UTF-8, as the one that the shell wants.
func TestRCOfOtherEditors(t *testing.T) {
	const text = someService + "\nif [ -n \"$EXTIF\" ]; then\n  UPNP_HTTP_PORT=5001\nfi\nUPNP_FRIENDLY_NAME='a\nb c'\nUPNP_SERIAL='d e'\nnonsense\n"
	want, err := parseRC(t, text)
	if err != nil || want.HTTPPort != 5001 || len(want.Warnings) != 2 {
		t.Fatalf("%v, %v", err, want)
	}
	place := func(c *Config) string { return c.Warnings[0][strings.LastIndex(c.Warnings[0], "/"):] }
	for name, form := range map[string]string{
		"CRLF": strings.ReplaceAll(text, "\n", "\r\n"), "CR": strings.ReplaceAll(text, "\n", "\r"),
		"mark": byteOrderMark + text, "mark and CRLF": byteOrderMark + strings.ReplaceAll(text, "\n", "\r\n"),
	} {
		got, err := parseRC(t, form)
		if err != nil || place(got) != place(want) {
			t.Errorf("%s: %v, %v", name, err, got)
			continue
		}
		got.Warnings = want.Warnings
		if got.String() != want.String() {
			t.Errorf("%s:\n%v\nwant\n%v", name, got, want)
		}
	}
}

// FuzzForms reads a file in other forms: each is the plain one, or less.
func FuzzForms(f *testing.F) {
	for _, seed := range []string{minimal, "allow 1-2 10.0.0.0/8 3\ndeny 0-65535 0.0.0.0/0 0-65535\n", "listening_ip=lan0 lan1 # a\n\n#x\nhttp_port= 5\n", "a\r\r\nb=\r"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "\r") || strings.HasPrefix(text, byteOrderMark) {
			return
		}
		read := func(form string) *draft {
			d := newDraft(machine{})
			d.takeConf("f", form)
			return d
		}
		want := read(text).String()
		for _, form := range []string{strings.ReplaceAll(text, "\n", "\r\n"), strings.ReplaceAll(text, "\n", "\r"), byteOrderMark + text, text + "\n"} {
			if got := read(form).String(); got != want {
				t.Errorf("%q is read as\n%s\nand %q as\n%s", form, got, text, want)
			}
		}
	})
}

// TestPlaces asks where settings stand that only turn out later to be of no use.
func TestPlaces(t *testing.T) {
	conf, rc := write(t, "f", "ext_ifname=wan0\n\nlistening_ip=lan0/24 192.168.1.1\next_ifname6=sit1\n"), write(t, "rc.conf", someService)
	for args, places := range map[string]map[string]string{
		"-f " + conf: {
			"ext_ifname": conf + ":1: ", "listening_ip=lan0/24": conf + ":3: ", "listening_ip=192.168.1.1/24": conf + ":3: ",
			"ext_ifname6": conf + ":4: ", "ext_ifname2": "", "listening_ip=lan0": "",
		},
		"-f " + conf + " -i eth0 -a br0": {"ext_ifname": "option -i: ", "listening_ip=br0": "option -a: ", "listening_ip=lan0/24": conf + ":3: "},
		"-c " + rc:                       {"ext_ifname": rc + ": EXTIF: ", "listening_ip=eth1": rc + ": UPNP_LISTEN: "},
	} {
		c, err := testMachine(t).parse(strings.Fields(args))
		if err != nil {
			t.Fatal(err)
		}
		for key, want := range places {
			if got := c.Place(key); got != want {
				t.Errorf("%s: %s stands at %q, want %q", args, key, got, want)
			}
		}
	}
}

// TestMovedSettingsAreTheSame moves settings to other lines.
func TestMovedSettingsAreTheSame(t *testing.T) {
	path := write(t, "f", minimal)
	was, err := testMachine(t).parse([]string{"-f", path})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("# moved\n"+minimal), 0o600); err != nil {
		t.Fatal(err)
	}
	if is, err := testMachine(t).parse([]string{"-f", path}); err != nil || !was.SameService(is) {
		t.Errorf("%v: another service because of other lines", err)
	}
}

// TestListeningOnUplinks listens where the uplink is, which is done, and said.
func TestListeningOnUplinks(t *testing.T) {
	for text, want := range map[string]string{
		"ext_ifname=wan0\nlistening_ip=wan0\n":                     "f:2: listening_ip: wan0 is an uplink as well",
		"ext_ifname=ppp+\nlistening_ip=lan0\nlistening_ip=ppp1/24": "f:3: listening_ip: ppp1/24 is an uplink as well",
		"ext_ifname=wan0\nlistening_ip=sit1\next_ifname6=sit1\n":   "f:2: listening_ip: sit1 is an uplink as well",
		"ext_ifname=ppp+\nlistening_ip=pp1\n":                      "",
		"ext_ifname=wan0\nlistening_ip=wan0.20 192.168.1.1\n":      "",
		"ext_ifname=wan\nlistening_ip=wan0\n":                      "",
	} {
		c, err := testMachine(t).parse([]string{"-f", write(t, "f", text)})
		if err != nil {
			t.Fatal(err)
		}
		demandWarnings(t, text, c.Warnings, want)
	}
}
