package xtables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"time"

	"igdd/pkg/command"
)

// oneShot is the committer that starts one iptables-restore for each
// transaction.
type oneShot struct{ path string }

// commit carries out the sections.
func (o oneShot) commit(ctx context.Context, sections []Section) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(len(sections))*sectionTimeout)
	defer cancel()
	out, err := command.Command{
		Path: o.path, Args: restoreArgs(), Stdin: render(sections), MaxStdout: maxStdout, MaxStderr: maxStderr,
	}.Run(ctx)
	done := bytes.Count(out.Stdout, []byte(committed))
	exit, failed := errors.AsType[*command.ExitError](err)
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay): // it has succeeded, whatever holds its output open
		return len(sections), nil
	case failed && exit.Exited():
		return done, fmt.Errorf("%s: %w", o.path, markLocked(exit))
	}
	return done, fmt.Errorf("%s: %w: %w", o.path, ErrInterrupted, err)
}

// close does nothing: no process is kept.
func (oneShot) close() {}

// pollInterval is how often, in microseconds, an iptables older than 1.8.8 tries
// to take the xtables lock. The default is once in a second, which is longer
// than a stop may take in all. Newer versions block until they get the lock.
const pollInterval = 20000

// CommitOnce carries out edits of a table, if there are any, by a process of its
// own, until ctx ends.
func (p *Programs) CommitOnce(ctx context.Context, table string, edits ...Edit) error {
	if len(edits) == 0 {
		return nil
	}
	seconds := lockWait
	if end, ok := ctx.Deadline(); ok {
		seconds = 1 + int(time.Until(end)/time.Second)
	}
	_, err := run(ctx, render([]Section{{table, edits}}), p.path+"-restore", "--noflush",
		"--wait", strconv.Itoa(seconds), "--wait-interval="+strconv.Itoa(pollInterval))
	return err
}
