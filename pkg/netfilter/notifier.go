package netfilter

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// notifier is a descriptor that can be read when somebody touched the firewall.
type notifier struct {
	file     *os.File
	conn     syscall.RawConn
	relevant func(notices []byte) bool // whether one is about rules
	notified chan struct{}
	buf      [1 << 16]byte // for notices
}

// notifier returns what the variant of iptables gives notice by.
func (f *family) notifier() (*notifier, error) {
	if f.nft {
		return nftNotifier()
	}
	return lockNotifier(lockFiles())
}

// newNotifier makes an alarm of a descriptor that does not block.
func newNotifier(fd int, heeds func([]byte) bool) (*notifier, error) {
	a := &notifier{file: os.NewFile(uintptr(fd), "firewall notices"), relevant: heeds, notified: make(chan struct{}, 1)}
	var err error
	if a.conn, err = a.file.SyscallConn(); err != nil {
		a.file.Close()
		return nil, err
	}
	return a, nil
}

// wait returns when there are notices, and leaves them there.
func (a *notifier) wait() error {
	return a.conn.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0 || err != nil && err != unix.EINTR
	})
}

// drain takes all notices and reports whether one is about rules.
func (a *notifier) drain() (heeded bool) {
	a.conn.Control(func(fd uintptr) { // it fails when closed: then nobody listens
		for {
			n, err := unix.Read(int(fd), a.buf[:])
			switch {
			case err == unix.ENOBUFS: // notices were lost
				heeded = true
			case err == unix.EINTR:
			case err != nil || n <= 0:
				return
			default:
				heeded = a.relevant(a.buf[:n]) || heeded
			}
		}
	})
	return heeded
}

// notify wakes who waits for the alarm.
func (a *notifier) notify() {
	select {
	case a.notified <- struct{}{}:
	default:
	}
}

// nftNotifier hears of every change to the tables of nft.
func nftNotifier() (*notifier, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, os.NewSyscallError("socket netlink", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind netlink", err)
	}
	return newNotifier(fd, func([]byte) bool { return true })
}

// lockFiles returns where the xtables lock can be: iptables opens it at every
// call. AstLinux has it in /var/lock.
func lockFiles() []string {
	if path := os.Getenv("XTABLES_LOCKFILE"); path != "" {
		return []string{path}
	}
	return []string{"/run/xtables.lock", "/var/lock/xtables.lock"}
}

// locks watches lock files by inotify; the folder of one that does not exist.
type locks struct {
	fd      int
	paths   []string
	files   map[int]bool   // watch descriptors of files
	folders map[string]int // watch descriptors of folders, by the file missed in them
}

// lockNotifier hears of every call of iptables.
func lockNotifier(paths []string) (*notifier, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	l := &locks{fd: fd, paths: paths, files: make(map[int]bool), folders: make(map[string]int)}
	l.watch()
	return newNotifier(fd, l.relevant)
}

// watch watches each file, or waits for it to be made, and reports whether one
// has been. Where not even the folder exists no iptables has its lock either.
func (l *locks) watch() (made bool) {
	clear(l.files)
	for _, path := range l.paths {
		file, err := unix.InotifyAddWatch(l.fd, path, unix.IN_CLOSE|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF)
		folder, waiting := l.folders[path]
		switch {
		case err == nil:
			l.files[file] = true
			if waiting {
				unix.InotifyRmWatch(l.fd, uint32(folder))
				delete(l.folders, path)
				made = true
			}
		case !waiting:
			if folder, err = unix.InotifyAddWatch(l.fd, filepath.Dir(path), unix.IN_CREATE|unix.IN_MOVED_TO); err == nil {
				l.folders[path] = folder
			}
		}
	}
	return made
}

// relevant reports whether a lock file has been used, or has appeared. The
// notices are struct inotify_event: watch, mask, cookie, length, name.
func (l *locks) relevant(notices []byte) bool {
	used := false
	for len(notices) >= unix.SizeofInotifyEvent {
		used = used || l.files[int(int32(binary.NativeEndian.Uint32(notices)))]
		name := int(binary.NativeEndian.Uint32(notices[12:]))
		notices = notices[min(len(notices), unix.SizeofInotifyEvent+name):]
	}
	return l.watch() || used
}
