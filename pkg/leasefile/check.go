package leasefile

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"igdd/pkg/safepath"
)

// Trouble returns why the mappings cannot be saved, or why the last attempt failed; nil
// if nothing is known to prevent it.
func (s *Store) Trouble() error {
	s.mu.Lock()
	failed := s.lastErr
	s.mu.Unlock()
	return cmp.Or(checkPlace(s.path), failed)
}

// Failed reports whether the last attempt to save failed; the log says why.
func (s *Store) Failed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastErr != nil
}

// explained returns an error that says what to do, if there is one for it.
func (s *Store) explained(err error) error {
	if err == nil {
		return nil
	}
	return cmp.Or(checkPlace(s.path), checkFolders(s.path), err)
}

// checkFolders returns an error that names a folder in the place of a file that the store
// writes beside the lease file, which the daemon cannot remove.
func checkFolders(path string) error {
	target, err := safepath.Resolve(path)
	if err != nil {
		return err
	}
	for _, suffix := range []string{tempSuffix, stateSuffix, stateSuffix + tempSuffix} {
		if info, err := os.Lstat(target + suffix); err == nil && info.IsDir() {
			return fmt.Errorf("folder %s is in the place of a file of the daemon's: remove it", target+suffix)
		}
	}
	return nil
}

// checkPlace returns why no lease file can be written at a path, as far as that can be
// known without writing; nil if nothing prevents it.
func checkPlace(path string) error {
	if path == "" {
		return nil
	}
	target, err := safepath.Resolve(path)
	if err == nil {
		err = checkFolder(filepath.Dir(target))
	}
	if err == nil {
		err = checkTarget(target)
	}
	return err
}

// checkFolder returns why no files can be written in a folder.
func checkFolder(folder string) error {
	info, err := os.Stat(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no folder %s: make or mount it, then restart the daemon", folder)
	}
	if err != nil {
		return err
	}
	err = unix.Access(folder, unix.W_OK|unix.X_OK)
	if owner := info.Sys().(*syscall.Stat_t).Uid; errors.Is(err, unix.EACCES) && owner != uint32(os.Geteuid()) {
		return fmt.Errorf("folder %s belongs to user %d, and the daemon has given up the right to write there: run chown root %[1]s", folder, owner)
	}
	if err != nil {
		return fmt.Errorf("folder %s: %w", folder, err)
	}
	return nil
}

// checkTarget returns why a lease file cannot be replaced.
func checkTarget(target string) error {
	info, err := os.Lstat(target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file: name another lease file", target)
	case isMount(target):
		return fmt.Errorf("lease file %s is mounted by itself and cannot be replaced: mount its folder instead", target)
	}
	return nil
}

// isMount reports whether a file is the root of a mount. Linux tells since 5.8.
func isMount(path string) bool {
	var stat unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, 0, &stat)
	return err == nil && stat.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}
