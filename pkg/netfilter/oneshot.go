package netfilter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"igdd/pkg/portmap"
)

// oneShot is the committer that runs one iptables-restore per batch.
type oneShot struct{ path string }

// commit carries out the sections.
func (o oneShot) commit(ctx context.Context, sections []section) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(len(sections))*sectionTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, o.path, arguments()...)
	cmd.Stdin = bytes.NewReader(render(sections))
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := cmd.Run()
	if err == nil {
		return len(sections), nil
	}
	done := bytes.Count(out.Bytes(), []byte(committed))
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.Exited() {
		return done, fmt.Errorf("%s: %w", o.path, failure(exit.ProcessState, complaint.String()))
	}
	return done, fmt.Errorf("%s: %w: %w", o.path, errInterrupted, err)
}

// failure words the end of an iptables-restore that refused something.
func failure(state *os.ProcessState, complaint string) error {
	return locked(fmt.Errorf("%v: %s", state, strings.TrimSpace(complaint)))
}

// locked marks the error of a program that did not get the xtables lock in time.
func locked(err error) error {
	if err == nil || !strings.Contains(err.Error(), "xtables lock") {
		return err
	}
	return fmt.Errorf("%w: the xtables lock, find it with fuser: %w", portmap.ErrLocked, err)
}

// close has nothing to let go.
func (oneShot) close() {}
