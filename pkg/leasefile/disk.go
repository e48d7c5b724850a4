package leasefile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// disk is the part of the file system that the store changes. The tests have
// one that is full, stops between two calls, or loses what was not synced.
type disk interface {
	// Create creates a file for writing and replaces an existing one.
	Create(path string, mode fs.FileMode) (file, error)
	// Append opens a file to write at its end.
	Append(path string) (file, error)
	Rename(from, to string) error
	Remove(path string) error
	// SyncDir makes the renames in a directory durable.
	SyncDir(path string) error
}

// file is an open file of a disk.
type file interface {
	io.WriteCloser
	Stat() (fs.FileInfo, error)
	Truncate(size int64) error
	Sync() error
}

// osDisk is the disk of the operating system.
type osDisk struct{}

// Create never writes into an existing file: its name is predictable, so that
// another program could have made it a link to any file.
func (osDisk) Create(path string, mode fs.FileMode) (file, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(mode); err != nil { // whatever the umask
		f.Close()
		return nil, err
	}
	return f, nil
}

func (osDisk) Append(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (osDisk) Rename(from, to string) error { return os.Rename(from, to) }

func (osDisk) Remove(path string) error { return os.Remove(path) }

func (osDisk) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// maxLinks is the number of symbolic links in a row that the kernel follows.
const maxLinks = 40

// resolve returns the file that path leads to through symbolic links, even if
// the last one points to no file yet (AST-74).
func resolve(path string) (string, error) {
	for range maxLinks {
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			return "", err
		}
		path = filepath.Join(dir, filepath.Base(path))
		to, err := os.Readlink(path)
		if err != nil { // not a link, or no file
			return path, nil
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(dir, to)
		}
		path = to
	}
	return "", &fs.PathError{Op: "resolve", Path: path, Err: syscall.ELOOP}
}

// openRegular opens a regular file for reading. Anything else is an error; the
// open never blocks, as it would on a pipe.
func openRegular(path string, flags int) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|flags, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}
