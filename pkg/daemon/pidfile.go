package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrRunning is returned when another daemon holds the pid file.
var ErrRunning = errors.New("MiniUPnPd is already running. EXITING")

// errStopping is returned while the daemon that holds the pid file is ending.
var errStopping = fmt.Errorf("%w: it is being stopped, but has not ended yet", ErrRunning)

// How long AwaitPIDFile waits for the pid file, and how long it pauses between
// two attempts.
const (
	// stoppingTime is for a daemon that is ending: a web page leaves one second
	// between stop and start, and removing the rules may wait for the xtables
	// lock.
	stoppingTime = 10 * time.Second
	// signalTime is for one that does not end, but may just have been told to:
	// a signal takes a moment to arrive, on a busy machine a long one.
	signalTime   = 300 * time.Millisecond
	pidFilePause = 20 * time.Millisecond
)

// PIDFile is the proof that one daemon runs. Its record lock is a write lock
// while the daemon serves, and a read lock while it ends. It belongs to the
// open file (F_OFD_SETLK in fcntl(2)), not to the process, and changes from one
// to the other atomically, which flock(2) does not promise; and a newcomer can
// ask which of the two it is without taking a lock itself.
type PIDFile struct {
	file *os.File

	mu sync.Mutex // held by Ending, which may come at any time, and Remove
}

// AwaitPIDFile is WritePIDFile for a start: if the daemon that holds the file
// is ending, it waits until that has ended or ctx is done.
func AwaitPIDFile(ctx context.Context, path string) (*PIDFile, error) {
	for began := time.Now(); ; {
		p, err := WritePIDFile(path)
		limit := signalTime
		switch {
		case errors.Is(err, errStopping):
			limit = stoppingTime
		case !errors.Is(err, ErrRunning):
			return p, err
		}
		if time.Since(began) >= limit {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(pidFilePause):
		}
	}
}

// WritePIDFile takes the pid file at path for this process. A file left over
// by a dead process is taken over, whatever stands in it; one of a living
// miniupnpd, ours or the C daemon's, gives ErrRunning.
func WritePIDFile(path string) (*PIDFile, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, fmt.Errorf("pid file: %w", err)
		}
		err = lockAndWrite(f)
		if err == nil {
			return &PIDFile{file: f}, nil
		}
		f.Close()
		if !errors.Is(err, errReplaced) {
			return nil, err
		}
	}
}

// errReplaced is returned when a file has been removed, or replaced by another
// one, after it was opened.
var errReplaced = errors.New("pid file: it was removed meanwhile")

// lockAndWrite locks an open pid file and writes the process ID into it.
func lockAndWrite(f *os.File) error {
	locked := setLock(f, unix.F_WRLCK)
	if !isFileAt(f, f.Name()) {
		return errReplaced // whoever locks it is about to end, or to try again
	}
	switch other := readPID(f); {
	case errors.Is(locked, unix.EAGAIN) || errors.Is(locked, unix.EACCES):
		return checkHolder(f)
	case locked != nil:
		return fmt.Errorf("pid file: lock: %w", locked)
	case other != os.Getpid() && isRunning(other):
		return ErrRunning
	}
	text := strconv.Itoa(os.Getpid()) + "\n"
	if err := errors.Join(f.Truncate(0), writeAt(f, text)); err != nil {
		return fmt.Errorf("pid file: %w", err)
	}
	return nil
}

// setLock gives the open file a lock of this kind, in place of the one that it
// has, without waiting.
func setLock(f *os.File, kind int16) error {
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind})
}

// checkHolder returns what the lock of another daemon on the file means.
func checkHolder(f *os.File) error {
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	switch err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock); {
	case err != nil:
		return fmt.Errorf("pid file: lock: %w", err)
	case lock.Type == unix.F_WRLCK:
		return ErrRunning
	}
	return errStopping // or it has ended since
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

// isFileAt reports whether the open file is the one at a path.
func isFileAt(f *os.File, path string) bool {
	open, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(open, there)
}

// MarkStopping tells a daemon that is started now to wait for the end of this one.
func (p *PIDFile) MarkStopping() {
	p.mu.Lock()
	defer p.mu.Unlock()
	setLock(p.file, unix.F_RDLCK) // if it fails, that daemon does not wait, and does not start
}

// Remove takes the file away if it is still ours, and unlocks it.
func (p *PIDFile) Remove() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.file.Close()
	if !isFileAt(p.file, p.file.Name()) {
		return nil // another daemon's, or gone already
	}
	return os.Remove(p.file.Name())
}

// readPID returns the first line of a pid file as a number, 0 if it is none.
func readPID(f *os.File) int {
	text := make([]byte, 32)
	n, _ := f.ReadAt(text, 0)
	first, _, _ := strings.Cut(string(text[:n]), "\n")
	pid, _ := strconv.Atoi(strings.TrimSpace(first))
	return pid
}

// isRunning reports whether pid is a living process called miniupnpd: a number
// that was given to another program since does not block the start. A process
// that has ended and waits for its parent has no executable any more.
func isRunning(pid int) bool {
	process := filepath.Join("/proc", strconv.Itoa(pid))
	_, ended := os.Readlink(filepath.Join(process, "exe"))
	comm, err := os.ReadFile(filepath.Join(process, "comm"))
	return pid > 0 && err == nil && !errors.Is(ended, fs.ErrNotExist) && strings.TrimSpace(string(comm)) == "miniupnpd"
}
