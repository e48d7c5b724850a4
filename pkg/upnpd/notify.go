package upnpd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// deliverWithin limits the time until a subscriber's response (UDA 1.1, section 4.3.2).
const deliverWithin = 30 * time.Second

// errUnknown is the response of a control point that no longer knows its subscription.
var errUnknown = errors.New("upnpd: subscriber answers 412")

// errNoAnswer is that a control point has taken a message and does not answer.
var errNoAnswer = errors.New("upnpd: subscriber does not answer")

// dialer connects to a subscriber.
type dialer func(sub *subscription, ctx context.Context, to netip.AddrPort) (net.Conn, error)

// notify sends a message to the first callback that accepts it.
func (sub *subscription) notify(ctx context.Context, dial dialer, seq uint32, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, deliverWithin)
	defer cancel()
	var err error
	for _, to := range sub.callbacks {
		if err = sub.post(ctx, dial, to, seq, body); err == nil || ctx.Err() != nil {
			break
		}
	}
	return err
}

// post sends a message to one callback and waits for its response. Only a 412 is an
// error.
func (sub *subscription) post(ctx context.Context, dial dialer, to callback, seq uint32, body []byte) error {
	c, err := dial(sub, ctx, to.to)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := c.Write(sub.notifyMessage(to, seq, body)); err != nil {
		return err
	}
	return readAnswer(c)
}

// dial connects to a subscriber from the address that it connected to, on the same
// interface.
func (sub *subscription) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	local := sub.local
	if local.IsLinkLocalUnicast() && local.Is6() {
		local = local.WithZone(sub.device)
		to = netip.AddrPortFrom(to.Addr().WithZone(sub.device), to.Port())
	}
	dialer := net.Dialer{
		KeepAlive: -1,
		LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0)),
		Control: func(_, _ string, c syscall.RawConn) (err error) {
			controlErr := c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), sub.device) })
			return errors.Join(controlErr, err)
		},
	}
	return dialer.DialContext(ctx, "tcp", to.String())
}

// notifyMessage returns the octets of a NOTIFY (UDA 1.1, section 4.3.2).
func (sub *subscription) notifyMessage(to callback, seq uint32, body []byte) []byte {
	out := fmt.Appendf(nil, "NOTIFY %s HTTP/1.1\r\nHost: %s\r\n%sContent-Length: %d\r\n", to.path, to.host, xmlType, len(body))
	out = fmt.Appendf(out, "NT: upnp:event\r\nNTS: upnp:propchange\r\nSID: %s\r\nSEQ: %d\r\nConnection: close\r\n\r\n", sub.sid, seq)
	return append(out, body...)
}

// readAnswer reads the head of a subscriber's response. Only the status matters: some
// reset the connection right after it.
func readAnswer(c io.Reader) error {
	b := bufio.NewReader(io.LimitReader(c, maxHead))
	line, err := b.ReadString('\n')
	if err != nil {
		return fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[0], "HTTP/") && f[1] == "412" {
		return errUnknown
	}
	for err == nil && len(line) > len("\r\n") {
		line, err = b.ReadString('\n')
	}
	return nil
}
