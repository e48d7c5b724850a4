// Package safepath refuses files, folders and links that another user may have planted.
package safepath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxLinks is the number of symbolic links in a row that the kernel follows.
const maxLinks = 40

// Resolve returns the absolute path that path leads to through symbolic links, of which
// the last part or more may not exist. Like the kernel with protected_symlinks, in a
// folder in which other users can create files it follows no link, enters no folder and
// names no file of another user than root, this process's and the folder's owner. It
// does so whatever the kernel's settings are, and also in folders without a sticky bit.
func Resolve(path string) (real string, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return "", err
	}
	real = "/"
	rest := split(path)
	for links := 0; len(rest) > 0; {
		next := filepath.Join(real, rest[0])
		rest = rest[1:]
		info, err := os.Lstat(next)
		if errors.Is(err, fs.ErrNotExist) {
			return filepath.Join(append([]string{next}, rest...)...), nil
		}
		if err == nil {
			err = checkOwner(next, info)
		}
		if err != nil {
			return "", err
		}
		if info.Mode().Type() != fs.ModeSymlink {
			real = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("%s is a link that leads back to itself, or through too many others: remove it", path)
		}
		to, err := os.Readlink(next)
		if err != nil {
			return "", err
		}
		if filepath.IsAbs(to) {
			real = "/"
		}
		rest = append(split(to), rest...)
	}
	return real, nil
}

// split returns the parts of a path.
func split(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

// OpenFile opens or creates a regular file. It follows no symbolic link at the end of
// the path, never waits as for a named pipe, and refuses what another user may have
// planted.
func OpenFile(path string, flags int, mode fs.FileMode) (*os.File, error) {
	if _, err := Resolve(filepath.Dir(path)); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, flags|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, mode)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link: remove it", path)
	}
	if err != nil {
		return nil, err
	}
	if err := checkOpen(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// checkOpen checks an open file.
func checkOpen(f *os.File) error {
	info, err := f.Stat()
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", f.Name())
	}
	return checkOwner(f.Name(), info)
}

// checkOwner returns an error for a file, folder or link at a path if its owner may
// have planted it there.
func checkOwner(path string, info fs.FileInfo) error {
	folder, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return err
	}
	owner, host := userOf(info), userOf(folder)
	if !isShared(folder) || owner == host || isOwn(owner) {
		return nil
	}
	return fmt.Errorf("%s belongs to user %d, and other users can create files in %s: remove it, or use a folder in which only root can",
		path, owner, filepath.Dir(path))
}

// isShared reports whether other users can create files in a folder.
func isShared(folder fs.FileInfo) bool {
	const worldWritable = 0o002
	return folder.Mode().Perm()&worldWritable != 0 || !isOwn(userOf(folder))
}

// isOwn reports whether a user is root or this process's.
func isOwn(user uint32) bool { return user == 0 || user == uint32(os.Geteuid()) }

// userOf returns the user that a file belongs to.
func userOf(info fs.FileInfo) uint32 {
	return info.Sys().(*syscall.Stat_t).Uid // always, on Linux
}
