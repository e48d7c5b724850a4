package xtables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
	case err == nil:
		return len(sections), nil
	case failed && exit.Exited():
		return done, fmt.Errorf("%s: %w", o.path, markLocked(exit))
	}
	return done, fmt.Errorf("%s: %w: %w", o.path, ErrInterrupted, err)
}

// close does nothing: no process is kept.
func (oneShot) close() {}
