package xtables

import (
	"context"
	"errors"
	"fmt"

	"igdd/pkg/command"
)

// Limits of what the iptables programs print, in bytes.
const (
	maxStdout = 1 << 26 // enough for the largest blocklists
	maxStderr = 1 << 12
)

// ErrTimeout is the error of a program that did not end by itself in time.
var ErrTimeout = errors.New("it did not end in time; find a program that holds the xtables lock with fuser")

// run runs a program until ctx ends and returns its standard output.
func run(ctx context.Context, input []byte, path string, args ...string) (string, error) {
	out, err := command.Command{Path: path, Args: args, Stdin: input, MaxStdout: maxStdout, MaxStderr: maxStderr}.Run(ctx)
	switch {
	case err != nil && errors.Is(err, context.Cause(ctx)):
		return "", fmt.Errorf("%s: %w", path, ErrTimeout)
	case err != nil:
		return "", fmt.Errorf("%s: %w", path, err)
	case out.Truncated:
		return "", fmt.Errorf("%s: it printed more than %d bytes", path, maxStdout)
	}
	return string(out.Stdout), nil
}
