package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/config"
	"igdd/pkg/notify"
)

// privileged is the daemon's side of its helper.
type privileged struct {
	pid      int // of the helper
	settings connection
	events   connection

	ended chan struct{} // closed when the helper has ended
	state string        // how it ended; set before ended is closed
}

// connection is a connection to the helper, for one request at a time.
type connection struct {
	file    *os.File
	replies *json.Decoder
	limit   time.Duration             // how long the helper may take to reply
	turn    chan struct{}             // capacity 1; full until the last request has its reply
	asked   atomic.Pointer[time.Time] // when that was sent; nil: it has its reply
}

// The helper ends what takes too long itself. On a busy router its reply may take some
// seconds more.
const (
	settingsLimit = config.ReadLimit + 5*time.Second
	notifyLimit   = notify.TimeLimit + 5*time.Second
)

// endLimit is how long the daemon, when it stops, waits for the helper to kill the
// notification program.
const endLimit = time.Second

// errHelper is the error of requests when the helper has ended.
var errHelper = errors.New("the helper process has ended; restart the daemon")

// startHelper starts this program as the daemon's helper. It is in a process group of
// its own: the terminal interrupts the daemon alone.
func startHelper(command string, from source) (*privileged, error) {
	p := &privileged{
		settings: connection{limit: settingsLimit},
		events:   connection{limit: notifyLimit},
		ended:    make(chan struct{}),
	}
	cmd := exec.Command("/proc/self/exe", append([]string{command, from.dir}, from.args...)...)
	cmd.Args[0] = helperName
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	for _, c := range []*connection{&p.settings, &p.events} {
		theirs, err := c.open()
		if err != nil {
			return nil, fmt.Errorf("helper: %w", err)
		}
		defer theirs.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, theirs)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("helper: %w", err)
	}
	p.pid = cmd.Process.Pid
	go func() {
		cmd.Wait() // its state says more than the error
		p.state = cmd.ProcessState.String()
		close(p.ended)
	}()
	return p, nil
}

// err returns an error if the helper has ended, or does not reply. It ends before the
// daemon only if it is killed, or by a fault, and the daemon cannot start another one.
func (p *privileged) err() error {
	if p.hasEnded() {
		return fmt.Errorf("the helper process has ended (%s); restart the daemon", p.state)
	}
	return cmp.Or(p.settings.err(), p.events.err())
}

// hasEnded reports whether the helper has ended.
func (p *privileged) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// open opens the connection and returns the helper's end.
func (c *connection) open() (theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	c.file = os.NewFile(uintptr(fds[0]), "helper")
	c.replies = json.NewDecoder(c.file)
	c.turn = make(chan struct{}, 1)
	return os.NewFile(uintptr(fds[1]), "daemon"), nil
}

// parse is config.Parse with the arguments of the daemon, in the helper.
func (p *privileged) parse(ctx context.Context) (*config.Config, error) {
	if err := p.settings.send(ctx, struct{}{}); err != nil {
		return nil, err
	}
	reply, err := receive[settingsReply](ctx, &p.settings)
	if err != nil {
		return nil, err
	}
	if reply.Config == nil {
		return nil, &config.Unusable{Warnings: reply.Warnings, Reason: errors.New(reply.Reason)}
	}
	return reply.Config, nil
}

// notify is notify.Run in the helper.
func (p *privileged) notify(ctx context.Context, command string, values []string) error {
	c := &p.events
	if err := c.send(ctx, notifyRequest{Command: command, Values: values}); err != nil {
		return err
	}
	waiting, giveUp := context.WithCancelCause(context.WithoutCancel(ctx))
	defer giveUp(nil)
	endSent := make(chan struct{})
	keep := context.AfterFunc(ctx, func() {
		defer close(endSent)
		c.write(notifyRequest{})
		time.AfterFunc(endLimit, func() { giveUp(context.Cause(ctx)) })
	})
	reply, err := receive[notifyReply](waiting, c)
	if !keep() {
		<-endSent // else it might end the next run
	}
	if err != nil {
		return err
	}
	if reply.Failure != "" {
		return errors.New(reply.Failure)
	}
	return nil
}

// err returns an error if the helper has not replied in time.
func (c *connection) err() error {
	if asked := c.asked.Load(); asked == nil || time.Since(*asked) <= c.limit {
		return nil
	}
	return c.stuck()
}

// stuck returns the error of a request that gets no reply.
func (c *connection) stuck() error {
	return fmt.Errorf("the helper process has not replied for %v; restart the daemon", c.limit)
}

// send sends a request when the one before has its reply. An error means that there is
// no reply to receive.
func (c *connection) send(ctx context.Context, request any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.limit, c.stuck())
	defer cancel()
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	now := time.Now()
	c.asked.Store(&now)
	if err := c.write(request); err != nil {
		c.release()
		return err
	}
	return nil
}

// receive receives the reply to the request that was sent. If ctx ends first, or the
// helper takes too long, the reply is dropped when it comes.
func receive[T any](ctx context.Context, c *connection) (T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.limit, c.stuck())
	defer cancel()
	return within(ctx, func() (reply T, err error) {
		defer c.release()
		if c.replies.Decode(&reply) != nil {
			err = errHelper
		}
		return reply, err
	})
}

// release lets the next request be sent.
func (c *connection) release() {
	c.asked.Store(nil)
	<-c.turn
}

// write writes a request. The socket has room for it: of those that the helper has not
// read there are two at most.
func (c *connection) write(request any) error {
	text, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if _, err := c.file.Write(append(text, '\n')); err != nil {
		return errHelper
	}
	return nil
}

// within returns what f returns, or the cause of ctx if that ends first: f goes on then,
// and its result is dropped.
func within[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := f()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}
