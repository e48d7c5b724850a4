package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// attempts are what a program must not achieve in the daemon's place. The folder is
// that of AstLinux's /mnt/kd. Outside of it none of them changes anything, should it
// succeed: files are opened, but not written.
func attempts(kd string) map[string]func() error {
	open := func(path string, flags int) func() error {
		return func() error {
			f, err := os.OpenFile(path, flags, 0o755)
			if err != nil {
				return err
			}
			return f.Close()
		}
	}
	read := func(path string) func() error { return open(path, os.O_RDONLY) }
	write := func(path string) func() error { return open(path, os.O_WRONLY) }
	create := func(path string) func() error {
		return func() error { return firstError(open(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL), removal(path)) }
	}
	run := func(path string, args ...string) func() error {
		return func() error { return exec.Command(path, args...).Run() }
	}
	script := filepath.Join(kd, "upnp", "upnp.leases.script")
	return map[string]func() error{
		"read /etc/shadow":            read("/etc/shadow"),
		"read a key":                  readText(filepath.Join(kd, "ssh_keys", "id")),
		"read the settings":           readText(filepath.Join(kd, "rc.conf.d", "gui.network.conf")),
		"read raw memory":             read("/dev/mem"),
		"write rc.elocal":             write(filepath.Join(kd, "rc.elocal")),
		"make an rc.local":            create(filepath.Join(kd, "rc.local")),
		"write the crontab":           write(filepath.Join(kd, "crontabs", "root")),
		"write /etc/profile":          write("/etc/profile"),
		"make a library":              create("/usr/lib/libevil.so"),
		"write iptables":              write("/usr/sbin/iptables"),
		"set core_pattern":            write("/proc/sys/kernel/core_pattern"),
		"run a shell":                 run("/bin/sh", "-c", "true"),
		"run busybox":                 run("/bin/busybox", "true"),
		"run env":                     run("/usr/bin/env"),
		"use a loader":                run("/lib64/ld-linux-x86-64.so.2", "/bin/sh", "-c", "true"),
		"run a script of its own":     func() error { return firstError(makeScript(script), run(script)) },
		"leave a link for root":       func() error { return firstError(makeLink(script+".link"), removal(script+".link")) },
		"connect to another's socket": func() error { _, err := net.Dial("unix", filepath.Join(kd, "run", "asterisk.ctl")); return err },
		"leave the root":              read("/proc/1/root/etc/shadow"),
		"use the root of a thread":    readOneOf("/proc/self/task/*/root/etc/shadow", "/proc/self/task/*/cwd/etc/shadow"),
		"mount": func() error {
			return firstError(mountOn(kd), func() error { return unix.Unmount(kd, unix.MNT_DETACH) })
		},
		"run from memory": func() error { _, err := unix.MemfdCreate("program", 0); return err },
	}
}

// readOneOf opens the files that match patterns until one can be read.
func readOneOf(patterns ...string) func() error {
	return func() error {
		err := fs.ErrNotExist
		for _, pattern := range patterns {
			found, _ := filepath.Glob(pattern)
			for _, path := range found {
				if _, err = os.ReadFile(path); err == nil {
					return nil
				}
			}
		}
		return err
	}
}

func removal(path string) func() error { return func() error { return os.Remove(path) } }

func makeLink(path string) func() error {
	return func() error { return os.Symlink("/etc/profile", path) }
}

func makeScript(path string) func() error {
	return func() error { return os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755) }
}

func mountOn(path string) func() error {
	return func() error { return unix.Mount("none", path, "tmpfs", 0, "") }
}

// readText reads a file that is covered by an empty one if it is.
func readText(path string) func() error {
	return func() error {
		text, err := os.ReadFile(path)
		if err == nil && len(text) == 0 {
			err = errors.New("it is covered")
		}
		return err
	}
}

