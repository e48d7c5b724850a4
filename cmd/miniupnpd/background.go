package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// readyEnv tells the child, which is the daemon in the background, that descriptor 3
// is the pipe on which its parent waits.
const readyEnv = "MINIUPNPD_READY_FD=3"

// background starts this program again in the background, and returns when the
// daemon is ready or with the error that prevents it. The system finds the daemon by
// its process name, the name of the file that is executed: so the path is used as it
// was given, with symbolic links.
func background() error {
	path, err := invokedPath()
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	child := exec.Command(path, os.Args[1:]...)
	child.Args[0] = os.Args[0]
	child.Env = append(os.Environ(), readyEnv)
	child.ExtraFiles = []*os.File{w}
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := child.Start(); err != nil {
		return err
	}
	w.Close()
	message, err := io.ReadAll(r)
	switch {
	case err != nil:
		return err
	case string(message) == "ready":
		return nil
	case len(message) > 0:
		return errors.New(strings.TrimSpace(string(message)))
	}
	return fmt.Errorf("the daemon exited before it was ready: %v", child.Wait())
}

// invokedPath returns the path by which this program was started.
func invokedPath() (string, error) {
	if path, err := exec.LookPath(os.Args[0]); err == nil {
		return filepath.Abs(path)
	}
	return os.Executable()
}

// parent is what waits for the daemon to be ready: the process that has started it in
// the background, or systemd.
type parent struct {
	pipe    *os.File // nil in the foreground
	systemd net.Conn // nil unless systemd waits
}

// newParent returns the parent: the process that has run background, or for a daemon
// in the foreground systemd, if that waits for a message (sd_notify(3)).
func newParent(isForeground bool) *parent {
	name, fd, _ := strings.Cut(readyEnv, "=")
	if os.Getenv(name) == fd {
		os.Unsetenv(name)
		syscall.CloseOnExec(3)
		return &parent{pipe: os.NewFile(3, "parent")}
	}
	p := &parent{}
	if socket := os.Getenv("NOTIFY_SOCKET"); isForeground && socket != "" {
		os.Unsetenv("NOTIFY_SOCKET") // programs that the daemon runs have nothing to tell
		if conn, err := net.Dial("unixgram", socket); err == nil {
			p.systemd = conn
		}
	}
	return p
}

// exists reports whether a parent waits: this is the process in the background.
func (p *parent) exists() bool { return p.pipe != nil }

// report tells the parent that the daemon is ready, or why it is not.
func (p *parent) report(err error) {
	if p.systemd != nil && err == nil {
		io.WriteString(p.systemd, "READY=1")
		p.systemd.Close()
		p.systemd = nil
	}
	if p.pipe == nil {
		return
	}
	message := "ready"
	if err != nil {
		message = err.Error()
	}
	io.WriteString(p.pipe, message)
	p.pipe.Close()
	p.pipe = nil
}
