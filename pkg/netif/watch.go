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

// Watcher holds the current state of all links and follows the kernel's notices, also
// of routes. It runs only when something changes.
type Watcher struct {
	socket *os.File
	routes chan struct{} // routes or routing rules have changed; capacity 1

	mu      sync.Mutex
	links   map[string]Link
	changed chan struct{}
}

// Watch subscribes to the kernel's notices and reads the first state. Run follows
// the notices.
func Watch() (*Watcher, error) {
	socket, err := subscribe()
	if err != nil {
		return nil, err
	}
	w := &Watcher{socket: socket, routes: make(chan struct{}, 1), changed: make(chan struct{})}
	if w.links, err = Links(); err != nil {
		w.socket.Close()
		return nil, err
	}
	return w, nil
}

// subscribe returns a socket that receives the notices.
func subscribe() (*os.File, error) {
	const links = unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR
	socket, err := netlink.Subscribe(unix.NETLINK_ROUTE, links|unix.RTMGRP_IPV4_ROUTE|unix.RTMGRP_IPV4_RULE)
	if err != nil {
		return nil, fmt.Errorf("netif: %w", err)
	}
	if err := dropSpecificRoutes(socket); err != nil {
		socket.Close()
		return nil, err
	}
	return socket, nil
}

// maxNotice is how much of a notice is read, in bytes. That is all of one, but for a link
// with hundreds of virtual functions; what kind of notice it is stands at its beginning.
const maxNotice = 8 << 10

// Run follows the kernel's notices until ctx ends, then closes the watcher.
func (w *Watcher) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { w.socket.Close() })
	defer stop()
	for notice := make([]byte, maxNotice); ; {
		n, err := w.socket.Read(notice)
		lost := errors.Is(err, unix.ENOBUFS)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !lost:
			return fmt.Errorf("netif: read netlink: %w", err)
		}
		if err := w.handle(notice[:n], lost); err != nil {
			return err
		}
	}
}

// handle publishes what has changed according to a notice, or may have changed if some
// were lost. After every notice of a link or an address the whole state is read, so
// that it does not matter what the notice says.
func (w *Watcher) handle(notice []byte, lost bool) error {
	routing := isRouting(notice)
	if routing || lost {
		w.publishRoutes()
	}
	if routing {
		return nil
	}
	links, err := Links()
	if err != nil {
		return err
	}
	w.publish(links)
	return nil
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

// publishRoutes wakes the one that waits for a change to routes.
func (w *Watcher) publishRoutes() {
	select {
	case w.routes <- struct{}{}:
	default:
	}
}

// RouteChanged returns a channel for one reader, which holds a value when routes or
// routing rules of IPv4 have changed since the last one was taken. Changes to routes
// whose prefix is 8 bits or longer are not reported.
func (w *Watcher) RouteChanged() <-chan struct{} { return w.routes }

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
