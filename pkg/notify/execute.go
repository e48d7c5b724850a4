package notify

import (
	"context"
	"errors"
	"os/exec"
	"time"

	"igdd/pkg/command"
)

const (
	timeLimit = 10 * time.Second
	maxStderr = 256 // bytes that are kept for the log
)

// errTimeLimit is the error of a program that did not end by itself.
var errTimeLimit = errors.New("it took too long and was killed")

// execute runs the program with the environment and nothing else: no standard
// input, no standard output. The error has what it printed to standard error. A
// process that it leaves in the background is no error.
func (r *Runner) execute(ctx context.Context, environ []string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.limit, errTimeLimit)
	defer cancel()
	program := command.Command{Path: r.argv[0], Args: r.argv[1:], Env: environ, Dir: "/", MaxStderr: maxStderr}
	if _, err := program.Run(ctx); !errors.Is(err, exec.ErrWaitDelay) {
		return err
	}
	return nil
}
