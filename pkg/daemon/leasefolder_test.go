package daemon_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
)

// stranger is a user without privileges.
const stranger = 12345

// TestLeaseFolders starts the daemon, in the sandbox, with its lease file in odd places:
// it serves in each, and either saves the leases or says what to do.
func TestLeaseFolders(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare func(dir string) error
		file    string // in the folder
		trouble string // ""; the leases are saved
	}{
		"missing folder":      {func(string) error { return nil }, "kd/upnp.leases", ""},
		"missing parent":      {func(string) error { return nil }, "mnt/kd/upnp.leases", "there is no folder %s/mnt/kd: make or mount it, then restart the daemon"},
		"link to a missing":   {func(dir string) error { return os.Symlink(dir+"/disk/file", dir+"/upnp.leases") }, "upnp.leases", ""},
		"own folder of other": {ownFolder(stranger), "upnp.leases", ""},
		"another's folder": {func(dir string) error {
			return errors.Join(os.Mkdir(dir+"/home", 0o755), os.Chown(dir+"/home", stranger, stranger), os.Symlink(dir+"/home/file", dir+"/upnp.leases"))
		}, "upnp.leases", "folder %s/home belongs to user 12345, and the daemon has given up the right to write there: run chown root %[1]s/home"},
		"a planted link": {func(dir string) error {
			return errors.Join(os.Mkdir(dir+"/tmp", 0o755), os.Chmod(dir+"/tmp", os.ModeSticky|0o777), os.Symlink(dir+"/file", dir+"/tmp/upnp.leases"),
				os.Lchown(dir+"/tmp/upnp.leases", stranger, stranger))
		}, "tmp/upnp.leases", "%s/tmp/upnp.leases belongs to user 12345"},
		"a link to itself": {func(dir string) error {
			return errors.Join(os.Mkdir(dir+"/kd", 0o755), os.Symlink("upnp.leases", dir+"/kd/upnp.leases"))
		}, "kd/upnp.leases", "%s/kd/upnp.leases is a link that leads back to itself, or through too many others: remove it"},
		"a folder for the new file": {func(dir string) error { return os.MkdirAll(dir+"/upnp/upnp.leases.new/x", 0o755) }, "upnp.leases",
			"folder %s/upnp/upnp.leases.new is in the place of a file of the daemon's: remove it"},
		"a folder for the new state": {func(dir string) error { return os.MkdirAll(dir+"/upnp/upnp.leases.state.new/x", 0o755) }, "upnp.leases",
			"folder %s/upnp/upnp.leases.state.new is in the place of a file of the daemon's: remove it"},
		"a folder for the link": {func(dir string) error { return os.MkdirAll(dir+"/upnp.leases.new/x", 0o755) }, "upnp.leases",
			"folder %s/upnp.leases.new is in the place of a file of the daemon's: remove it"},
		"a folder for the state": {func(dir string) error { return os.MkdirAll(dir+"/upnp/upnp.leases.state/x", 0o755) }, "upnp.leases",
			"folder %s/upnp/upnp.leases.state is in the place of a file of the daemon's: remove it"},
		"a folder for the file": {func(dir string) error { return os.Mkdir(dir+"/upnp.leases", 0o755) }, "upnp.leases", "%s/upnp.leases is not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "nft", netlab.Layout{})
			r.installed()
			if err := c.prepare(r.dir); err != nil {
				t.Fatal(err)
			}
			r.start(t, "lease_file="+r.path(c.file))
			r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
			if c.trouble != "" {
				want := "not saved: " + strings.Split(fmt.Sprintf(c.trouble, r.dir), "%!")[0]
				await(t, want, func() bool { out, status := r.ctl(t, "status"); return status == 4 && strings.Contains(out, want) })
				return
			}
			await(t, "the lease", func() bool {
				text, err := os.ReadFile(r.path(c.file))
				return err == nil && strings.HasPrefix(string(text), "TCP:4000:")
			})
			r.says(t, "status", 0, "mappings: 1 of 1 client")
		})
	}
}

