// Package stun learns the public address of an uplink from a STUN server (RFC 8489).
package stun

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// The request is sent again after 500 ms, 1 s, 2 s … (RFC 8489, section 6.2.1)
// until totalTimeout ends.
const (
	firstTimeout = 500 * time.Millisecond
	totalTimeout = 15 * time.Second
)

// Lookup returns the IPv4 address that the server, "host:port", sees. The request is
// sent from the given address of an uplink; with the zero Addr the kernel chooses.
func Lookup(ctx context.Context, server string, from netip.Addr) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, totalTimeout)
	defer cancel()
	seen, err := query(ctx, server, from)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("stun: query %s: %w", server, err)
	}
	if !seen.Is4() || !seen.IsGlobalUnicast() {
		return netip.Addr{}, fmt.Errorf("stun: query %s: the server sees %v, which is not a unicast IPv4 address", server, seen)
	}
	return seen, nil
}

// query sends the request until the response comes or ctx ends.
func query(ctx context.Context, server string, from netip.Addr) (netip.Addr, error) {
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
	if _, err := unix.Getrandom(id[:], 0); err != nil {
		return netip.Addr{}, err
	}
	for timeout := firstTimeout; ; timeout *= 2 {
		if _, err := c.Write(appendRequest(nil, id)); err != nil {
			return netip.Addr{}, err
		}
		a, err := awaitResponse(ctx, c, id, timeout)
		switch {
		case ctx.Err() != nil:
			return netip.Addr{}, errors.New("no response")
		case errors.Is(err, os.ErrDeadlineExceeded):
		default:
			return a, err
		}
	}
}

// awaitResponse reads until the response to the request comes or timeout is over.
func awaitResponse(ctx context.Context, c net.Conn, id transactionID, timeout time.Duration) (netip.Addr, error) {
	c.SetReadDeadline(time.Now().Add(timeout))
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
