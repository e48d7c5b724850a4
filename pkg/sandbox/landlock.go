package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// What Landlock allows on a place (landlock(7)). Of these rights a file has only those
// in onFile. REFER is not handled, so files never move from one folder to another.
const (
	toRead    = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	toRun     = unix.LANDLOCK_ACCESS_FS_EXECUTE
	toReplace = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE |
		unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK
	onFile = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_EXECUTE
)

// handledRights are the rights that are denied where no rule allows them: all of
// Landlock's first version.
const handledRights = 1<<13 - 1

// truncateVersion is the version of Landlock that knows TRUNCATE.
const truncateVersion = 3

// loaders match the programs with which the kernel starts dynamically linked ones.
var loaders = []string{"/lib/ld*.so*", "/lib64/ld*.so*", "/lib/*/ld*.so*", "/usr/lib/ld*.so*", "/usr/lib/*/ld*.so*"}

// restrictFiles denies access to all files but the places, on all threads. The error
// is ENOSYS or EOPNOTSUPP if the kernel has no Landlock.
func restrictFiles(places []place) error {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return fmt.Errorf("landlock: %w", errno)
	}
	handled := uint64(handledRights)
	if version >= truncateVersion {
		handled |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	attr := &handled // the first member of struct landlock_ruleset_attr, the only one of version 1
	set, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, pointer(attr), 8, 0)
	runtime.KeepAlive(attr)
	if errno != 0 {
		return fmt.Errorf("landlock: create the rule set: %w", errno)
	}
	defer unix.Close(int(set))
	if err := allowPlaces(set, places, handled); err != nil {
		return err
	}
	if err := onAllThreads(unix.SYS_LANDLOCK_RESTRICT_SELF, set, 0, 0); err != nil {
		return fmt.Errorf("landlock: restrict: %w", err)
	}
	return nil
}

// allowPlaces adds the rules for all places.
func allowPlaces(set uintptr, places []place, handled uint64) error {
	for _, p := range places {
		if p.link != "" || p.unopened {
			continue
		}
		if err := allowPath(set, p.path, p.rights()&handled); err != nil {
			return err
		}
	}
	for _, pattern := range loaders {
		found, _ := filepath.Glob(pattern)
		for _, path := range found {
			if err := allowPath(set, path, toRead|toRun); err != nil {
				return err
			}
		}
	}
	return nil
}

// rights returns what Landlock allows on the place. Libraries in a runnable folder are
// only read, and programs there are not run.
func (p place) rights() uint64 {
	r := uint64(toRead)
	if p.writable {
		r |= toReplace
	}
	if info, err := os.Stat(p.path); p.runnable && err == nil && !info.IsDir() {
		r |= toRun
	}
	return r
}

// allowPath adds the rule for a file or folder. What has been removed needs none.
func allowPath(set uintptr, path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("landlock: open %s: %w", path, err)
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("landlock: %s: %w", path, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= onFile
	}
	attr := &unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, set, unix.LANDLOCK_RULE_PATH_BENEATH, pointer(attr), 0, 0, 0)
	runtime.KeepAlive(attr)
	if errno != 0 {
		return fmt.Errorf("landlock: allow %s: %w", path, errno)
	}
	return nil
}
