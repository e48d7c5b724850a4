package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPIDFileOfSettingsThatCannotBeUsed(t *testing.T) {
	const usual = "/var/run/miniupnpd.pid"
	conf := filepath.Join(t.TempDir(), "conf")
	if err := os.WriteFile(conf, []byte("pid_file=/run/file.pid\nenable_upnp=yes\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ args, want string }{
		{"-i", usual},
		{"-c /nowhere", usual},
		{"-f /nowhere -P /run/other.pid", "/run/other.pid"},
		{"-f " + conf, "/run/file.pid"},
		{"-f conf", "/run/file.pid"},
		{"-f conf -P other.pid", filepath.Join(filepath.Dir(conf), "other.pid")},
		{"-f " + conf + " -P /run/other.pid", "/run/other.pid"},
		{"-a eth1/99 -P /run/other.pid -f " + conf, "/run/other.pid"},
		{"-x -P /run/other.pid", "/run/other.pid"},
		{"-x -P", usual},
		{"-c /nowhere -t", ""},
		{"-t -x", ""},
	} {
		args := strings.Fields(tt.args)
		if c, err := Parse(args, "/"); err == nil {
			t.Errorf("%s: can be used: %v", tt.args, c)
		}
		if got := PIDFile(args, filepath.Dir(conf)); got != tt.want {
			t.Errorf("%s: pid file %q, want %q", tt.args, got, tt.want)
		}
	}
}
