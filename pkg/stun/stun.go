// Package stun asks a STUN server (RFC 8489) from which address this router's
// packets reach the Internet.
package stun

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"
)

// The request is sent again after 500 ms, 1 s, 2 s … (RFC 8489, section 6.2.1)
// until patience ends.
const (
	firstWait = 500 * time.Millisecond
	patience  = 15 * time.Second
)

// Lookup returns the IPv4 address that the server, "host:port", sees. The
// request leaves from the given address of an uplink; the zero Addr lets the
// kernel choose.
func Lookup(ctx context.Context, server string, from netip.Addr) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	seen, err := ask(ctx, server, from)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("stun: ask %s: %w", server, err)
	}
	if !seen.Is4() || !seen.IsGlobalUnicast() {
		return netip.Addr{}, fmt.Errorf("stun: ask %s: it sees %v, which is no address of an uplink", server, seen)
	}
	return seen, nil
}

func ask(ctx context.Context, server string, from netip.Addr) (netip.Addr, error) {
	var d net.Dialer
	if from.IsValid() {
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	c, err := d.DialContext(ctx, "udp4", server)
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })()
	var id transactionID
	rand.Read(id[:])
	for wait := firstWait; ; wait *= 2 {
		if _, err := c.Write(appendRequest(nil, id)); err != nil {
			return netip.Addr{}, err
		}
		a, err := await(ctx, c, id, wait)
		switch {
		case ctx.Err() != nil:
			return netip.Addr{}, errors.New("no answer")
		case errors.Is(err, os.ErrDeadlineExceeded):
		default:
			return a, err
		}
	}
}

// await reads until the answer to the request comes or wait is over.
func await(ctx context.Context, c net.Conn, id transactionID, wait time.Duration) (netip.Addr, error) {
	c.SetReadDeadline(time.Now().Add(wait))
	if ctx.Err() != nil {
		return netip.Addr{}, ctx.Err()
	}
	b := make([]byte, 1500)
	for {
		n, err := c.Read(b)
		if err != nil {
			return netip.Addr{}, err
		}
		if a, err := parseResponse(b[:n], id); !errors.Is(err, errNotOurs) {
			return a, err
		}
	}
}