// TestLeaseFolderIsRemoved removes the folder of the leases while the daemon runs: it
// says what to do, and that helps.
func TestLeaseFolderIsRemoved(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ sandbox, folder string }{
		"in the sandbox":             {"yes", "kd/upnp"},
		"its parent, in the sandbox": {"yes", "kd"},
		"without the sandbox":        {"no", "kd"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "nft", netlab.Layout{})
			r.installed()
			if err := os.Mkdir(r.path("kd"), 0o755); err != nil {
				t.Fatal(err)
			}
			settings := []string{"sandbox=" + c.sandbox, "lease_file=" + r.path("kd/upnp.leases")}
			r.start(t, settings...)
			if err := os.RemoveAll(r.path(c.folder)); err != nil {
				t.Fatal(err)
			}
			r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
			want := "folder " + r.path(c.folder) + ": make or mount it, then restart the daemon"
			await(t, want, func() bool { out, status := r.ctl(t, "status"); return status == 4 && strings.Contains(out, want) })
			r.stop(t, syscall.SIGTERM)
			if err := os.MkdirAll(r.path(c.folder), 0o755); err != nil {
				t.Fatal(err)
			}
			r.start(t, settings...)
			r.says(t, "status", 0, "mappings: ")
		})
	}
}

// ownFolder makes the folder of the files' own, with files, as another user's.
func ownFolder(user int) func(dir string) error {
	return func(dir string) error {
		files := filepath.Join(dir, "upnp", "upnp.leases")
		return errors.Join(os.Mkdir(filepath.Dir(files), 0o755), os.WriteFile(files, nil, 0o600), os.Symlink("upnp/upnp.leases", dir+"/upnp.leases"),
			os.Chown(files, user, user), os.Chown(filepath.Dir(files), user, user))
	}
}

// TestMountedLeaseFile mounts the lease file alone, as containers do: no file can take
// its place, and the daemon says what to do.
func TestMountedLeaseFile(t *testing.T) {
	t.Parallel()
	for _, sandbox := range []string{"yes", "no"} {
		t.Run("sandbox "+sandbox, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "nft", netlab.Layout{})
			r.installed()
			r.configure(t, "sandbox="+sandbox)
			if err := errors.Join(os.WriteFile(r.path("upnp.leases"), nil, 0o644), os.WriteFile(r.path("volume"), nil, 0o644)); err != nil {
				t.Fatal(err)
			}
			cmd := r.Router.Command("unshare", "-m", "sh", "-c", `mount --bind "$1" "$2" && shift 2 && exec "$@"`, "sh",
				r.path("volume"), r.path("upnp.leases"), r.program, "-f", r.path("miniupnpd.conf"), "-P", r.path("pid"))
			cmd.Env = r.env
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("the daemon does not start: %v: %s", err, out)
			}
			r.grant(t, mapping(natpmp.MapTCP, 4000, 4000, time.Hour))
			r.says(t, "status", 4, "leases: not saved: lease file "+r.path("upnp.leases")+" is mounted by itself and cannot be replaced: mount its folder instead")
		})
	}
}

// TestLateMount mounts a file system on the folder of the leases after the start, which
// the daemon does not see in the sandbox: the status says so until it is restarted.
func TestLateMount(t *testing.T) {
	t.Parallel()
	r := newRig(t, "nft", netlab.Layout{})
	r.installed()
	if err := os.Mkdir(r.path("kd"), 0o755); err != nil {
		t.Fatal(err)
	}
	r.configure(t, "lease_file="+r.path("kd/upnp.leases"))
	cmd := r.Router.Command("unshare", "-m", r.program, "-f", r.path("miniupnpd.conf"), "-P", r.path("pid"))
	cmd.Env = r.env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the daemon does not start: %v: %s", err, out)
	}
	r.says(t, "status", 0, "mappings: 0 of 0 clients")
	var helper string
	await(t, "the helper", func() bool { helper = children(r.pid())["igdd-helper"]; return helper != "" })
	mount := exec.Command("nsenter", fmt.Sprintf("--mount=/proc/%d/ns/mnt", pidOf(t, helper)), "mount", "-t", "tmpfs", "none", r.path("kd"))
	if out, err := mount.CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	r.says(t, "status", 4, "leases: not saved: the file system that has folder "+r.path("kd/upnp")+" was mounted after the start: restart the daemon")
	r.configure(t, "lease_file="+r.path("kd/upnp.leases"), "min_lifetime=240", "enable_upnp=yes")
	r.kill(syscall.SIGHUP)
	await(t, "a new instance, which says so as well", func() bool {
		out, status := r.ctl(t, "status")
		return status == 4 && strings.Contains(out, "UPnP") && strings.Contains(out, "was mounted after the start")
	})
}
