package lan

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Listener is a TCP socket of one address family on one interface.
type Listener struct {
	on     Interface
	hosts  *Hosts
	socket *os.File
	accept func() (fd int, from syscall.Sockaddr, err error) // of socket; net.ErrClosed once that is closed
	row    int                                               // connections accepted since it last waited for one
}

// Peer is who has connected, and with which address of the router.
type Peer struct {
	Client netip.Addr // without zone
	Local  netip.Addr
	Host   Host // the client
}

// Arrival is a connection that has just been accepted. Reads and writes do not wait, but
// fail with EAGAIN.
type Arrival struct {
	Peer
	fd int
}

// Conn is a connection of a host on the LAN.
type Conn struct {
	Peer
	*os.File
}

// deferSeconds is how long the kernel keeps a connection to itself until the first octets
// arrive: the program is not woken before, and finds them when it accepts. The time is rounded
// up to that of a repeated SYN-ACK.
const deferSeconds = 1

// maxRow is how many connections are accepted one after another before others run for
// rowPause: the scheduler looks for datagrams only when nobody is ready to run.
const (
	maxRow   = 32
	rowPause = 50 * time.Microsecond
)

// ListenTCP opens a port on the interface, for "tcp4" or "tcp6". The error is
// EAFNOSUPPORT or EADDRNOTAVAIL if the kernel does not support the family.
func ListenTCP(on Interface, hosts *Hosts, network string, port uint16) (*Listener, error) {
	config := net.ListenConfig{
		Control: func(_, _ string, c syscall.RawConn) (err error) {
			controlErr := c.Control(func(fd uintptr) { err = prepareTCP(int(fd), on) })
			return errors.Join(controlErr, err)
		},
	}
	l, err := config.Listen(context.Background(), network, fmt.Sprintf(":%d", port))
	if err != nil {
		return nil, fmt.Errorf("lan: listen on TCP port %d of %s: %w", port, on.Name(), err)
	}
	defer l.Close()
	socket, err := l.(*net.TCPListener).File() // without the work that net does for each connection
	if err != nil {
		return nil, fmt.Errorf("lan: listen on %s: %w", on.Name(), err)
	}
	listener := &Listener{on: on, hosts: hosts, socket: socket}
	listener.accept = listener.acceptFD
	return listener, nil
}

// prepareTCP configures a listening socket. Its connections inherit TCP_NODELAY.
func prepareTCP(fd int, on Interface) error {
	return errors.Join(
		unix.BindToDevice(fd, on.Name()),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, deferSeconds))
}

// Read reads what has arrived.
func (a *Arrival) Read(p []byte) (int, error) { return readNow(a.fd, p) }

// Write writes as much as the kernel has room for.
func (a *Arrival) Write(p []byte) (int, error) { return writeNow(a.fd, p) }

// IsSettled reports whether all that has arrived is read, and all that was written is on its
// way: the kernel is left with little when the connection is closed.
func (a *Arrival) IsSettled() bool {
	return !isQueued(a.fd, unix.SIOCINQ) && !isQueued(a.fd, unix.SIOCOUTQNSD)
}

// IsSettled is that of Arrival.
func (c *Conn) IsSettled() (settled bool) {
	c.control(func(fd int) { settled = (&Arrival{fd: fd}).IsSettled() })
	return settled
}

// HasUnread reports whether octets have arrived that are not read yet.
func (c *Conn) HasUnread() (unread bool) {
	c.control(func(fd int) { unread = isQueued(fd, unix.SIOCINQ) })
	return unread
}

// CloseWrite tells the client that nothing more comes.
func (c *Conn) CloseWrite() (err error) {
	return errors.Join(c.control(func(fd int) { err = unix.Shutdown(fd, unix.SHUT_WR) }), err)
}

// control calls f with the descriptor, unless it is closed.
func (c *Conn) control(f func(fd int)) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) { f(int(fd)) })
}

// Close closes the socket, which ends Serve. It may be called twice.
func (l *Listener) Close() { l.socket.Close() }

// Serve calls answer for each connection of a host on the LAN. The answer must not wait,
// because nothing else is accepted meanwhile; rest, unless it is nil, is what is left to
// do on a goroutine of its own. Then the connection is closed. Serve returns when the
// socket is closed and the last connection has ended, but at once with an error: the
// caller closes what is open.
func (l *Listener) Serve(answer func(*Arrival) (rest func(*Conn))) error {
	var open sync.WaitGroup
	for {
		fd, from, err := l.accept()
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
		if a := l.admit(fd, from); a == nil {
			closeNow(fd)
		} else if rest := l.begin(a, answer); rest == nil {
			closeNow(fd)
		} else {
			open.Go(func() { l.finish(a, rest) })
		}
	}
}

// acceptFD waits for a connection.
func (l *Listener) acceptFD() (fd int, from syscall.Sockaddr, err error) {
	if l.row++; l.row > maxRow {
		l.row = 0
		time.Sleep(rowPause)
	}
	raw, err := l.socket.SyscallConn()
	if err != nil {
		return -1, nil, net.ErrClosed
	}
	closed := raw.Read(func(socket uintptr) bool {
		fd, from, err = syscall.Accept4(int(socket), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC) // that of unix asks for the protocol, too
		if err == unix.EAGAIN {
			l.row = 0
		}
		return err != unix.EAGAIN
	})
	if closed != nil {
		return -1, nil, net.ErrClosed
	}
	return fd, from, err
}

// begin calls answer. Nothing is left to do for a connection with a fault.
func (l *Listener) begin(a *Arrival, answer func(*Arrival) (rest func(*Conn))) (rest func(*Conn)) {
	defer Recover(l.hosts.log, a.Client, func() {})
	return answer(a)
}

// finish does the rest for a connection, and closes it.
func (l *Listener) finish(a *Arrival, rest func(*Conn)) {
	c := &Conn{a.Peer, os.NewFile(uintptr(a.fd), "connection")}
	defer c.Close()
	defer Recover(l.hosts.log, a.Client, func() {})
	rest(c)
}

// admit returns the connection of a host on the interface's networks to the router's
// own address there; nil for any other, and for one that gets no answer.
func (l *Listener) admit(fd int, from syscall.Sockaddr) *Arrival {
	to, err := syscall.Getsockname(fd)
	if err != nil {
		return nil
	}
	client := addrPort(from)
	a := &Arrival{Peer{Client: client.Addr(), Local: addrPort(to).Addr()}, fd}
	own := l.on.Prefixes()
	if !IsOwn(own, a.Local) || !IsClient(own, l.hosts.routed(l.on), client) {
		l.hosts.log.Warn(fmt.Sprintf("HTTP peer %v is not from a LAN, closing the connection", a.Client), "client", a.Client)
		return nil
	}
	if l.hosts.hides(l.on.Index(), a.Client) {
		return nil
	}
	a.Host = l.hosts.Of(l.on.Index(), a.Client)
	return a
}

// addrPort returns the address of a TCP endpoint, IPv4 as IPv4, without zone.
func addrPort(a syscall.Sockaddr) netip.AddrPort {
	switch a := a.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *syscall.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}
