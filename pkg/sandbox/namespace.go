package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// enterNamespace replaces the root folder of the process by one that has nothing but
// the places. That root is built in a mount namespace of its own.
//
// A mount namespace belongs to a thread, and other threads can only join it if none is
// started meanwhile, which Go's runtime does at any time. But a root folder belongs to
// all threads. So one thread makes the namespace and builds the root, and ends;
// another one makes the root that of all others. Without capabilities they do not get
// out of it again.
func enterNamespace(places []place) error {
	result := make(chan error)
	root := -1
	go func() {
		runtime.LockOSThread() // the thread ends with this goroutine, unless it is the first one of the process
		err := buildNamespace(places)
		if err == nil {
			root, err = keepNamespace()
		}
		if err == nil {
			detachOthers()
			err = changeRoot(root) // of this thread: others find it in /proc
		}
		result <- err
	}()
	if err := <-result; err != nil {
		return err
	}
	defer unix.Close(root)
	return changeRoot(root)
}

// changeRoot makes an open folder the root and the working directory of this thread
// and those that share them.
func changeRoot(root int) error {
	if err := errors.Join(unix.Fchdir(root), unix.Chroot(".")); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	return nil
}

// keepNamespace opens the new root, and keeps this thread's mount namespace when the
// thread has ended: its descriptor stays open.
func keepNamespace() (root int, err error) {
	namespace, err := unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open the mount namespace: %w", err)
	}
	if root, err = unix.Open(newRoot, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		unix.Close(namespace)
		return -1, fmt.Errorf("open the new root: %w", err)
	}
	return root, nil
}

// newRoot is where the new root folder is built: a folder that every system has. Its
// content is covered meanwhile.
const newRoot = "/tmp"

// Flags of the new root and of all that is mounted in it. Files on it can neither be
// run nor grant privileges, and device files on it cannot be used.
const restricted = unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV

// buildNamespace makes a mount namespace for this thread and replaces its root.
// Mounts of the system still reach it, but not the other way round.
func buildNamespace(places []place) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare the mount namespace: %w", err)
	}
	if err := mount("", "/", "", unix.MS_REC|unix.MS_SLAVE); err != nil {
		return err
	}
	sources, err := openSources(places)
	defer closeSources(sources)
	if err != nil {
		return err
	}
	if err := mount("tmpfs", newRoot, "tmpfs", restricted); err != nil {
		return err
	}
	for i, p := range places {
		if err := show(p, sources[i]); err != nil {
			return err
		}
	}
	return errors.Join(mountTerminals(), mask(places), restrict(newRoot, unix.MS_RDONLY|restricted))
}

// openSources opens what the places show, before the new root covers any of it.
func openSources(places []place) (sources []int, err error) {
	for _, p := range places {
		fd := -1
		if p.link == "" {
			if fd, err = unix.Open(p.path, unix.O_PATH|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0); err != nil {
				return sources, fmt.Errorf("open %s: %w", p.path, err)
			}
		}
		sources = append(sources, fd)
	}
	return sources, nil
}

func closeSources(sources []int) {
	for _, fd := range sources {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// mountTerminals gives the new root pseudo-terminals of its own. In the kernel, the
// multiplexer finds them by its place in their file system, not by a mount of its own.
func mountTerminals() error {
	const terminals, multiplexer = newRoot + "/dev/pts", newRoot + "/dev/ptmx"
	info, err := os.Lstat(multiplexer)
	if err != nil {
		return nil // the system has none
	}
	if err := unix.Mount("devpts", terminals, "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=0600,ptmxmode=0600"); err != nil {
		return fmt.Errorf("mount %s: %w", terminals, err)
	}
	if info.Mode().Type() == fs.ModeSymlink {
		return nil
	}
	return mount(terminals+"/ptmx", multiplexer, "", unix.MS_BIND)
}

// detachOthers removes the other mounts from the namespace of this thread, so that
// the system can unmount them. It leaves the root, which an initramfs does not allow
// to remove. What cannot be removed does no harm: no process can reach it.
func detachOthers() {
	for _, path := range slices.Backward(mountPoints()) {
		if path != "/" && !isBelow(path, newRoot) && !isBelow(newRoot, path) {
			unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		}
	}
}

// mountPoints returns where something is mounted in this thread's namespace.
func mountPoints() (list []string) {
	text, _ := os.ReadFile("/proc/thread-self/mountinfo")
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 4 {
			list = append(list, mountPath(fields[4]))
		}
	}
	return list
}

// MountOf returns which mount a path is on for a process outside of the sandbox: its
// number and its place; "": that cannot be known. It works in the sandbox too.
func MountOf(pid int, path string) (mount string) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	longest := ""
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		if at := mountPath(fields[4]); isBelow(path, at) && len(at) >= len(longest) { // of several at one place the last one counts
			longest, mount = at, fields[0]+" "+at
		}
	}
	return mount
}

