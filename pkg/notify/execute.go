package notify

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"igdd/pkg/command"
)

// TimeLimit is how long the program may run.
const TimeLimit = 10 * time.Second

const maxStderr = 256 // bytes that are kept for the log

// errTimeLimit is the error of a program that did not end by itself.
var errTimeLimit = errors.New("it took too long and was killed")

// path is the PATH of the program.
const path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"

// Run runs the program of a command with the values, and PATH, as its environment and
// nothing else: no standard input, no standard output. It kills the program when ctx
// ends, or after TimeLimit. The error has what it printed to standard error. A process
// that it leaves in the background is no error.
//
// The values may come from a process that is not trusted: Run accepts only what the
// events have.
func Run(ctx context.Context, command string, values []string) error {
	return runFor(ctx, TimeLimit, command, values)
}

func runFor(ctx context.Context, limit time.Duration, of string, values []string) error {
	argv, err := split(of)
	if err != nil {
		return err
	}
	if err := checkValues(values); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errTimeLimit)
	defer cancel()
	program := command.Command{Path: argv[0], Args: argv[1:], Env: append([]string{path}, values...), Dir: "/", MaxStderr: maxStderr}
	if _, err := program.Run(ctx); !errors.Is(err, exec.ErrWaitDelay) {
		return err
	}
	return nil
}

// split returns the program and its arguments.
func split(command string) ([]string, error) {
	argv := strings.Fields(command)
	if len(argv) == 0 || !filepath.IsAbs(argv[0]) {
		return nil, fmt.Errorf("notify: %q is not an absolute path", command)
	}
	return argv, nil
}
