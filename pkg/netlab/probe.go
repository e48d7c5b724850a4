package netlab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// How long a probe waits. A reply takes a millisecond unless the machine is busy,
// and so does a rejection; what is dropped is never answered.
const (
	patience = 10 * time.Second // for an answer that is expected
	silence  = 300 * time.Millisecond
	again    = 100 * time.Millisecond // between datagrams that may have been lost
)

// Echo answers at address until the test ends: every connection and every
// datagram with the address that it came from, as seen here. The network is
// "tcp" or "udp".
func (n *Namespace) Echo(t testing.TB, network, address string) {
	t.Helper()
	var err error
	switch network {
	case "tcp":
		err = n.echoTCP(t, address)
	case "udp":
		err = n.echoUDP(t, address)
	default:
		err = net.UnknownNetworkError(network)
	}
	if err != nil {
		t.Fatalf("netlab: echo in %s: %v", n.Name, err)
	}
}

func (n *Namespace) echoTCP(t testing.TB, address string) error {
	var l net.Listener
	err := n.Listen(func() (err error) { l, err = net.Listen("tcp", address); return err })
	if err != nil {
		return err
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, c.RemoteAddr())
			c.Close()
		}
	}()
	return nil
}

func (n *Namespace) echoUDP(t testing.TB, address string) error {
	var c net.PacketConn
	err := n.Listen(func() (err error) { c, err = net.ListenPacket("udp", address); return err })
	if err != nil {
		return err
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 64)
		for {
			_, from, err := c.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				c.WriteTo([]byte(from.String()), from)
			}
		}
	}()
	return nil
}

// Probe is a connection attempt, or a datagram, to where an Echo may answer.
type Probe struct {
	Network string // "tcp" or "udp"
	From    *Namespace
	Source  netip.AddrPort // optional: what From sends from; port 0 is any
	To      netip.AddrPort
}

// Arrives demands that the probe arrives, and returns the source that the
// echo saw.
func (p Probe) Arrives(t testing.TB) netip.AddrPort {
	t.Helper()
	seen, err := p.send(patience)
	if err != nil {
		t.Fatalf("%v does not arrive: %v", p, err)
	}
	return seen
}

// Blocked demands that the probe is sent, and does not arrive.
func (p Probe) Blocked(t testing.TB) {
	t.Helper()
	seen, err := p.send(silence)
	switch unsent := (*os.SyscallError)(nil); {
	case err == nil:
		t.Fatalf("%v arrives, as from %v", p, seen)
	case errors.As(err, &unsent) && unsent.Syscall == "bind":
		t.Fatalf("%v was not sent: %v", p, err)
	}
}

// String names the probe in messages.
func (p Probe) String() string {
	return fmt.Sprintf("%s from %s %v to %v", p.Network, p.From.Name, p.Source, p.To)
}

// send returns what an echo answers within d.
func (p Probe) send(d time.Duration) (netip.AddrPort, error) {
	c, err := p.dial(d)
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer hangUp(c)
	wait, deadline := d, time.Now().Add(d)
	if p.Network == "udp" {
		wait = again
	}
	buf := make([]byte, 64)
	for {
		if _, err := c.Write([]byte("?")); err != nil {
			return netip.AddrPort{}, err
		}
		c.SetReadDeadline(time.Now().Add(wait))
		n, err := c.Read(buf)
		if err == nil {
			return netip.ParseAddrPort(string(buf[:n]))
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().After(deadline) {
			return netip.AddrPort{}, err
		}
	}
}

// dial opens the probe's socket in its namespace, and connects within d. The source port may be busy for a
// moment: a program that is just being started has the socket of an earlier probe until it
// is executed.
func (p Probe) dial(d time.Duration) (c net.Conn, err error) {
	dialer := net.Dialer{Timeout: d}
	if p.Source.IsValid() && p.Network == "tcp" {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(p.Source)
	} else if p.Source.IsValid() {
		dialer.LocalAddr = net.UDPAddrFromAddrPort(p.Source)
	}
	for end := time.Now().Add(patience); ; runtime.Gosched() {
		err = p.From.Do(func() error { c, err = dialer.Dial(p.Network, p.To.String()); return err })
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(end) {
			return c, err
		}
	}
}

// hangUp closes a probe's socket without the states that follow a connection.
func hangUp(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	c.Close()
}
