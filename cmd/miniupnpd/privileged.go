package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"igdd/pkg/config"
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
	mu      sync.Mutex
	file    *os.File
	replies *json.Decoder
}

// errHelper is the error of requests when the helper has ended.
var errHelper = errors.New("the helper process has ended; restart the daemon")

// startHelper starts this program as the daemon's helper. It is in a process group of
// its own: the terminal interrupts the daemon alone.
func startHelper(command string, from source) (*privileged, error) {
	p := &privileged{ended: make(chan struct{})}
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

// err returns an error if the helper has ended. It ends before the daemon only if it
// is killed, or by a fault, and the daemon cannot start another one.
func (p *privileged) err() error {
	select {
	case <-p.ended:
		return fmt.Errorf("the helper process has ended (%s); restart the daemon", p.state)
	default:
		return nil
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
	return os.NewFile(uintptr(fds[1]), "daemon"), nil
}

// parse is config.Parse with the arguments of the daemon, in the helper.
func (p *privileged) parse() (*config.Config, error) {
	c := &p.settings
	c.mu.Lock()
	defer c.mu.Unlock()
	var reply settingsReply
	if err := c.send(struct{}{}); err != nil {
		return nil, err
	}
	if err := c.receive(&reply); err != nil {
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
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.send(notifyRequest{Command: command, Values: values}); err != nil {
		return err
	}
	endSent := make(chan struct{})
	keep := context.AfterFunc(ctx, func() { defer close(endSent); c.send(notifyRequest{}) })
	var reply notifyReply
	err := c.receive(&reply)
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

// send sends a request in one write.
func (c *connection) send(request any) error {
	text, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if _, err := c.file.Write(append(text, '\n')); err != nil {
		return errHelper
	}
	return nil
}

// receive receives a reply.
func (c *connection) receive(reply any) error {
	if err := c.replies.Decode(reply); err != nil {
		return errHelper
	}
	return nil
}
