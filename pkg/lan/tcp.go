package lan

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Listener is a TCP socket of one address family on one interface.
type Listener struct {
	on     Interface
	hosts  *Hosts
	tcp    *net.TCPListener
	accept func() (*net.TCPConn, error) // of tcp
}

// Conn is a connection of a host on the LAN.
type Conn struct {
	*net.TCPConn
	Client netip.Addr // without zone
	Local  netip.Addr // the router's address that the client connected to
	Host   Host       // the client
}

// ListenTCP opens a port on the interface, for "tcp4" or "tcp6". The error is
// EAFNOSUPPORT or EADDRNOTAVAIL if the kernel does not support the family.
func ListenTCP(on Interface, hosts *Hosts, network string, port uint16) (*Listener, error) {
	config := net.ListenConfig{
		KeepAlive: -1,
		Control: func(_, _ string, c syscall.RawConn) (err error) {
			controlErr := c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), on.Name()) })
			return errors.Join(controlErr, err)
		},
	}
	l, err := config.Listen(context.Background(), network, fmt.Sprintf(":%d", port))
	if err != nil {
		return nil, fmt.Errorf("lan: listen on TCP port %d of %s: %w", port, on.Name(), err)
	}
	tcp := l.(*net.TCPListener)
	return &Listener{on, hosts, tcp, tcp.AcceptTCP}, nil
}

// HasUnread reports whether octets have arrived that are not read yet.
func (c *Conn) HasUnread() bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	unread := 0
	controlErr := raw.Control(func(fd uintptr) { unread, err = unix.IoctlGetInt(int(fd), unix.SIOCINQ) })
	return errors.Join(controlErr, err) == nil && unread > 0
}

// Close closes the socket, which ends Serve. It may be called twice.
func (l *Listener) Close() { l.tcp.Close() }

// Serve calls handle for each connection of a host on the LAN, on a goroutine of its
// own, and then closes the connection. It returns when the socket is closed and the
// last connection has ended, but at once with an error: the caller closes what is open.
func (l *Listener) Serve(handle func(*Conn)) error {
	var open sync.WaitGroup
	for {
		tcp, err := l.accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			open.Wait()
			return nil
		case isPassing(err):
			time.Sleep(errorPause)
			continue
		case err != nil:
			return fmt.Errorf("lan: accept on %s: %w", l.on.Name(), err)
		}
		c := l.admit(tcp)
		if c == nil {
			tcp.Close()
			continue
		}
		open.Go(func() {
			defer c.Close()
			defer Recover(l.hosts.log, c.Client, func() {})
			handle(c)
		})
	}
}

// admit returns the connection of a host on the interface's networks to the router's
// own address there; nil for any other, and for one that gets no answer.
func (l *Listener) admit(tcp *net.TCPConn) *Conn {
	c := &Conn{TCPConn: tcp, Client: address(tcp.RemoteAddr()), Local: address(tcp.LocalAddr())}
	own := l.on.Prefixes()
	if !IsOwn(own, c.Local) || !IsClient(own, l.hosts.routed(l.on), tcp.RemoteAddr().(*net.TCPAddr).AddrPort()) {
		l.hosts.log.Warn(fmt.Sprintf("HTTP peer %v is not from a LAN, closing the connection", c.Client), "client", c.Client)
		return nil
	}
	if l.hosts.hides(l.on.Index(), c.Client) {
		return nil
	}
	c.Host = l.hosts.Of(l.on.Index(), c.Client)
	return c
}

// address returns the IP address of a TCP endpoint, IPv4 as IPv4, without zone.
func address(a net.Addr) netip.Addr {
	return a.(*net.TCPAddr).AddrPort().Addr().Unmap().WithZone("")
}
