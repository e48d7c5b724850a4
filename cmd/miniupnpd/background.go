package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// readyEnv tells a child that descriptor 3 is the pipe on which its parent
// waits; it is the mark of the process in the background.
const readyEnv = "MINIUPNPD_READY_FD=3"

// background starts this program again as a process of its own and returns
// once that one serves, or with the reason why it cannot. The system finds
// the daemon by its process name, which is the name of the file that is
// executed: so the path is kept as it was called, links and all.
func background() error {
	path, err := invokedPath()
	if err != nil {
		return err
	}
	ours, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ours.Close()
	child := exec.Command(path, os.Args[1:]...)
	child.Args[0] = os.Args[0]
	child.Env = append(os.Environ(), readyEnv)
	child.ExtraFiles = []*os.File{theirs}
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := child.Start(); err != nil {
		return err
	}
	theirs.Close()
	verdict, err := io.ReadAll(ours)
	switch {
	case err != nil:
		return err
	case string(verdict) == "ready":
		return nil
	case len(verdict) > 0:
		return errors.New(strings.TrimSpace(string(verdict)))
	}
	return fmt.Errorf("ended before it served: %v", child.Wait())
}

// invokedPath returns the path by which this program was called.
func invokedPath() (string, error) {
	if path, err := exec.LookPath(os.Args[0]); err == nil {
		return filepath.Abs(path)
	}
	return os.Executable()
}

// parent is whoever waits for the daemon to serve.
type parent struct {
	pipe *os.File // nil in the foreground
}

// newParent finds the parent that background left behind.
func newParent() *parent {
	name, fd, _ := strings.Cut(readyEnv, "=")
	if os.Getenv(name) != fd {
		return &parent{}
	}
	os.Unsetenv(name)
	syscall.CloseOnExec(3)
	return &parent{pipe: os.NewFile(3, "parent")}
}

// exists reports whether this is the process in the background.
func (p *parent) exists() bool { return p.pipe != nil }

// report says that the daemon serves, or why it does not.
func (p *parent) report(err error) {
	if p.pipe == nil {
		return
	}
	verdict := "ready"
	if err != nil {
		verdict = err.Error()
	}
	io.WriteString(p.pipe, verdict)
	p.pipe.Close()
	p.pipe = nil
}
