package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"igdd/pkg/safepath"

	"golang.org/x/sys/unix"
)

// Disk is the part of a file system that writing files safely needs.
type Disk interface {
	// Create creates a file for writing and replaces an existing one.
	Create(path string, mode fs.FileMode) (File, error)
	// Append opens a file to write at its end. Both lock the file until it is closed;
	// Append fails for one that another process has locked.
	Append(path string) (File, error)
	Rename(from, to string) error
	Remove(path string) error
	// SyncDir makes the renames in a directory durable.
	SyncDir(path string) error
}

// File is an open file of a Disk.
type File interface {
	io.WriteCloser
	Stat() (fs.FileInfo, error)
	Truncate(size int64) error
	Sync() error
}

// OS is the Disk of the operating system.
type OS struct{}

// Create never writes into an existing file: its name is predictable, so that
// another program could have made it a link to any file.
func (OS) Create(path string, mode fs.FileMode) (File, error) {
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
	return locked(f)
}

// Append refuses what another user may have planted.
func (OS) Append(path string) (File, error) {
	f, err := safepath.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil, err
	}
	return locked(f)
}

// locked locks a file until it is closed. A file system without locks is as good.
func locked(f *os.File) (File, error) {
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		f.Close()
		return nil, fmt.Errorf("another process writes to %s", f.Name())
	}
	return f, nil
}

// Rename renames a file and replaces another one. It explains the error of a file that
// is a mount of its own, as in containers: no file can take its place.
func (OS) Rename(from, to string) error {
	err := os.Rename(from, to)
	if errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EXDEV) {
		err = fmt.Errorf("%w: the file is mounted by itself; mount its folder instead", err)
	}
	return err
}

// Remove removes a file.
func (OS) Remove(path string) error { return os.Remove(path) }

// SyncDir makes the renames in a directory durable.
func (OS) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// OpenRegular opens a regular file for reading. Anything else is an error, also a link
// and what another user may have planted; the open never blocks, as it would on a pipe.
func OpenRegular(path string) (*os.File, fs.FileInfo, error) {
	f, err := safepath.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}