// mountPath decodes a path of mountinfo, which has some characters in octal (proc(5)).
func mountPath(encoded string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(encoded)
}

func mount(source, target, kind string, flags uintptr) error {
	if err := unix.Mount(source, target, kind, flags, ""); err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	return nil
}

// show shows a place in the new root.
func show(p place, source int) error {
	target := newRoot + p.path
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	if p.link != "" {
		if err := os.Symlink(p.link, target); !errors.Is(err, fs.ErrExist) { // it is in a folder that is shown
			return err
		}
		return nil
	}
	from := fmt.Sprintf("/proc/self/fd/%d", source)
	if err := makeTarget(from, target); err != nil {
		return err
	}
	if err := unix.Mount(from, target, "", unix.MS_BIND, ""); errors.Is(err, unix.EINVAL) {
		return bindTree(from, target, p.flags())
	} else if err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	return restrict(target, p.flags())
}

// bindTree mounts a folder with all that is mounted in it: in a user namespace, what
// is covered by mounts of the system must stay so.
func bindTree(from, target string, flags uintptr) error {
	if err := mount(from, target, "", unix.MS_BIND|unix.MS_REC); err != nil {
		return err
	}
	attr := unix.MountAttr{Attr_set: uint64(flags)} // the values of MOUNT_ATTR_ and MS_ are the same
	if err := unix.MountSetattr(unix.AT_FDCWD, target, unix.AT_RECURSIVE, &attr); err != nil {
		return fmt.Errorf("restrict %s: %w", target, err)
	}
	return nil
}

// restrict adds flags to those that a mount has: the kernel may refuse to clear one. A
// place that is to be writable is made so, in case its file system is read-only now and
// not later.
func restrict(target string, flags uintptr) error {
	var s unix.Statfs_t
	if err := unix.Statfs(target, &s); err != nil {
		return fmt.Errorf("statfs %s: %w", target, err)
	}
	const kept = unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC | unix.ST_NOATIME | unix.ST_NODIRATIME
	flags |= uintptr(s.Flags) & kept // the values of ST_ and MS_ are the same
	if s.Flags&(unix.ST_NOATIME|unix.ST_RELATIME) == 0 {
		flags |= unix.MS_STRICTATIME
	}
	err := mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|flags)
	if errors.Is(err, unix.EPERM) && s.Flags&unix.ST_RDONLY != 0 {
		return mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|flags)
	}
	return err
}

// makeTarget makes what the source can be mounted on, if it is not there. A file has
// the content of the source: it appears when the source is replaced on the system.
func makeTarget(source, target string) error {
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return os.MkdirAll(target, 0o755)
	}
	if _, err := os.Lstat(target); err == nil {
		return nil
	}
	var content []byte
	if info.Mode().IsRegular() && info.Size() <= maxCopy {
		content, _ = os.ReadFile(source)
	}
	return os.WriteFile(target, content, 0o644)
}

// maxCopy is the largest file that is copied, in bytes: enough for resolv.conf, too
// little for programs.
const maxCopy = 16 << 10

// Empty files in the new root, to cover others.
const (
	emptyFolder = newRoot + "/.folder"
	emptyFile   = newRoot + "/.file"
)

// mask covers what others have in the shared folders.
func mask(places []place) error {
	if err := errors.Join(os.Mkdir(emptyFolder, 0), os.WriteFile(emptyFile, nil, 0)); err != nil {
		return err
	}
	for _, p := range places {
		if p.own == nil {
			continue
		}
		entries, err := os.ReadDir(newRoot + p.path)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if path := filepath.Join(p.path, e.Name()); p.hides(e) && !isWayTo(path, places) {
				if err := cover(newRoot+path, e.IsDir()); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// isWayTo reports whether one of the places is at a path or below it.
func isWayTo(path string, places []place) bool {
	return slices.ContainsFunc(places, func(p place) bool { return isBelow(p.path, path) })
}

// cover mounts an empty, read-only file or folder on another one.
func cover(target string, isFolder bool) error {
	empty := emptyFile
	if isFolder {
		empty = emptyFolder
	}
	err := mount(empty, target, "", unix.MS_BIND)
	if errors.Is(err, unix.ENOENT) {
		return nil // it was removed meanwhile
	}
	if err != nil {
		return err
	}
	return restrict(target, unix.MS_RDONLY|restricted)
}
