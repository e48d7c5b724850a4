package config

import (
	"strings"
	"testing"
)

// TestExternalPorts reads lists of ports, valid and not: what is left of an invalid one
// counts, and a list without a port never means every port.
func TestExternalPorts(t *testing.T) {
	for _, tt := range []struct{ text, want, warning string }{
		{"1234-1299 5000-5063", "1234-1299 5000-5063", ""},
		{"5000-5063,1234, 1235\t1236-1299", "1234-1299 5000-5063", ""},
		{"8080", "8080", ""},
		{"1-65535", "1-65535", ""},
		{"0-65535", "1-65535", ""},
		{"1-1024 1025-65535", "1-65535", ""},
		{"none", "none", ""},
		{"1234-1299 5063-5000", "1234-1299", `port range "5063-5000": first port is above last port`},
		{"1234-1299 5000-70000", "1234-1299", `"5000-70000" is neither a port nor a range of ports`},
		{"1234 - 1299", "1234 1299", `"-" is neither a port`},
		{"0 1234", "1234", "port 0 is not a port"},
		{"0", "none", "it names no port"},
		{"ports", "none", "it names no port"},
		{" , ", "none", "it names no port"},
		{"", "none", "it names no port"},
	} {
		byConf, err := parseConf(t, minimal+"ext_ports="+tt.text+"\n")
		if err != nil {
			t.Fatal(err)
		}
		byRC, err := parseRC(t, someService+`UPNP_EXT_PORTS="`+tt.text+`"`+"\n")
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []*Config{byConf, byRC} {
			if got := (externalPorts{&c.Policy.ExternalPorts}).String(); got != tt.want {
				t.Errorf("%q is %q, want %q", tt.text, got, tt.want)
			}
			warned := strings.Join(c.Warnings, "\n")
			if (warned == "") != (tt.warning == "") || !strings.Contains(warned, tt.warning) {
				t.Errorf("%q: warnings %q, want %q", tt.text, warned, tt.warning)
			}
			again, err := parseConf(t, c.String())
			if err != nil || again.String() != strings.ReplaceAll(c.String(), warningsOf(c), "") {
				t.Errorf("%q: -t prints settings that differ: %v\n%v\n%v", tt.text, err, c, again)
			}
		}
	}
	if c, err := parseRC(t, someService); err != nil || c.Policy.ExternalPorts != nil || len(c.Warnings) > 0 {
		t.Errorf("unset: %v, %v", err, c)
	}
}

// TestCommentsInPorts has comments in the variable's lines: no port in one is granted.
func TestCommentsInPorts(t *testing.T) {
	for text, want := range map[string]string{
		"1234-1299#5000\n # 6000-6063, 80\n\t7000\r\n": "1234-1299 7000",
		"1234,# 5000":        "1234",
		"# 1-9\n1234":        "1234",
		"none # until ready": "none",
	} {
		c, err := parseRC(t, someService+`UPNP_EXT_PORTS="`+text+`"`+"\n")
		if err != nil || len(c.Warnings) > 0 {
			t.Errorf("%q: %v, warnings %q", text, err, c.Warnings)
		}
		if got := (externalPorts{&c.Policy.ExternalPorts}).String(); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
	c, err := parseRC(t, someService+"UPNP_EXT_PORTS='# 1234'\n")
	if err != nil || !strings.Contains(strings.Join(c.Warnings, "\n"), "it names no port") {
		t.Errorf("only a comment: %v, warnings %q", err, c.Warnings)
	}
}

// TestExternalPortsForNobody warns of ports that the permission rules allow nobody.
func TestExternalPortsForNobody(t *testing.T) {
	const allowed, denied = "rule=allow host 192.168.50.10 external 1000-1100\n", "rule=deny\n"
	for _, tt := range []struct {
		text, rules string
		warns       bool
	}{
		{"80-90", "", false},
		{"80-90", denied, true},
		{"80-90", allowed + denied, true},
		{"80-90 1100-1200", allowed + denied, false},
		{"80-90", "rule=deny from upnp\n", false},
		{"none", denied, false},
		{"1-65535", denied, false},
	} {
		c, err := parseConf(t, minimal+"ext_ports="+tt.text+"\n"+tt.rules)
		if err != nil {
			t.Fatal(err)
		}
		if warned := strings.Contains(strings.Join(c.Warnings, "\n"), "allow nobody any of these ports"); warned != tt.warns {
			t.Errorf("%q with %q: warnings %q", tt.text, tt.rules, c.Warnings)
		}
	}
	c, err := parseRC(t, someService+`UPNP_EXT_PORTS="80"`+"\n")
	if err != nil || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "UPNP_EXT_PORTS: ext_ports: the permission rules allow nobody") {
		t.Errorf("a low port with AstLinux's rules: %v, warnings %q", err, c.Warnings)
	}
}

// warningsOf returns the warnings at the end of what -t prints.
func warningsOf(c *Config) string {
	_, warnings, _ := strings.Cut(c.String(), "# warning")
	if warnings == "" {
		return ""
	}
	return "# warning" + warnings
}
