package config

import (
	"os"
	"path/filepath"
	"testing"
)

// TestRelativePaths demands that relative paths in arguments and files start from one
// directory, and that others stay as they are.
func TestRelativePaths(t *testing.T) {
	m := testMachine(t)
	conf := write(t, "miniupnpd.conf", minimal+"lease_file=a/leases\ndhcp_leases=../dhcp\ncontrol_socket=\npid_file=/run/pid\n")
	rc := write(t, "rc.conf", someService+"UPNP_LEASE_FILE=leases\nUPNP_CONTROL_SOCKET=./ctl\n")
	for _, tt := range []struct {
		file, flag string
		more       []string
		want       [4]string // leases, DHCP leases, control socket, pid file
	}{
		{conf, "-f", nil, [4]string{"DIR/a/leases", "dhcp", "", "/run/pid"}},
		{conf, "-f", []string{"-P", "pid"}, [4]string{"DIR/a/leases", "dhcp", "", "DIR/pid"}},
		{rc, "-c", []string{"-P", "x/pid"}, [4]string{"DIR/leases", "/var/db/dnsmasq.leases", "DIR/ctl", "DIR/x/pid"}},
	} {
		m.dir = filepath.Dir(tt.file)
		for i, path := range tt.want {
			switch {
			case len(path) > 4 && path[:4] == "DIR/":
				tt.want[i] = m.dir + path[3:]
			case path == "dhcp":
				tt.want[i] = filepath.Join(filepath.Dir(m.dir), path)
			}
		}
		c, err := m.parse(append([]string{tt.flag, filepath.Base(tt.file)}, tt.more...))
		if err != nil {
			t.Fatal(err)
		}
		if got := [4]string{c.LeaseFile, c.DHCPLeases, c.ControlSocket, c.PIDFile}; got != tt.want {
			t.Errorf("%s %v: files %q, want %q", tt.flag, tt.more, got, tt.want)
		}
	}
}

// TestShellFileNamesOthers demands that a shell file finds others by a relative path from
// that directory, and that it can still be read if the directory has been removed.
func TestShellFileNamesOthers(t *testing.T) {
	m := testMachine(t)
	m.dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(m.dir, "more"), []byte("UPNP_MAX_TOTAL=7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-c", write(t, "rc.conf", someService+"[ ! -e more ] || . ./more\n")}
	if c, err := m.parse(args); err != nil || c.Policy.MaxTotal != 7 {
		t.Errorf("with another file: %v, %v", c, err)
	}
	if err := os.RemoveAll(m.dir); err != nil {
		t.Fatal(err)
	}
	if c, err := m.parse(args); err != nil || c.Policy.MaxTotal == 7 {
		t.Errorf("without the directory: %v, %v", c, err)
	}
}
