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
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/safepath"
)

// errRunning is returned when another daemon has the pid file.
var errRunning = errors.New("MiniUPnPd is already running. EXITING")

// errStopping is returned while the daemon that has the pid file is stopping.
var errStopping = fmt.Errorf("%w: it is stopping, but has not ended yet", errRunning)

// How long AwaitPIDFile waits for the pid file, and its pause between attempts.
const (
	// stoppingTime is for a daemon that is stopping: AstLinux's web page leaves one
	// second between stop and start, and removing the rules may wait for the xtables
	// lock.
	stoppingTime = 10 * time.Second
	// signalTime is for one that may just have been signalled to stop: on a busy
	// machine the signal takes a while to arrive.
	signalTime   = 300 * time.Millisecond
	pidFilePause = 20 * time.Millisecond
)

// PIDFile is a locked pid file, so that only one daemon runs. The lock is a write
// lock while the daemon serves, and a read lock while it stops. It belongs to the
// open file (F_OFD_SETLK in fcntl(2)), not to the process, and changes from one
// kind to the other atomically, which flock(2) does not guarantee; and another
// process can query its kind without taking a lock.
type PIDFile struct {
	file *os.File

	mu sync.Mutex // serialises MarkStopping, which may come at any time, and Remove
}

// AwaitPIDFile is writePIDFile, but waits for a daemon that is stopping until it has
// ended or ctx is done.
func AwaitPIDFile(ctx context.Context, path string) (*PIDFile, error) {
	for start := time.Now(); ; {
		p, err := writePIDFile(path)
		limit := signalTime
		switch {
		case errors.Is(err, errStopping):
			limit = stoppingTime
		case !errors.Is(err, errRunning):
			return p, err
		}
		if time.Since(start) >= limit {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(pidFilePause):
		}
	}
}

// writePIDFile locks the pid file at path and writes it. A file that an ended process
// has left is overwritten, whatever its content; one of a running miniupnpd, igdd or
// the C daemon, gives errRunning. A link, and what another user may have planted, is
// refused.
func writePIDFile(path string) (*PIDFile, error) {
	for {
		f, err := safepath.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
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

// errReplaced is returned when the file was removed or replaced after it was opened.
var errReplaced = errors.New("pid file: it was removed meanwhile")

// lockAndWrite locks an open pid file and writes the process ID into it.
func lockAndWrite(f *os.File) error {
	locked := setLock(f, unix.F_WRLCK)
	if !isFileAt(f, f.Name()) {
		return errReplaced // a process that has locked it is stopping, or will try again
	}
	if err := checkName(f); err != nil {
		return err
	}
	switch other := readPID(f); {
	case errors.Is(locked, unix.EAGAIN) || errors.Is(locked, unix.EACCES):
		return checkHolder(f)
	case locked != nil:
		return fmt.Errorf("pid file: lock: %w", locked)
	case other != os.Getpid() && isRunning(other):
		return errRunning
	}
	text := strconv.Itoa(os.Getpid()) + "\n"
	if err := errors.Join(f.Truncate(0), writeAt(f, text)); err != nil {
		return fmt.Errorf("pid file: %w", err)
	}
	return nil
}

// checkName returns an error if the file has a second name: it is another file then,
// which a hard link would have overwritten.
func checkName(f *os.File) error {
	info, err := f.Stat()
	if err == nil && info.Sys().(*syscall.Stat_t).Nlink > 1 {
		err = fmt.Errorf("%s is a hard link to another file: remove it", f.Name())
	}
	if err != nil {
		return fmt.Errorf("pid file: %w", err)
	}
	return nil
}

// setLock sets the kind of lock that the open file has, without waiting.
func setLock(f *os.File, kind int16) error {
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind})
}

// checkHolder returns the error for a file that another daemon has locked.
func checkHolder(f *os.File) error {
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	switch err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock); {
	case err != nil:
		return fmt.Errorf("pid file: lock: %w", err)
	case lock.Type == unix.F_WRLCK:
		return errRunning
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

// MarkStopping has daemons that are started from now on wait for the end of this one.
func (p *PIDFile) MarkStopping() {
	p.mu.Lock()
	defer p.mu.Unlock()
	setLock(p.file, unix.F_RDLCK) // on error a new daemon does not wait, and does not start
}

// Remove removes the file if it is still this process's, and unlocks it.
func (p *PIDFile) Remove() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.file.Close()
	if !isFileAt(p.file, p.file.Name()) {
		return nil // it is another daemon's, or was removed
	}
	return os.Remove(p.file.Name())
}

// readPID returns the number in the first line of a pid file, 0 if there is none.
func readPID(f *os.File) int {
	text := make([]byte, 32)
	n, _ := f.ReadAt(text, 0)
	first, _, _ := strings.Cut(string(text[:n]), "\n")
	pid, _ := strconv.Atoi(strings.TrimSpace(first))
	return pid
}

// isRunning reports whether pid is a running process called miniupnpd: a process ID
// that another program has by now does not block the start. A zombie has no
// executable.
func isRunning(pid int) bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	_, exeErr := os.Readlink(filepath.Join(dir, "exe"))
	comm, err := os.ReadFile(filepath.Join(dir, "comm"))
	return pid > 0 && err == nil && !errors.Is(exeErr, fs.ErrNotExist) && strings.TrimSpace(string(comm)) == "miniupnpd"
}
