package netlab

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"time"
)

// repeatAfter is after what time Ask repeats a request. It is longer than the daemon takes
// to refuse one while the firewall is locked: tests demand that it has no effect later.
const repeatAfter = 25 * time.Second

// Ask sends a request from a socket until there is a reply, and returns none after some
// time without one. It repeats the request as clients do (RFC 6886, section 3.1): one is
// lost when the kernel's neighbour table, which all namespaces share, is full.
func Ask(c *net.UDPConn, to netip.AddrPort, request []byte, within time.Duration) (reply []byte, from netip.AddrPort, err error) {
	buf := make([]byte, 4096)
	for end := time.Now().Add(within); time.Now().Before(end); {
		if _, err := c.WriteToUDPAddrPort(request, to); err != nil {
			return nil, from, err
		}
		c.SetReadDeadline(time.Now().Add(min(time.Until(end), repeatAfter)))
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return buf[:n:n], from, err
		}
	}
	return nil, from, nil
}
