package leasefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"igdd/pkg/journal"
	"igdd/pkg/safepath"
)

// MoveToFolder gives the files a folder of their own, for a process that may write to
// no other: the lease file moves there, the state file too, and a symbolic link takes
// the lease file's place. Of /mnt/kd/upnp.leases the folder is /mnt/kd/upnp.
//
// A folder of the files that is missing is made, if its own folder exists: later the
// process could neither make nor reach it.
//
// A lease file that is a link already stays. If it was one, and another program has
// replaced it by a file, as miniupnpd does, that file is moved again; if it was removed
// or is empty, nothing stays of what was in the folder. An interrupted
// move, even by a power cut, is repeated at the next call. With an error the files are
// where they were; they are not moved if another user may have planted some of them.
//
// The folder of their own and the files in it become this process's, with the usual
// modes: a program that copied them may have given them others, and without its
// privileges the process could not write there.
func MoveToFolder(path string) error {
	if path == "" {
		return nil
	}
	target := inFolder(path)
	err := checkPlanted(path, path+stateSuffix, target, target+stateSuffix)
	if err == nil {
		err = makeMissing(path)
	}
	if err == nil {
		err = move(path, target)
	}
	if err != nil {
		return fmt.Errorf("leasefile: move %s to %s: %w", path, target, err)
	}
	return nil
}

// checkPlanted returns an error if another user may have planted one of the files, or
// what leads to it.
func checkPlanted(paths ...string) error {
	for _, path := range paths {
		if _, err := safepath.Resolve(path); err != nil {
			return err
		}
	}
	return nil
}

// makeMissing makes the folder of the lease file, or of the file that it leads to.
func makeMissing(path string) error {
	real, err := safepath.Resolve(path)
	if err != nil {
		return err
	}
	err = os.Mkdir(filepath.Dir(real), 0o755)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// inFolder returns the path of a lease file in the folder of its own.
func inFolder(path string) string {
	name := filepath.Base(path)
	folder := strings.TrimSuffix(name, filepath.Ext(name))
	if folder == "" || folder == name {
		folder = "igdd-" + name
	}
	return filepath.Join(filepath.Dir(path), folder, name)
}

// move moves the files at path to target, and leaves a link. Each step leaves complete
// files at path or at target.
func move(path, target string) error {
	folder, link := filepath.Dir(target), filepath.Join(filepath.Base(filepath.Dir(target)), filepath.Base(target))
	info, err := os.Lstat(path)
	isNew := errors.Is(err, fs.ErrNotExist)
	switch {
	case err != nil && !isNew:
		return err
	case !isNew && info.Mode().Type() == fs.ModeSymlink:
		return finishMove(path, link)
	case !isNew && !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", path)
	}
	if err := makeFolder(folder); err != nil {
		return err
	}
	if isNew || info.Size() == 0 { // somebody has removed the leases, or emptied their file
		os.Remove(target)
		os.Remove(target + stateSuffix)
	}
	for _, suffix := range []string{stateSuffix, ""} {
		if err := linkFile(path+suffix, target+suffix); err != nil {
			return err
		}
	}
	disk := journal.OS{}
	if err := disk.SyncDir(folder); err != nil {
		return err
	}
	if err := replaceByLink(path, link); err != nil {
		return err
	}
	return finishMove(path, link)
}

// makeFolder makes the folder if it does not exist. Others may see its names, since
// status pages read the lease file.
func makeFolder(path string) error {
	if err := os.Mkdir(path, 0o755); err == nil || !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(path)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is not a folder", path)
	}
	return err
}

// linkFile gives a file a second name, which replaces another file. If there is no
// file the other one stays.
func linkFile(from, to string) error {
	if _, err := os.Lstat(from); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := removeFile(to); err != nil {
		return err
	}
	return os.Link(from, to)
}

// replaceByLink replaces the file at path by a link.
func replaceByLink(path, link string) error {
	name := path + tempSuffix
	if err := removeFile(name); err != nil {
		return err
	}
	if err := os.Symlink(link, name); err != nil {
		return err
	}
	if err := os.Rename(name, path); err != nil {
		os.Remove(name)
		return err
	}
	return journal.OS{}.SyncDir(filepath.Dir(path))
}

// finishMove removes the state file at the old place, if path is the link to the new
// one, and makes the folder if it was removed.
func finishMove(path, link string) error {
	to, err := os.Readlink(path)
	if err != nil || to != link {
		return err // the administrator's link
	}
	target := filepath.Join(filepath.Dir(path), link)
	if err := makeFolder(filepath.Dir(target)); err != nil {
		return err
	}
	if err := removeFile(path + stateSuffix); err != nil {
		return err
	}
	// The folder comes first: then nobody else can replace the files in it.
	return errors.Join(takeOver(filepath.Dir(target), 0o755), takeOver(target, 0o644), takeOver(target+stateSuffix, 0o600))
}

// removeFile removes a file if it exists. On a read-only disk removing one that does not
// exist would be an error.
func removeFile(path string) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return os.Remove(path)
}

// takeOver gives a file or folder to this process's user, with a mode, if it is another
// user's or lets others do more than that, or if a file's own user may not read and write
// it. A file with a second name, which may be another one's, is left. What cannot be
// opened is left to Load.
func takeOver(path string, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	user, stat, is := os.Geteuid(), info.Sys().(*syscall.Stat_t), info.Mode().Perm() // always, on Linux
	isRight := int(stat.Uid) == user && is&^mode == 0
	if info.Mode().IsRegular() {
		isRight = isRight && is&0o600 == 0o600 || stat.Nlink > 1
	}
	if isRight {
		return nil
	}
	return errors.Join(f.Chown(user, os.Getegid()), f.Chmod(mode))
}
