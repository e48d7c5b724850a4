// Package control lets the operator inspect and control the running daemon: it
// has the daemon's Unix socket and the tool miniupnpctl that connects to it.
package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"igdd/pkg/event"
	"igdd/pkg/hosts"
	"igdd/pkg/portmap"
	"igdd/pkg/xtables"
)

// defaultSocket is where the tool looks for the daemon.
const defaultSocket = "/var/run/miniupnpd.ctl"

// Limits of the server. Further requests wait until one of maxClients has been
// answered, and further connections until one of maxConnections has ended.
const (
	maxConnections = 128  // each takes an open file
	maxReaders     = 64   // connections whose request is read
	maxClients     = 8    // requests that are carried out
	maxRequest     = 4096 // bytes
	requestTimeout = 5 * time.Second
	replyTimeout   = 30 * time.Second
	acceptPause    = time.Second // after the system had no descriptor left
)

// Table decides which mappings are granted; portmap.Table is one.
type Table interface {
	// List returns all mappings.
	List() []*portmap.Mapping
	// Delete deletes the mappings that s selects.
	Delete(ctx context.Context, s portmap.Selector) (closed int, err error)
	// Block deletes the mappings that b selects, and refuses new ones until it ends.
	Block(ctx context.Context, b portmap.Block) (portmap.BlockResult, error)
	// Unblock lifts the blocks for which which is true.
	Unblock(ctx context.Context, which func(*portmap.Block) bool) (lifted []*portmap.Block, unsaved, err error)
	// Blocks returns the blocks in force.
	Blocks() []portmap.BlockRecord
}

// Traffic is what the rules of a mapping counted.
type Traffic struct{ Packets, Bytes uint64 }

// Options configure a Server.
type Options struct {
	Socket string
	Table  Table
	// Status returns the state of the daemon; the server counts the mappings.
	Status func() Status
	// Metrics returns the metrics of the daemon in Prometheus' text format.
	Metrics func() string
	// Explain returns what a client would be answered.
	Explain func(context.Context, Question) (Explanation, error)
	// Limits returns, in brackets, the limits for the number of mappings.
	Limits func() string
	// Ports returns, in brackets, the external ports that the provider forwards; "": every
	// port.
	Ports func() string
	// Left returns why rules of mappings that are closed are still in the firewall, so
	// that connections get through; nil: none are.
	Left func() error
	// NotSaved returns why leases and blocks are not saved; nil: they are.
	NotSaved func() error
	// RuleText returns the text of a permission rule.
	RuleText func(portmap.Rule) string
	// PortRules returns the firewall's own rules that take connections to an
	// external port, all of them or some.
	PortRules func(p portmap.Protocol, external uint16) []string
	// Trace follows a connection: of a host on a LAN as it leaves, else from outside by
	// each uplink, that of the external address first, where the destination without an
	// address is that of the uplink.
	Trace func(ctx context.Context, c xtables.Connection) ([]Traced, error)
	// Traffic returns the counters of the mappings that have rules.
	Traffic func() (map[portmap.Key]Traffic, error)
	// Events has what happens, and Emit tells what the operator does.
	Events *event.Feed
	Emit   func(event.Event)
	// Hosts returns the hosts on the LANs.
	Hosts func() (map[netip.Addr]hosts.Host, error)
	Log   *slog.Logger
}

// Server answers the requests of miniupnpctl.
type Server struct {
	opts        Options
	connections chan struct{} // one entry for each connection but those of watchers
	readers     readers
	clients     chan struct{} // one entry for each request that is carried out
	watchers    chan struct{} // one entry for each watcher
}

// New returns a server that listens nowhere yet.
func New(o Options) *Server {
	return &Server{
		opts: o, connections: make(chan struct{}, maxConnections),
		clients: make(chan struct{}, maxClients), watchers: make(chan struct{}, maxWatchers),
	}
}

// Run answers requests until ctx ends. It returns an error if it cannot listen,
// for instance because another process answers there.
func (s *Server) Run(ctx context.Context) error {
	l, err := listen(s.opts.Socket)
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	var clients errgroup.Group
	for {
		c, err := l.AcceptUnix()
		switch {
		case errors.Is(err, net.ErrClosed):
			return clients.Wait()
		case err != nil:
			s.opts.Log.Warn("cannot accept a miniupnpctl connection", "err", err)
			pause(ctx, acceptPause)
		default:
			s.connections <- struct{}{}
			clients.Go(func() error { s.serve(ctx, c); return nil })
		}
	}
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// listen opens the socket and replaces one that an ended process left behind.
// Closing the listener removes the socket.
func listen(path string) (*net.UnixListener, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// The file gets the mode that the socket has when it is bound, so other users
	// can never open it.
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		controlErr := raw.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) })
		return errors.Join(controlErr, err)
	}}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	return l.(*net.UnixListener), nil
}

// removeStale removes a socket that no process answers at.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s exists and is not a socket; remove it", path)
	}
	c, err := net.DialTimeout("unix", path, requestTimeout)
	switch {
	case err == nil:
		c.Close()
		return fmt.Errorf("another process answers at %s", path)
	case errors.Is(err, unix.ECONNREFUSED):
		return os.Remove(path)
	}
	return err
}
