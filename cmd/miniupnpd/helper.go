package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"

	"igdd/pkg/config"
	"igdd/pkg/notify"
)

// helperName is the name of the helper, as its first argument and in the process
// list: scripts look for a daemon by the name miniupnpd.
const helperName = "igdd-helper"

// The descriptors of the helper's connections to the daemon, each for one kind of
// request, so that none waits for the other.
const (
	settingsFD = 3
	notifyFD   = 4
)

// maxRequest is the maximum length of a request to the helper, in bytes: each value
// of an event has at most 256, and JSON writes some bytes as six.
const maxRequest = 64 << 10

// helper is the process that keeps root's privileges for the daemon. What it does
// depends on the arguments with which the daemon was started and on the
// administrator's files, not on the daemon's requests: these only say when to read
// the settings, and with which values to run the notification program. It ends with
// the daemon.
type helper struct {
	source source // of the daemon's settings

	mu       sync.Mutex
	commands []string // notification programs that the settings have named
}

// settingsReply is the configuration, or why there is none.
type settingsReply struct {
	Config   *config.Config
	Warnings []string
	Reason   string
}

// notifyRequest has the notification program run, or ends the run: Command is empty
// then.
type notifyRequest struct {
	Command string
	Values  []string
}

// notifyReply is the result of a run.
type notifyReply struct {
	Failure string // "": none
}

// isHelper reports whether the daemon has started this process as its helper.
func isHelper(args []string) bool { return args[0] == helperName && len(args) > 2 }

// runHelper serves the daemon until it ends, and returns the exit status. It gets the
// present notification program, which may be empty, and the source of the settings.
func runHelper(command string, from source) int {
	os.WriteFile("/proc/self/comm", []byte(helperName), 0) // else the process is called exe
	debug.SetGCPercent(activeGCPercent)
	h := helper{source: from, commands: []string{command}}
	var serving sync.WaitGroup
	serving.Go(func() { h.serveSettings(openDescriptor(settingsFD)) })
	serving.Go(func() { h.serveEvents(openDescriptor(notifyFD)) })
	serving.Wait()
	return 0
}

// openDescriptor returns an inherited connection. No thread waits for it, and programs
// do not inherit it.
func openDescriptor(fd int) *os.File {
	syscall.CloseOnExec(fd)
	syscall.SetNonblock(fd, true)
	return os.NewFile(uintptr(fd), "daemon")
}

// serveSettings answers each line with the settings.
func (h *helper) serveSettings(conn io.ReadWriter) {
	for in := newRequests(conn); in.Scan(); {
		if json.NewEncoder(conn).Encode(h.readSettings()) != nil {
			return
		}
		debug.FreeOSMemory() // the next request may come in months
	}
}

// newRequests returns the lines of a connection.
func newRequests(conn io.Reader) *bufio.Scanner {
	in := bufio.NewScanner(conn)
	in.Buffer(nil, maxRequest)
	return in
}

// readSettings reads the settings as at the start of the daemon.
func (h *helper) readSettings() settingsReply {
	c, err := h.source.parse()
	if u, is := errors.AsType[*config.Unusable](err); is {
		return settingsReply{Warnings: u.Warnings, Reason: u.Reason.Error()}
	}
	if err != nil {
		return settingsReply{Reason: err.Error()}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Contains(h.commands, c.NotifyCmd) {
		h.commands = append(h.commands, c.NotifyCmd)
	}
	return settingsReply{Config: c}
}

// serveEvents runs the notification program, once for each request. A request that
// comes during a run ends the run.
func (h *helper) serveEvents(conn io.ReadWriter) {
	requests := make(chan notifyRequest)
	go func() {
		defer close(requests)
		for in := newRequests(conn); in.Scan(); {
			var r notifyRequest
			if json.Unmarshal(in.Bytes(), &r) != nil {
				return
			}
			requests <- r
		}
	}()
	for r := range requests {
		if r.Command == "" {
			continue // that run has ended by itself
		}
		reply := notifyReply{}
		if err := h.runUntil(requests, r); err != nil {
			reply.Failure = err.Error()
		}
		if json.NewEncoder(conn).Encode(reply) != nil {
			return
		}
	}
}

// runUntil runs the notification program until it ends, or until there is another
// request or no connection any more.
func (h *helper) runUntil(requests <-chan notifyRequest, r notifyRequest) error {
	if !h.isConfigured(r.Command) {
		return fmt.Errorf("the settings do not name %q", r.Command)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- notify.Run(ctx, r.Command, r.Values) }()
	select {
	case err := <-ended:
		return err
	case <-requests:
		cancel()
		return <-ended
	}
}

// isConfigured reports whether the settings name the command, or did earlier.
func (h *helper) isConfigured(command string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Contains(h.commands, command)
}
