package upnpd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// LAN is an interface with clients.
type LAN interface {
	Name() string
	// Prefixes returns the router's current addresses there, each with its
	// network.
	Prefixes() []netip.Prefix
}

// Listener holds the HTTP sockets of one interface.
type Listener struct {
	server  *Server
	lan     LAN
	sockets []*net.TCPListener
}

// Listen opens the HTTP port on one interface: an IPv4 socket, and an
// IPv6 socket where the settings and the kernel support it. The sockets are bound
// to the device, so they accept no connections from other interfaces.
func (s *Server) Listen(lan LAN) (*Listener, error) {
	l := &Listener{server: s, lan: lan}
	four, err := listenOn(lan.Name(), "tcp4", s.opts.Port)
	if err != nil {
		return nil, fmt.Errorf("upnpd: listen on TCP port %d of %s: %w", s.opts.Port, lan.Name(), err)
	}
	l.sockets = append(l.sockets, four)
	if !s.opts.IPv6 {
		return l, nil
	}
	six, err := listenOn(lan.Name(), "tcp6", s.opts.Port)
	switch {
	case errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EADDRNOTAVAIL):
	case err != nil:
		l.close()
		return nil, fmt.Errorf("upnpd: listen on TCP port %d of %s: %w", s.opts.Port, lan.Name(), err)
	default:
		l.sockets = append(l.sockets, six)
	}
	return l, nil
}

func listenOn(device, network string, port uint16) (*net.TCPListener, error) {
	config := net.ListenConfig{
		KeepAlive: -1,
		Control: func(_, _ string, c syscall.RawConn) error {
			var failed error
			err := c.Control(func(fd uintptr) { failed = unix.BindToDevice(int(fd), device) })
			return errors.Join(err, failed)
		},
	}
	l, err := config.Listen(context.Background(), network, fmt.Sprintf(":%d", port))
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// Serve answers until ctx ends, then closes sockets and connections.
func (l *Listener) Serve(ctx context.Context) error {
	work, ctx := errgroup.WithContext(ctx)
	limiter := newConnLimiter()
	for _, socket := range l.sockets {
		work.Go(func() error { return l.accept(ctx, socket, limiter) })
	}
	work.Go(func() error {
		<-ctx.Done()
		l.close() // ends the others
		limiter.closeAll()
		return nil
	})
	return work.Wait()
}

// close closes the sockets, which ends accepting. Closing twice does no harm.
func (l *Listener) close() {
	for _, s := range l.sockets {
		s.Close()
	}
}

// pause is the wait before the next accept when the process has no descriptors left.
const pause = 100 * time.Millisecond

// accept accepts connections until ctx ends; it returns when the last of them is
// closed.
func (l *Listener) accept(ctx context.Context, socket *net.TCPListener, limiter *connLimiter) error {
	var open sync.WaitGroup
	defer open.Wait()
	for {
		c, err := socket.AcceptTCP()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				c.Close()
			}
			return nil
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOMEM):
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
			continue
		case err != nil:
			return fmt.Errorf("upnpd: accept on %s: %w", l.lan.Name(), err)
		}
		conn := &connection{Conn: c, client: address(c.RemoteAddr()), local: address(c.LocalAddr())}
		if !l.admits(conn.client, conn.local) {
			l.server.opts.Log.Warn(fmt.Sprintf("HTTP peer %v is not from a LAN, closing the connection", conn.client), "client", conn.client)
			c.Close()
			continue
		}
		limiter.add(conn)
		open.Go(func() {
			defer limiter.release(conn)
			defer c.Close()
			l.serveConn(conn, limiter)
		})
	}
}

// admits reports whether a connection came from a host on the interface's
// networks to the router's own address there.
func (l *Listener) admits(client, local netip.Addr) bool {
	onLAN, ours := false, false
	for _, p := range l.lan.Prefixes() {
		onLAN = onLAN || p.Contains(client) && client != p.Addr()
		ours = ours || p.Addr() == local
	}
	return onLAN && ours
}

// address returns the IP address of a TCP endpoint, IPv4 as IPv4, without zone.
func address(a net.Addr) netip.Addr {
	return a.(*net.TCPAddr).AddrPort().Addr().Unmap().WithZone("")
}