func firstError(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// attack prints which attempts succeed, and what goes wrong with its own files.
func attack(args []string) int {
	enter()
	return tryAttempts(args)
}

// attackNamespace is attack where the kernel has no Landlock.
func attackNamespace(args []string) int {
	places, err := placesOf(options())
	if err = errors.Join(err, enterNamespace(places), new(Report).dropCapabilities(keptCaps), noNewPrivileges()); err != nil {
		fmt.Println("cannot enter:", err)
	}
	return tryAttempts(args)
}

// attackLandlock is attack where the process may not have a mount namespace.
func attackLandlock(args []string) int {
	places, err := placesOf(options())
	if err = errors.Join(err, new(Report).dropCapabilities(keptCaps), noNewPrivileges(), restrictFiles(places)); err != nil {
		fmt.Println("cannot enter:", err)
	}
	return tryAttempts(args)
}

func tryAttempts(args []string) int {
	for name, attempt := range attempts(args[0]) {
		if err := attempt(); err == nil {
			fmt.Println("achieved:", name)
		}
	}
	for _, name := range args[1:] {
		err := firstError(
			func() error { return os.WriteFile(name+".new", []byte("mine"), 0o644) },
			func() error { return os.Rename(name+".new", name) },
			func() error { _, err := os.ReadFile(name); return err })
		if err != nil {
			fmt.Println("own file:", err)
		}
	}
	return 0
}

// mntKD makes a folder like AstLinux's /mnt/kd, with a socket of another program in a
// folder of its own.
func mntKD(t *testing.T) string {
	t.Helper()
	kd := t.TempDir()
	for name, text := range map[string]string{
		"rc.elocal": "#!/bin/sh\n", "crontabs/root": "", "ssh_keys/id": "secret", "rc.conf.d/gui.network.conf": "PASS=secret",
		"upnp/upnp.leases": "", "run/miniupnpd.pid": "1\n",
	} {
		path := filepath.Join(kd, name)
		if err := firstError(
			func() error { return os.MkdirAll(filepath.Dir(path), 0o755) },
			func() error { return os.WriteFile(path, []byte(text), 0o644) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("upnp/upnp.leases", filepath.Join(kd, "upnp.leases")); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(kd, "run", "asterisk.ctl"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return kd
}

// TestFilesOfOthers demands that a program in the daemon's place can neither read
// secrets nor write what root executes, nor change a kernel parameter, nor run a
// shell, and that it can replace its own files. Either of the two means is enough for
// most of it.
func TestFilesOfOthers(t *testing.T) {
	for role, unprevented := range map[string]string{
		"attack":           "",
		"attack namespace": "run from memory, leave a link for root", // there is no filter in this role
		"attack Landlock":  "run from memory, connect to another's socket",
	} {
		t.Run(role, func(t *testing.T) {
			kd := mntKD(t)
			leases, pid := filepath.Join(kd, "upnp.leases"), filepath.Join(kd, "run", "miniupnpd.pid")
			target := filepath.Join(kd, "upnp", "upnp.leases")
			out := runRole(t, with(exec.Command(confined, kd, target, pid), Options{Files: []string{leases, pid}}), role)
			for line := range strings.Lines(out) {
				achieved, is := strings.CutPrefix(strings.TrimSpace(line), "achieved: ")
				if is && (unprevented == "" || !strings.Contains(unprevented, achieved)) || strings.HasPrefix(line, "own file:") ||
					strings.HasPrefix(line, "cannot enter:") {
					t.Error(line)
				}
			}
			if role == "attack" && !strings.Contains(out, "namespace: <nil>\nlandlock: <nil>\n") {
				t.Error(out)
			}
			for _, name := range []string{leases, pid} {
				if text, err := os.ReadFile(name); err != nil || string(text) != "mine" {
					t.Errorf("%s has %q: %v", name, text, err)
				}
			}
			if entries, err := os.ReadDir(kd); err != nil || len(entries) != 7 {
				t.Errorf("%v: %v", entries, err)
			}
		})
	}
}

// TestAttemptsSucceedOutside shows that the attempts are real: outside of the sandbox
// those that do no harm succeed.
func TestAttemptsSucceedOutside(t *testing.T) {
	kd := mntKD(t)
	harmless := attempts(kd)
	for _, name := range []string{
		"read /etc/shadow", "read a key", "read the settings", "write rc.elocal", "make an rc.local", "write the crontab",
		"run a shell", "run env", "run a script of its own", "connect to another's socket", "run from memory",
	} {
		if err := harmless[name](); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWithoutNamespace demands that the process is confined otherwise where it may
// have no mount namespace, as in a container, or where iptables is a script.
func TestWithoutNamespace(t *testing.T) {
	script := filepath.Join(t.TempDir(), "iptables")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cmd  *exec.Cmd
		want string
	}{
		"a container": {exec.Command("setpriv", "--bounding-set=-sys_admin", confined), "namespace: unshare the mount namespace: operation not permitted\nlandlock: <nil>\n"},
		"a script":    {with(exec.Command(confined), Options{Programs: []string{script}}), "namespace: " + script + ": it is a script\nlandlock: " + script + ": it is a script\n"},
	} {
		t.Run(name, func(t *testing.T) {
			out := runRole(t, c.cmd, "status")
			for _, want := range []string{"filtered: true\n", c.want} {
				if !strings.Contains(out, want) {
					t.Errorf("%q is missing in\n%s", want, out)
				}
			}
		})
	}
}

// openTerminal prints the names of the terminals there are when it has opened one.
func openTerminal([]string) int {
	enter()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer master.Close()
	list, err := filepath.Glob("/dev/pts/[0-9]*")
	if err != nil || len(list) != 1 {
		fmt.Println(list, err)
		return 1
	}
	if _, err := os.OpenFile(list[0], os.O_RDWR|unix.O_NOCTTY, 0); !errors.Is(err, unix.EIO) { // it is locked, as it is at first
		fmt.Println(err)
		return 1
	}
	return 0
}

// TestTerminals demands that the process can open a pseudo-terminal, which the resident
// iptables-restore needs, and sees nobody else's.
func TestTerminals(t *testing.T) {
	other, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	runRole(t, exec.Command(confined), "pty")
}

// TestMountInAFolder demands that the process finds its file where another file system
// is mounted in the folder of another one.
func TestMountInAFolder(t *testing.T) {
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk")
	if err := firstError(
		func() error { return os.Mkdir(disk, 0o755) },
		func() error { return unix.Mount("tmpfs", disk, "tmpfs", 0, "") }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(disk, unix.MNT_DETACH) })
	leases := filepath.Join(disk, "upnp.leases")
	if err := firstError(
		func() error { return os.Mkdir(filepath.Join(disk, "upnp"), 0o755) },
		func() error { return os.Symlink("upnp/upnp.leases", leases) }); err != nil {
		t.Fatal(err)
	}
	o := Options{Files: []string{filepath.Join(dir, "pid"), leases}}
	out := runRole(t, with(exec.Command(confined, dir, filepath.Join(disk, "upnp", "upnp.leases")), o), "attack")
	text, err := os.ReadFile(leases)
	if err != nil || string(text) != "mine" || !strings.Contains(out, "namespace: <nil>") {
		t.Errorf("the file has %q: %v\n%s", text, err, out)
	}
	if err := unix.Unmount(disk, 0); err != nil {
		t.Fatalf("the disk cannot be unmounted: %v", err)
	}
	if list, err := os.ReadDir(disk); err != nil || len(list) > 0 {
		t.Errorf("below the disk there is %v: %v", list, err)
	}
}

func TestMountOf(t *testing.T) {
	for path, at := range map[string]string{"/proc": " /proc", "/proc/self/fd": " /proc", "/": " /"} {
		if got := MountOf(os.Getpid(), path); !strings.HasSuffix(got, at) {
			t.Errorf("%s is on %q", path, got)
		}
	}
	if got := MountOf(0, "/"); got != "" {
		t.Errorf("of no process: %q", got)
	}
}
