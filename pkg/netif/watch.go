package netif

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlink"
)

// Watcher holds the current state of all links and follows the kernel's notices. It
// runs only when something changes.
type Watcher struct {
	socket *os.File

	mu      sync.Mutex
	links   map[string]Link
	changed chan struct{}
}

// Watch subscribes to the kernel's notices and reads the first state. Run follows
// the notices.
func Watch() (*Watcher, error) {
	socket, err := netlink.Subscribe(unix.NETLINK_ROUTE, unix.RTMGRP_LINK|unix.RTMGRP_IPV4_IFADDR|unix.RTMGRP_IPV6_IFADDR)
	if err != nil {
		return nil, fmt.Errorf("netif: %w", err)
	}
	w := &Watcher{socket: socket, changed: make(chan struct{})}
	if w.links, err = Links(); err != nil {
		w.socket.Close()
		return nil, err
	}
	return w, nil
}

// Run follows the kernel's notices until ctx ends, then closes the watcher.
func (w *Watcher) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { w.socket.Close() })
	defer stop()
	notice := make([]byte, 1<<16)
	for {
		// After every notice the whole state is read, so that it does not matter
		// what the notice says, or whether some were lost (ENOBUFS).
		if _, err := w.socket.Read(notice); err != nil && !errors.Is(err, unix.ENOBUFS) {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("netif: read netlink: %w", err)
		}
		links, err := Links()
		if err != nil {
			return err
		}
		w.publish(links)
	}
}

// publish replaces the state and wakes those that wait for a change.
func (w *Watcher) publish(links map[string]Link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !maps.EqualFunc(w.links, links, Link.Equal) {
		w.links = links
		close(w.changed)
		w.changed = make(chan struct{})
	}
}

// Now returns the current state of all links by name, and a channel that is
// closed at the next change. The map must not be changed.
func (w *Watcher) Now() (map[string]Link, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.links, w.changed
}

// Link returns the current state of one link.
func (w *Watcher) Link(name string) (Link, bool) {
	links, _ := w.Now()
	l, ok := links[name]
	return l, ok
}
