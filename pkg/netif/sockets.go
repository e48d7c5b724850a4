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

// Listening returns the local ports at which the router's own programs receive
// packets sent to external: the ports of listening sockets of "tcp", or of all
// sockets of "udp", that are bound to that address or to none.
func Listening(protocol string, external netip.Addr) []uint16 {
	var ports []uint16
	for _, table := range []string{protocol, protocol + "6"} {
		// The files of the thread, because it may be in another network namespace
		// than the process. Without IPv6 the second one is missing.
		text, err := os.ReadFile("/proc/thread-self/net/" + table)
		if err != nil {
			continue
		}
		for line := range bytes.Lines(text) {
			if port, ok := parseListener(line, protocol == "tcp", external); ok {
				ports = append(ports, port)
			}
		}
	}
	return ports
}

// parseListener decodes a line of /proc/net/{tcp,udp}: slot, local address, remote
// address, state, …
func parseListener(line []byte, stateful bool, external netip.Addr) (uint16, bool) {
	fields := bytes.Fields(line)
	if len(fields) < 4 || stateful && string(fields[3]) != tcpListen {
		return 0, false
	}
	address, port, ok := bytes.Cut(fields[1], []byte(":"))
	if !ok {
		return 0, false
	}
	bound, ok := decodeAddr(address)
	if !ok || !bound.IsUnspecified() && bound != external {
		return 0, false
	}
	n, err := strconv.ParseUint(string(port), 16, 16)
	return uint16(n), err == nil
}

// decodeAddr decodes an address as the kernel prints it: 32-bit words in native byte
// order, in hexadecimal.
func decodeAddr(text []byte) (netip.Addr, bool) {
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
