package netif

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"os"
	"strconv"
)

// tcpListen is TCP_LISTEN as /proc/net/tcp prints it.
const tcpListen = "0A"

// Listening returns the local ports at which the router's own programs answer
// packets sent to external: sockets of "tcp" that listen, all of "udp", bound
// to that address or to none.
func Listening(protocol string, external netip.Addr) []uint16 {
	var ports []uint16
	for _, table := range []string{protocol, protocol + "6"} {
		// The calling thread's own view, since a thread may be in another
		// network namespace. Without IPv6 the second table is missing.
		text, err := os.ReadFile("/proc/thread-self/net/" + table)
		if err != nil {
			continue
		}
		for line := range bytes.Lines(text) {
			if port, ok := listener(line, protocol == "tcp", external); ok {
				ports = append(ports, port)
			}
		}
	}
	return ports
}

// listener reads one line of /proc/net/{tcp,udp}: slot, local address, remote
// address, state, …
func listener(line []byte, stateful bool, external netip.Addr) (uint16, bool) {
	fields := bytes.Fields(line)
	if len(fields) < 4 || stateful && string(fields[3]) != tcpListen {
		return 0, false
	}
	address, port, ok := bytes.Cut(fields[1], []byte(":"))
	if !ok {
		return 0, false
	}
	bound, ok := kernelAddr(address)
	if !ok || !bound.IsUnspecified() && bound != external {
		return 0, false
	}
	n, err := strconv.ParseUint(string(port), 16, 16)
	return uint16(n), err == nil
}

// kernelAddr reads an address as the kernel prints it: 32-bit words of its
// own byte order in hexadecimal.
func kernelAddr(text []byte) (netip.Addr, bool) {
	raw := make([]byte, hex.DecodedLen(len(text)))
	if _, err := hex.Decode(raw, text); err != nil || len(raw)%4 != 0 {
		return netip.Addr{}, false
	}
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	a, ok := netip.AddrFromSlice(raw)
	return a.Unmap(), ok
}
