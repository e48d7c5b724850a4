package xtables

import (
	"bytes"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lockUses is how often programs have used the lock files since counting began. The
// kernel merges a notice with the one before if both are equal, so that many uses of a
// file may give one notice. While the file's folder is watched as well, each use gives
// one notice of the folder and then one of the file, which differ. A program that holds
// the lock gives them before the next one gets it (Linux' fs/file_table.c, __fput), so
// the changes of two programs never give one pair.
type lockUses struct {
	folders map[int]string // watch descriptors of folders, and the names of the files in them; nil: they are not counted
	pairs   [2]int         // the notices of folders, and of files
	other   bool           // there was another notice, or a folder cannot be watched
}

// startCounting counts uses from now on.
func (l *locks) startCounting() {
	l.uses = lockUses{folders: make(map[int]string)}
	for _, path := range l.paths {
		if _, missing := l.folders[path]; missing {
			continue
		}
		folder, err := unix.InotifyAddWatch(l.fd, filepath.Dir(path), unix.IN_CLOSE|unix.IN_MASK_CREATE)
		switch err {
		case nil:
			l.uses.folders[folder] = filepath.Base(path)
		case unix.ENOENT: // no iptables uses it
		default:
			l.uses.other = true
		}
	}
}

// note counts a notice.
func (l *locks) note(watch int, mask uint32, name []byte) {
	u := &l.uses
	file, isFolder := u.folders[watch]
	switch {
	case isFolder && mask&unix.IN_CLOSE != 0:
		if string(bytes.TrimRight(name, "\x00")) == file {
			u.pairs[0]++
		}
	case l.files[watch] && mask&unix.IN_CLOSE != 0:
		u.pairs[1]++
	case !isFolder:
		u.other = true
	}
}

// stopCounting counts no uses that are not over yet. Those that are over count when
// their notices have been read.
func (l *locks) stopCounting() {
	for folder := range l.uses.folders {
		unix.InotifyRmWatch(l.fd, uint32(folder))
	}
}

// areOnly reports whether the lock files were used so often and not more, if the
// programs that did so all changed rules.
func (u *lockUses) areOnly(n int) bool { return !u.other && u.pairs == [2]int{n, n} }
