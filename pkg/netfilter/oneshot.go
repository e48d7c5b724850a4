package netfilter

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// oneShot is the committer that runs one iptables-restore per batch.
type oneShot struct{ path string }

// commit carries out the sections.
func (o oneShot) commit(sections []section) (int, error) {
	cmd := exec.Command(o.path, arguments()...)
	cmd.Stdin = bytes.NewReader(render(sections))
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := cmd.Run()
	if err == nil {
		return len(sections), nil
	}
	done := bytes.Count(out.Bytes(), []byte(committed))
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.Exited() {
		return done, fmt.Errorf("%s: %w: %s", o.path, err, strings.TrimSpace(complaint.String()))
	}
	return done, fmt.Errorf("%s: %w: %w", o.path, errInterrupted, err)
}

// dismiss has nothing to let go.
func (oneShot) dismiss() {}
