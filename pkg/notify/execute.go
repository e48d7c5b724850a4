package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"
)

const (
	timeLimit = 10 * time.Second
	lingering = time.Second // for output after the end
	maxOutput = 256         // octets of complaints that are kept
)

// errTimeLimit is a program that did not end by itself.
var errTimeLimit = errors.New("it took too long and was killed")

// execute runs the program with the environment and nothing else: no standard
// input, no standard output. The error has what it printed on standard error.
func (r *Runner) execute(ctx context.Context, environ []string) error {
	limited, cancel := context.WithTimeoutCause(ctx, r.limit, errTimeLimit)
	defer cancel()
	var complaint limitedBuffer
	cmd := exec.CommandContext(limited, r.argv[0], r.argv[1:]...)
	cmd.Env = environ
	cmd.Dir = "/"
	cmd.Stderr = &complaint
	cmd.WaitDelay = lingering
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // with its children
	err := cmd.Run()
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay): // it left somebody behind who holds standard error
		return nil
	case limited.Err() != nil:
		return context.Cause(limited)
	case len(complaint) > 0:
		return fmt.Errorf("%w: %q", err, bytes.TrimSpace(complaint))
	}
	return err
}

// limitedBuffer keeps the first octets that are written.
type limitedBuffer []byte

// Write never fails.
func (b *limitedBuffer) Write(p []byte) (int, error) {
	*b = append(*b, p[:min(len(p), maxOutput-len(*b))]...)
	return len(p), nil
}
