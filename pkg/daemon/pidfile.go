package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrRunning is returned when another daemon holds the pid file.
var ErrRunning = errors.New("MiniUPnPd is already running. EXITING")

// PIDFile is the proof that one daemon runs; it is locked while it lives.
type PIDFile struct {
	file *os.File
}

// WritePIDFile takes the pid file at path for this process. A file left over
// by a dead process is taken over, whatever stands in it; one of a living
// miniupnpd, ours or the C daemon's, gives ErrRunning.
func WritePIDFile(path string) (*PIDFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("pid file: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, ErrRunning
	}
	if other := readPID(f); other != os.Getpid() && running(other) {
		f.Close()
		return nil, ErrRunning
	}
	text := strconv.Itoa(os.Getpid()) + "\n"
	if err := errors.Join(f.Truncate(0), writeAt(f, text)); err != nil {
		f.Close()
		return nil, fmt.Errorf("pid file: %w", err)
	}
	return &PIDFile{file: f}, nil
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

// Remove takes the file away if it is still ours, and unlocks it.
func (p *PIDFile) Remove() error {
	defer p.file.Close()
	ours, err := p.file.Stat()
	if err != nil {
		return err
	}
	if there, err := os.Stat(p.file.Name()); err != nil || !os.SameFile(ours, there) {
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

// running reports whether pid is a living process called miniupnpd: a number
// that was given to another program since does not block the start. A process
// that has ended and waits for its parent has no executable any more.
func running(pid int) bool {
	process := filepath.Join("/proc", strconv.Itoa(pid))
	_, ended := os.Readlink(filepath.Join(process, "exe"))
	comm, err := os.ReadFile(filepath.Join(process, "comm"))
	return pid > 0 && err == nil && !errors.Is(ended, fs.ErrNotExist) && strings.TrimSpace(string(comm)) == "miniupnpd"
}
