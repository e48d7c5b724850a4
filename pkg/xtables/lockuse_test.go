package xtables

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLockUses counts how often a lock file is used.
func TestLockUses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		paths []string
		do    func(l lockFolder)
		uses  int // -1: they are not known
	}{
		"none":         {[]string{"lock"}, func(lockFolder) {}, 0},
		"one":          {[]string{"lock"}, func(l lockFolder) { l.use("lock") }, 1},
		"many in turn": {[]string{"lock"}, func(l lockFolder) { l.use("lock", "lock", "lock") }, 3},
		"read meanwhile": {[]string{"lock"}, func(l lockFolder) {
			l.use("lock")
			l.read()
			l.use("lock")
		}, 2},
		"another file":                  {[]string{"lock"}, func(l lockFolder) { l.use("lock", "other", "lock") }, 2},
		"two locks":                     {[]string{"lock", "a/lock"}, func(l lockFolder) { l.use("lock", "a/lock", "a/lock", "lock") }, 4},
		"without the folder of another": {[]string{"none/lock", "lock"}, func(l lockFolder) { l.use("lock") }, 1},
		"without another in a folder":   {[]string{"b/none", "lock"}, func(l lockFolder) { l.use("lock") }, 1},
		"without another beside it":     {[]string{"none", "lock"}, func(l lockFolder) { l.use("lock") }, -1},
		"through a link":                {[]string{"link"}, func(l lockFolder) { l.use("lock", "link") }, -1},
		"replaced": {[]string{"lock"}, func(l lockFolder) {
			l.must(os.Rename(filepath.Join(l.dir, "other"), filepath.Join(l.dir, "lock")))
			l.use("lock")
		}, -1},
		"notices are lost": {[]string{"lock"}, func(l lockFolder) {
			overflow := binary.NativeEndian.AppendUint32(nil, 1<<32-1) // of no watch
			overflow = binary.NativeEndian.AppendUint32(overflow, unix.IN_Q_OVERFLOW)
			l.locks.relevant(append(overflow, make([]byte, 8)...))
		}, -1},
		"made meanwhile": {[]string{"b/none"}, func(l lockFolder) { l.use("b/none") }, -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLockFolder(t, tt.paths)
			tt.do(l)
			l.locks.stopCounting()
			l.read()
			for n := range 6 {
				if got := l.locks.uses.areOnly(n); got != (n == tt.uses) {
					t.Errorf("%d uses: %v", n, got)
				}
			}
		})
	}
}

// lockFolder is a folder with lock files, whose uses are counted.
type lockFolder struct {
	t   *testing.T
	dir string
	*notices
}

// newLockFolder counts the uses of files in a new folder.
func newLockFolder(t *testing.T, paths []string) lockFolder {
	l := lockFolder{t: t, dir: t.TempDir()}
	l.must(os.Mkdir(filepath.Join(l.dir, "a"), 0o700))
	l.must(os.Mkdir(filepath.Join(l.dir, "b"), 0o700))
	l.use("lock", "a/lock", "other")
	l.must(os.Symlink("lock", filepath.Join(l.dir, "link")))
	var full []string
	for _, path := range paths {
		full = append(full, filepath.Join(l.dir, path))
	}
	var err error
	l.notices, err = lockNotices(full)
	l.must(err)
	t.Cleanup(func() { l.file.Close() })
	l.locks.startCounting()
	return l
}

// use opens files as iptables does, and closes them. A program that is started meanwhile
// would close them later.
func (l lockFolder) use(names ...string) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	for _, name := range names {
		f, err := os.OpenFile(filepath.Join(l.dir, name), os.O_RDONLY|os.O_CREATE, 0o600)
		l.must(err)
		l.must(f.Close())
	}
}

// read reads the notices up to now.
func (l lockFolder) read() { l.drain(func([]byte) {}) }

func (l lockFolder) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}
