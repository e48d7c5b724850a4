package netfilter

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"igdd/pkg/command"
)

// pollInterval is how often, in microseconds, an iptables older than 1.8.8 tries
// to take the xtables lock. By itself it tries once in a second, which is more
// than a stop has in all. Newer ones wait for the lock itself.
const pollInterval = 20000

// Limits of what the iptables programs print, in bytes.
const (
	maxStdout = 1 << 26 // the rules of the largest blocklists
	maxStderr = 1 << 12
)

// errLate is the error of a program that did not end by itself in time.
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
	out, err := command.Command{Path: path, Args: args, Stdin: input, MaxStdout: maxStdout, MaxStderr: maxStderr}.Run(ctx)
	switch {
	case err != nil && errors.Is(err, context.Cause(ctx)):
		return "", fmt.Errorf("%s: %w", path, errLate)
	case err != nil:
		return "", fmt.Errorf("%s: %w", path, err)
	case out.Truncated:
		return "", fmt.Errorf("%s: it printed more than %d bytes", path, maxStdout)
	}
	return string(out.Stdout), nil
}
