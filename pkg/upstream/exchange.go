package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/pcp"
)

// retransmits are how long a reply is awaited after each time that a request is sent: RFC
// 6886, section 3.1, ended after six seconds. PCP's own times (RFC 6887, section 8.1.1) begin
// at three seconds, too late for a client that waits.
var retransmits = [...]time.Duration{
	250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 2250 * time.Millisecond,
}

// maxRefusals is how many requests of one exchange are refused, because nobody serves the
// port, until it is given up: the router may be restarting.
const maxRefusals = 3

// dialer returns a dialer of sockets from the uplink's own address, by the uplink. What
// they send ends at the gateway, which is one hop away.
func (g Gateway) dialer(local net.Addr) *net.Dialer {
	return &net.Dialer{LocalAddr: local, Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		controlErr := c.Control(func(fd uintptr) {
			if err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, 1); err == nil && g.Device != "" {
				err = unix.BindToDevice(int(fd), g.Device)
			}
		})
		return errors.Join(controlErr, err)
	}}
}

// server is the UDP port of a gateway that serves NAT-PMP and PCP.
type server struct {
	gateway Gateway
	port    uint16
}

// hurry does nothing: requests have no limits here.
func (s server) hurry() {}

// exchange sends a request, from a port of its own, until accept takes a reply for its
// answer. The error is a *routerError with cause silent, or that of ctx.
func (s server) exchange(ctx context.Context, request []byte, accept func(reply []byte) bool) error {
	at := netip.AddrPortFrom(s.gateway.Address, s.port)
	local := net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.gateway.Local, 0))
	conn, err := s.gateway.dialer(local).DialContext(ctx, "udp4", at.String())
	if err != nil {
		return unsent(ctx, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	refusals := 0
	for _, wait := range retransmits {
		err = send(conn, request)
		accepted, refused := receive(conn, time.Now().Add(wait), accept)
		switch {
		case accepted:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case refused:
			refusals++
		}
		if refusals == maxRefusals {
			return &routerError{cause: silent, reason: fmt.Sprintf("the router in front, %v, serves neither PCP nor NAT-PMP", s.gateway.Address)}
		}
	}
	if err != nil {
		return unsent(ctx, err)
	}
	return &routerError{cause: silent, reason: fmt.Sprintf("the router in front, %v, does not answer", s.gateway.Address)}
}

// errFirewall is the error of a request that a rule of this router rejects or drops.
var errFirewall = &routerError{cause: silent, reason: "this router's own firewall lets nothing out to the router in front (OUTPUT)"}

// unsent returns the error of a request that cannot be sent.
func unsent(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, unix.EPERM) {
		return errFirewall
	}
	return &routerError{cause: silent, reason: fmt.Sprintf("the router in front cannot be asked: %v", withoutPorts(err))}
}

// withoutPorts returns a network error without the addresses and ports that it names, so
// that the same error reads the same each time.
func withoutPorts(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

// send sends a request. An error of the one before, which an ICMP message told, comes
// first and is no reason not to.
func send(conn net.Conn, request []byte) error {
	if _, err := conn.Write(request); err == nil {
		return nil
	}
	_, err := conn.Write(request)
	return err
}

// receive reports whether accept takes a reply that arrives until then, and whether an
// ICMP message says that nobody serves the port.
func receive(conn net.Conn, until time.Time, accept func([]byte) bool) (accepted, refused bool) {
	conn.SetReadDeadline(until)
	var b [pcp.MaxLen + 1]byte
	for {
		n, err := conn.Read(b[:])
		switch {
		case err == nil && accept(b[:n]):
			return true, false
		case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
			return false, refused
		case errors.Is(err, unix.ECONNREFUSED):
			refused = true
		}
	}
}

// isOtherVersion reports whether a reply says, in the form of PCP or of NAT-PMP, that the
// server speaks another version than the one that was asked for (RFC 6887, appendix A).
func isOtherVersion(reply []byte, version byte) bool {
	const response, unsupportedVersion = 0x80, 1
	return len(reply) >= 8 && reply[0] != version && reply[1]&response != 0 && reply[3] == unsupportedVersion
}
