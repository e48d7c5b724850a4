// Package notify runs the administrator's program for every event, without a shell
// and with the values in its environment.
package notify

import (
	"context"
	"log/slog"
	"sync/atomic"

	"igdd/pkg/event"
)

// Limits of the events that wait while the program runs; further ones are
// dropped. Minor ones leave room for the others.
const (
	queueLength = 256
	minorLength = queueLength / 2
)

// Options configure a Runner.
type Options struct {
	// Command is the absolute path of the program and its arguments, separated
	// by blanks.
	Command string
	// Run runs the program of a command with the values of an event; nil: the
	// function of that name.
	Run func(ctx context.Context, command string, values []string) error
	Log *slog.Logger
}

// Runner runs the program, once for each event, one at a time.
type Runner struct {
	command string
	program string // the first word of the command
	execute func(ctx context.Context, command string, values []string) error
	log     *slog.Logger
	queue   chan event.Event
	lost    atomic.Int64 // events that were dropped
}

// New returns a Runner for a command.
func New(o Options) (*Runner, error) {
	argv, err := split(o.Command)
	if err != nil {
		return nil, err
	}
	execute := o.Run
	if execute == nil {
		execute = Run
	}
	return &Runner{command: o.Command, program: argv[0], execute: execute, log: o.Log, queue: make(chan event.Event, queueLength)}, nil
}

// Push queues an event if there is room. It never blocks.
func (r *Runner) Push(e event.Event) {
	if e.Kind.IsMinor() && len(r.queue) >= minorLength {
		r.lost.Add(1)
		return
	}
	select {
	case r.queue <- e:
	default:
		r.lost.Add(1)
	}
}

// Run runs the program for one event after another until ctx ends. Then it kills
// the program.
func (r *Runner) Run(ctx context.Context) error {
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-r.queue:
			err := r.execute(ctx, r.command, values(&e))
			if ctx.Err() != nil {
				return nil
			}
			if err != nil && !failing {
				r.log.Warn("UPNP_NOTIFY_CMD failed; the next message comes when it works again", "command", r.program, "err", err)
			} else if err == nil && failing {
				r.log.Info("UPNP_NOTIFY_CMD works again", "command", r.program)
			}
			failing = err != nil
		}
		if len(r.queue) == 0 {
			r.reportLost()
		}
	}
}

// reportLost logs how many events were dropped.
func (r *Runner) reportLost() {
	if n := r.lost.Swap(0); n > 0 {
		r.log.Warn("UPNP_NOTIFY_CMD is too slow, events were dropped", "command", r.program, "lost", n)
	}
}
