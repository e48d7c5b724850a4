package daemon_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
)

// rcConf writes an rc.conf, which only a shell can evaluate, and returns its path.
func (r *rig) rcConf(t testing.TB, more string) string {
	t.Helper()
	text := fmt.Sprintf(`EXTIF="wan0"
INTIF="lan0"
INTIP="%v"
INTNM="$(echo 255.255.255.0)"
UUID="3d3cec3a-8cf0-11e0-98ee-001a6bd2d07b"
UPNP_LISTEN="INTIF"
UPNP_ENABLE_NATPMP="yes"
UPNP_LEASE_FILE="%s"
UPNP_CONTROL_SOCKET="%s"
UPNP_SANDBOX="%s"
%s
`, netlab.RouterLAN.Addr(), r.path("upnp.leases"), r.path("ctl"), r.sandbox(), more)
	if err := os.WriteFile(r.path("rc.conf"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return r.path("rc.conf")
}

// TestRightsOfADaemon runs the daemon in a folder like AstLinux's /mnt/kd, and demands
// that it sees neither the files of others nor a shell, and still maps ports, saves
// leases, reads its settings again by the shell, and runs the notification program.
func TestRightsOfADaemon(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{})
		r.installed()
		for name, text := range map[string]string{
			"rc.elocal": "#!/bin/sh\n", "secret": "key", "upnp.leases": "",
			"hook": "#!/bin/sh\necho $UPNP_EVENT >> " + r.path("told") + "\n", "new": "#!/bin/sh\necho new $UPNP_EVENT >> " + r.path("told") + "\n",
		} {
			if err := os.WriteFile(r.path(name), []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		r.serve(t, "-c", r.rcConf(t, "UPNP_NOTIFY_CMD="+r.path("hook")))
		r.externalAddr(t)
		root := fmt.Sprintf("/proc/%d/root", r.pid())
		for _, path := range []string{"/etc/shadow", "/etc/passwd", "/bin/sh", "/usr/bin/env", "/root", "/home"} {
			if _, err := os.Stat(root + path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the daemon sees %s: %v", path, err)
			}
		}
		for _, name := range []string{"rc.elocal", "secret", "rc.conf"} {
			if text, err := os.ReadFile(root + r.path(name)); err == nil && len(text) > 0 {
				t.Errorf("the daemon reads %s: %q", name, text)
			}
		}
		r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
		await(t, "the lease", func() bool { return strings.HasPrefix(r.leases(t)[0], "TCP:4000:") })
		if to, err := os.Readlink(r.path("upnp.leases")); err != nil || to != filepath.Join("upnp", "upnp.leases") {
			t.Errorf("the lease file leads to %q: %v", to, err)
		}
		r.demandTold(t, "opened")

		r.rcConf(t, "UPNP_NOTIFY_CMD="+r.path("new"))
		r.kill(syscall.SIGHUP)
		await(t, "the new settings", func() bool { return strings.Count(r.log(t), "version ") == 2 })
		r.awaitServed(t)
		r.grant(t, mapping(natpmp.MapTCP, 4001, 4001, time.Hour))
		r.demandTold(t, "opened\nnew opened")

		r.rcConf(t, "UPNP_LEASE_FILE="+r.path("other.leases"))
		r.kill(syscall.SIGHUP)
		await(t, "word of the files", func() bool { return strings.Contains(r.log(t), "restart the daemon to use other files") })
		r.grant(t, mapping(natpmp.MapTCP, 4002, 4002, time.Hour))
	})
}

// demandTold demands what the notification programs have been told.
func (r *rig) demandTold(t testing.TB, want string) {
	t.Helper()
	await(t, fmt.Sprintf("the programs to be told %q", want), func() bool {
		text, _ := os.ReadFile(r.path("told"))
		return strings.TrimSpace(string(text)) == want
	})
}

// TestCapabilitiesOfAContainer starts the daemon with no other capabilities than those
// that it keeps anyway: it maps ports.
func TestCapabilitiesOfAContainer(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newRig(t, variant, netlab.Layout{})
		r.installed()
		r.configure(t)
		cmd := r.Router.Command("setpriv", "--inh-caps=-all", "--bounding-set=-all,+net_admin,+net_raw",
			r.program, "-f", r.path("miniupnpd.conf"), "-P", r.path("pid"))
		cmd.Env = r.env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("the daemon does not start: %v: %s", err, out)
		}
		r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
		await(t, "the lease", func() bool { return strings.HasPrefix(r.leases(t)[0], "TCP:4000:") })
	})
}
