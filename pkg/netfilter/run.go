package netfilter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// pollInterval is how often, in microseconds, an iptables older than 1.8.8
	// tries to take the xtables lock. By itself it tries once in a second, which
	// is more than a stop has in all. Newer ones wait for the lock itself.
	pollInterval = 20000
	// outputTime is for reading the rest of what a program has printed, after
	// it has ended or been killed. A child that left its group may hold the
	// output open; on a busy machine reading it takes a while.
	outputTime = time.Second
)

// errLate is the end of a program that did not end by itself in time.
var errLate = errors.New("it did not end in time; a program that holds the xtables lock is found with fuser")

// list lists the table.
func (h holding) list(ctx context.Context, path string) (listing, error) {
	text, err := run(ctx, nil, path+"-save", "-t", h.table)
	if err != nil {
		return nil, err
	}
	tables, err := parseListing(text)
	if err != nil {
		return nil, fmt.Errorf("%s-save: %w", path, err)
	}
	return tables[h.table], nil
}

// alter carries edits out, if there are any, in a process of its own.
func (h holding) alter(ctx context.Context, path string, edits ...edit) error {
	if len(edits) == 0 {
		return nil
	}
	seconds := lockWait
	if end, ok := ctx.Deadline(); ok {
		seconds = 1 + int(time.Until(end)/time.Second)
	}
	_, err := run(ctx, render([]section{{table: h.table, edits: edits}}), path+"-restore", "--noflush",
		"--wait", strconv.Itoa(seconds), "--wait-interval="+strconv.Itoa(pollInterval))
	return err
}

// run runs a program until ctx ends and returns what it printed.
func run(ctx context.Context, input []byte, path string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that its children end with it
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = outputTime
	var out, complaint bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &out, &complaint
	switch err := cmd.Run(); {
	case ctx.Err() != nil && err != nil:
		return "", fmt.Errorf("%s: %w", path, errLate)
	case err != nil:
		return "", fmt.Errorf("%s: %w: %s", path, err, strings.ReplaceAll(strings.TrimSpace(complaint.String()), "\n", "; "))
	}
	return out.String(), nil
}
