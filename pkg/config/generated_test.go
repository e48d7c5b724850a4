package config

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// stockConf is what AstLinux's init script writes of the uplinks.
const stockConf = "## Auto generated file. Do not edit.\n" + minimal

// TestSecondUplinkOfAstLinux reads the miniupnpd.conf of AstLinux's init script, with
// the router's rc.conf beside it.
func TestSecondUplinkOfAstLinux(t *testing.T) {
	const first = "## Auto-generated file, do not edit!!\n"
	for _, tt := range []struct {
		what, rc string // "": there is no rc.conf
		conf     string // what more the miniupnpd.conf says
		want     string // the uplinks
		warning  string // a part of it
	}{
		{"two uplinks", first + "EXTIF=\"eth0\"\nEXT2IF=\"eth9\"\n", "", "eth0 eth9", ""},
		{"as the shell has it", first + "FAILOVER=ppp\nEXT2IF=${FAILOVER}0\n", "", "eth0 ppp0", ""},
		{"one uplink", first + "EXTIF=eth0\n", "", "eth0", ""},
		{"an empty one", first + "EXTIF=eth0\nEXT2IF=\"\"\n", "", "eth0", ""},
		{"the same", first + "EXT2IF=eth0\n", "", "eth0", ""},
		{"one in both files", first + "EXT2IF=eth9\n", "ext_ifname2=eth5\n", "eth0 eth5", ""},
		{"one in the miniupnpd.conf, and an error", first + "if\n", "ext_ifname2=eth5\n", "eth0 eth5", ""},
		{"one in the miniupnpd.conf", first, "ext_ifname2=eth5\n", "eth0 eth5", ""},
		{"another first line", "# rc.conf\n" + first + "EXT2IF=eth9\n", "", "eth0", ""},
		{"the line without an end", strings.TrimSuffix(first, "\n"), "", "eth0", ""},
		{"more in the line", strings.TrimSuffix(first, "\n") + " EXT2IF\nEXT2IF=eth9\n", "", "eth0", ""},
		{"an empty file", "\n", "", "eth0", ""},
		{"no file", "", "", "eth0", ""},
		{"an error of syntax", first + "EXT2IF=eth9\nif\n", "", "eth0", "cannot read EXT2IF, mappings work on the first uplink only: "},
		{"a file that ends the shell", first + "EXT2IF=eth9\nexit 1\n", "", "eth0", "cannot read EXT2IF"},
		{"an address", first + "EXT2IF=11.22.33.44\n", "", "eth0", "EXT2IF: \"11.22.33.44\" is an address"},
		{"two words", first + "EXT2IF='eth8 eth9'\n", "", "eth0", "EXT2IF: invalid interface name"},
		{"other settings", first + "EXT2IF=eth9\nEXTIF=eth7\nUPNP_HTTP_PORT=9\nUPNP_LISTEN=INTIF\nUPNP_ENABLE_NATPMP=yes\nIPV6=no\n", "", "eth0 eth9", ""},
	} {
		t.Run(tt.what, func(t *testing.T) {
			m := testMachine(t)
			m.generated = write(t, "miniupnpd.conf", stockConf+tt.conf)
			if tt.rc != "" {
				m.rc = write(t, "rc.conf", tt.rc)
			}
			got, err := m.parse([]string{"-f", m.generated})
			if err != nil {
				t.Fatal(err)
			}
			if uplinks := strings.Join(got.WAN, " "); uplinks != tt.want || got.WAN6 != "eth0" {
				t.Errorf("uplinks %s, and %s for IPv6, want %s", uplinks, got.WAN6, tt.want)
			}
			demandOneWarning(t, got.Warnings, tt.warning)
			other := write(t, "miniupnpd.conf", stockConf+tt.conf+"ext_ifname2="+strings.Join(got.WAN[1:], "")+"\n")
			if want, err := m.parse([]string{"-f", other}); err != nil || !want.SameService(got) {
				t.Errorf("%v: settings\n%v, want\n%v", err, got, want)
			}
		})
	}
}

// demandOneWarning demands a warning with this text in it, none for "".
func demandOneWarning(t *testing.T, warnings []string, text string) {
	t.Helper()
	if text == "" && len(warnings) > 0 || text != "" && (len(warnings) != 1 || !strings.Contains(warnings[0], text)) {
		t.Errorf("warnings %q, want %q", warnings, text)
	}
}

// TestSecondUplinkOfOthers reads no rc.conf for a miniupnpd.conf at another place, nor
// what is none.
func TestSecondUplinkOfOthers(t *testing.T) {
	m := testMachine(t)
	m.rc = write(t, "rc.conf", generatedLine+"EXT2IF=eth9\n")
	conf := write(t, "miniupnpd.conf", stockConf)
	m.generated = conf + ".other"
	for _, args := range [][]string{{"-f", conf}, {"-i", "eth0", "-f", conf}} {
		if c, err := m.parse(args); err != nil || !slices.Equal(c.WAN, []string{"eth0"}) {
			t.Errorf("%q: %v, %v", args, c, err)
		}
	}
	m.generated, m.rc = conf, t.TempDir()
	c, err := m.parse([]string{"-f", conf})
	if err != nil {
		t.Fatal(err)
	}
	demandOneWarning(t, c.Warnings, m.rc+": cannot read EXT2IF")
	m.rc, m.shell = write(t, "rc.conf", generatedLine+"EXT2IF=eth9\n"), []string{"/nowhere/sh"}
	if c, err = m.parse([]string{"-f", conf}); err != nil {
		t.Fatal(err)
	}
	demandOneWarning(t, c.Warnings, m.rc+": cannot read EXT2IF")
}

// TestSourceOfSecondUplink has the report name where the second uplink is set, and
// mean the same as the files.
func TestSourceOfSecondUplink(t *testing.T) {
	m := testMachine(t)
	m.generated = write(t, "miniupnpd.conf", stockConf)
	m.rc = write(t, "rc.conf", generatedLine+"EXT2IF=eth9\n")
	report := func(args ...string) (string, *Config) {
		c, err := m.parse(append([]string{"-f", m.generated, "-t"}, args...))
		if err != nil {
			t.Fatal(err)
		}
		return c.String(), c
	}
	text, c := report()
	if want := "\n# from " + m.rc + ": EXT2IF\next_ifname2=eth9\n"; !strings.Contains(text, want) {
		t.Errorf("%s\nlacks %q", text, want)
	}
	again, err := parseConf(t, text)
	if err != nil || !again.SameService(c) || len(again.Warnings) > 0 {
		t.Errorf("the report means something else: %v, %v", again, err)
	}
	for _, rest := range []string{"", "EXT2IF=eth0\n", "EXT2IF=1.2.3.4\n"} {
		if err := os.WriteFile(m.rc, []byte(generatedLine+rest), 0o600); err != nil {
			t.Fatal(err)
		}
		if text, _ = report(); strings.Contains(text, "# from") {
			t.Errorf("%q: no second uplink, and yet:\n%s", rest, text)
		}
	}
}

// TestPathsOfAstLinux pins the paths of the file that the init script writes, and of
// the router's settings.
func TestPathsOfAstLinux(t *testing.T) {
	if m := thisMachine("/"); m.generated != "/tmp/etc/miniupnpd.conf" || m.rc != "/etc/rc.conf" {
		t.Errorf("%q and %q", m.generated, m.rc)
	}
}
