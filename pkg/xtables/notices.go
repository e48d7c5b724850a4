package xtables

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlink"
)

// notices is a descriptor that becomes readable when a program has used the
// firewall.
type notices struct {
	file     *os.File
	conn     syscall.RawConn
	relevant func(notices []byte) bool // whether any of them is about rules
	locks    *locks                    // legacy; nil: nft
	buf      [1 << 16]byte             // for notices
}

// openNotices opens the notices of the variant of iptables.
func (p *Programs) openNotices() (*notices, error) {
	if p.isNFT {
		return nftNotices()
	}
	return lockNotices(LockFiles())
}

// newNotices returns the notices of a file in non-blocking mode.
func newNotices(file *os.File, relevant func([]byte) bool) (*notices, error) {
	n := &notices{file: file, relevant: relevant}
	var err error
	if n.conn, err = n.file.SyscallConn(); err != nil {
		n.file.Close()
		return nil, err
	}
	return n, nil
}

// waitReadable returns when there are notices, without reading them.
func (n *notices) waitReadable() error {
	return n.conn.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0 || err != nil && err != unix.EINTR
	})
}

// drain reads all notices and reports whether one is about rules. It calls each
// with those of every read, and with nil if some were lost.
func (n *notices) drain(each func([]byte)) (relevant bool) {
	n.conn.Control(func(fd uintptr) { // fails once closed
		for {
			size, err := unix.Read(int(fd), n.buf[:])
			switch {
			case err == unix.ENOBUFS: // notices were lost
				relevant = true
				each(nil)
			case err == unix.EINTR:
			case err != nil || size <= 0:
				return
			default:
				relevant = n.relevant(n.buf[:size]) || relevant
				each(n.buf[:size])
			}
		}
	})
	return relevant
}

// nftNotices gets a notice of every change to the tables of nft.
func nftNotices() (*notices, error) {
	file, err := netlink.Subscribe(unix.NETLINK_NETFILTER, 1<<(unix.NFNLGRP_NFTABLES-1))
	if err != nil {
		return nil, err
	}
	return newNotices(file, func([]byte) bool { return true })
}

// LockFiles returns the paths where the xtables lock can be. iptables opens it
// at every call. On AstLinux it is in /var/lock.
func LockFiles() []string {
	if path := os.Getenv("XTABLES_LOCKFILE"); path != "" {
		return []string{path}
	}
	return []string{"/run/xtables.lock", "/var/lock/xtables.lock"}
}

// locks watches lock files by inotify, or the folders of those that do not
// exist.
type locks struct {
	fd      int
	paths   []string
	files   map[int]bool   // watch descriptors of files
	folders map[string]int // watch descriptors of folders, by the path of the missing file
	uses    lockUses       // during own work
}

// lockNotices gets a notice of every call of iptables.
func lockNotices(paths []string) (*notices, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	l := &locks{fd: fd, paths: paths, files: make(map[int]bool), folders: make(map[string]int)}
	l.watch()
	n, err := newNotices(os.NewFile(uintptr(fd), "inotify"), l.relevant)
	if err == nil {
		n.locks = l
	}
	return n, err
}

// watch watches each file, or its folder until the file is created, and reports
// whether one has been. If the folder does not exist either, no iptables uses it.
func (l *locks) watch() (created bool) {
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
				created = true
			}
		case !waiting:
			if folder, err = unix.InotifyAddWatch(l.fd, filepath.Dir(path), unix.IN_CREATE|unix.IN_MOVED_TO); err == nil {
				l.folders[path] = folder
			}
		}
	}
	return created
}

// relevant reports whether a lock file has been used or created. The notices are
// struct inotify_event (inotify(7)): watch, mask, cookie, length, name.
func (l *locks) relevant(notices []byte) bool {
	used := false
	for len(notices) >= unix.SizeofInotifyEvent {
		watch, mask := int(int32(binary.NativeEndian.Uint32(notices))), binary.NativeEndian.Uint32(notices[4:])
		end := min(len(notices), unix.SizeofInotifyEvent+int(binary.NativeEndian.Uint32(notices[12:])))
		l.note(watch, mask, notices[unix.SizeofInotifyEvent:end])
		used = used || l.files[watch]
		notices = notices[end:]
	}
	return l.watch() || used
}
