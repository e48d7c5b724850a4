package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCheck checks settings, and demands what is printed and the exit status.
func TestCheck(t *testing.T) {
	const usable = "ext_ifname=wan0\nlistening_ip=lan0\nuuid=3d3cec3a-8cf0-11e0-98ee-001a6bd2d07b\n"
	path := filepath.Join(t.TempDir(), "conf")
	for text, want := range map[string]struct {
		status         int
		out, complaint string
	}{
		usable:                                   {0, "listening_ip=lan0\n", ""},
		usable + "hidden=true\n":                 {1, "hidden=no\n", ""},
		usable + "secure_mode=NO\n":              {1, "# warning: " + path + ":4: secure_mode: \"NO\" is taken as yes; write yes or no\n", ""},
		usable + "ipv6_disable=1\n":              {1, "ipv6=auto\n", ""},
		usable + "ipv6=auto\nsandbox=no\n":       {0, "sandbox=no\n", ""},
		usable + "enable_natpmp=1\n":             {0, "enable_natpmp=yes\n", ""}, // of older versions
		usable + "unknown=1\n":                   {0, "# warning: " + path + ":4: unknown setting", ""},
		usable + "deny 0-65535 10.0.0.1/33 1\n":  {1, "deny 0-65535 0.0.0.0/0 1\n# warning: " + path + ":4: rule", ""},
		usable + "allow 1024-65535 host 1\n":     {1, "deny 0-65535 0.0.0.0/0 0-65535\n# warning: " + path + ":4: rule", ""},
		usable + "rule=deny interface lan9\n":    {1, "rule=deny\n# warning: " + path + ":4: rule", ""},
		usable + "lan_route=10.1.0.0/16 via x\n": {1, "# warning: " + path + ":4: lan_route", ""},
		usable + "ext_ports=80 http\n":           {1, "ext_ports=80\n", ""},
		"ext_ifname=wan0\nlistening_ip=lan0/a\n": {1, "", "miniupnpd: " + path + ":2: listening_ip: \"lan0/a\": mask \"a\" is neither 0 to 32 nor dotted\nminiupnpd: no listening interface"},
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, complaints bytes.Buffer
		status := run([]string{"-t", "-f", path}, &out, &complaints)
		if status != want.status || !strings.Contains(out.String(), want.out) || !strings.HasPrefix(complaints.String(), want.complaint) {
			t.Errorf("%q: status %d, printed\n%s\nand %q, want %+v", text, status, &out, &complaints, want)
		}
	}
}
