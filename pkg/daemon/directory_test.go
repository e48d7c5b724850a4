package daemon_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
)

// TestDaemonLeavesItsDirectory starts the daemon in a folder, with relative paths, in the
// background and in the foreground, with and without the sandbox: no process of it stays
// in the folder, the files are those of the folder, and the settings are still found there
// when they are read again.
func TestDaemonLeavesItsDirectory(t *testing.T) {
	t.Parallel()
	for _, sandbox := range []string{"yes", "no"} {
		for _, more := range [][]string{nil, {"-d"}} {
			t.Run(fmt.Sprint("sandbox=", sandbox, more), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, "nft", netlab.Layout{})
				r.installed()
				if err := os.WriteFile(r.path("hook"), []byte("#!/bin/sh\npwd > "+r.path("told")+"\n"), 0o755); err != nil {
					t.Fatal(err)
				}
				configure := func(more ...string) {
					r.configure(t, append(more, "lease_file=./upnp.leases", "control_socket=ctl", "sandbox="+sandbox, "notify_cmd="+r.path("hook"))...)
				}
				configure()
				r.startInFolder(t, more...)
				r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
				await(t, "the lease", func() bool { return strings.HasPrefix(r.leases(t)[0], "TCP:4000:") })
				await(t, "the program", func() bool { text, _ := os.ReadFile(r.path("told")); return string(text) == "/\n" })
				r.demandDirectory(t)
				configure("max_lifetime=200")
				r.kill(syscall.SIGHUP)
				await(t, "the new settings", func() bool {
					return r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour)).Lifetime == 200*time.Second
				})
				r.demandDirectory(t)
			})
		}
	}
}

// startInFolder starts the daemon in the rig's folder, with relative paths.
func (r *rig) startInFolder(t *testing.T, more ...string) {
	t.Helper()
	cmd := r.Router.Command(r.program, append(more, "-f", "miniupnpd.conf", "-P", "pid")...)
	cmd.Dir, cmd.Env = r.dir, r.env
	log, err := os.Create(r.path("log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if ended := cmd.Wait; slices.Contains(more, "-d") {
		go ended()
		await(t, "the daemon to listen", func() bool { return strings.Contains(r.log(t), "Listening for NAT-PMP/PCP") })
	} else if err := ended(); err != nil {
		t.Fatalf("the daemon does not start: %v: %s", err, r.log(t))
	}
}

// demandDirectory demands that the daemon and all its children have the root as their
// working directory.
func (r *rig) demandDirectory(t *testing.T) {
	t.Helper()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", r.pid()))
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range append(strings.Fields(string(children)), fmt.Sprint(r.pid())) {
		dir, err := os.Stat(filepath.Join("/proc", pid, "cwd"))
		root, rootErr := os.Stat(filepath.Join("/proc", pid, "root")) // the daemon may have one of its own
		comm, _ := os.ReadFile(filepath.Join("/proc", pid, "comm"))
		if err := errors.Join(err, rootErr); err != nil || !os.SameFile(dir, root) {
			t.Errorf("%s is not in its root: %v", strings.TrimSpace(string(comm)), err)
		}
	}
}
