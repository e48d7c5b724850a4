// Package command runs programs that must end in time and may print only so
// much.
package command

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Command is a program and how to run it.
type Command struct {
	Path string   // absolute, or a name in PATH
	Args []string // without the program's name
	Env  []string // nil: the environment of this process
	Dir  string   // "": the working directory of this process

	Stdin []byte // empty: /dev/null

	// MaxStdout and MaxStderr are how many bytes are kept of what the program
	// prints; the rest is read and dropped. 0: it prints to /dev/null.
	MaxStdout, MaxStderr int
}

// Output is what a program printed.
type Output struct {
	Stdout, Stderr []byte
	Truncated      bool // it printed more than MaxStdout bytes to standard output
}

// drainTime is how long output is read after the program has ended, while a
// process that it left behind keeps the pipe open. Reading what is already in
// the pipe can take a while on a busy machine.
const drainTime = time.Second

// Run runs the program in a process group of its own until it ends. When ctx
// ends first Run kills the whole group and returns the cause. What a program
// that ended by itself leaves running is not touched.
//
// The error is an *ExitError if the program failed, and exec.ErrWaitDelay if it
// succeeded but left a process that keeps its output open: the output may be
// incomplete then. In all cases there is the output up to that moment.
func (c Command) Run(ctx context.Context) (Output, error) {
	stdout, stderr := limitedBuffer{limit: c.MaxStdout}, limitedBuffer{limit: c.MaxStderr}
	err := c.prepare(ctx, &stdout, &stderr).Run()
	out := Output{stdout.kept, stderr.kept, stdout.truncated}
	exit, failed := errors.AsType[*exec.ExitError](err)
	switch {
	case failed && (exit.Exited() || ctx.Err() == nil):
		return out, &ExitError{exit.ProcessState, stderr.kept}
	case err != nil && ctx.Err() != nil && !errors.Is(err, exec.ErrWaitDelay):
		return out, context.Cause(ctx)
	}
	return out, err
}

// prepare returns the process before its start.
func (c Command) prepare(ctx context.Context, stdout, stderr *limitedBuffer) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.Path, c.Args...)
	cmd.Env, cmd.Dir = c.Env, c.Dir
	if len(c.Stdin) > 0 {
		cmd.Stdin = bytes.NewReader(c.Stdin)
	}
	if c.MaxStdout > 0 {
		cmd.Stdout = stdout
	}
	if c.MaxStderr > 0 {
		cmd.Stderr = stderr
	}
	cmd.WaitDelay = drainTime
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		if errors.Is(err, syscall.ESRCH) {
			return os.ErrProcessDone
		}
		return err
	}
	return cmd
}
