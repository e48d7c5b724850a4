package config

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"
)

// networkOf returns the network of an address and a mask as busybox's ipcalc
// does, which AstLinux uses: both are parsed like inet_aton, and the prefix
// length is the number of ones in the mask, wherever they are. With a valid
// network the error is only a warning.
func networkOf(address, mask string) (netip.Prefix, error) {
	a, known := aton(address)
	if !known {
		return netip.Prefix{}, fmt.Errorf("invalid IPv4 address %q, no host there may map ports", address)
	}
	m, known := aton(mask)
	if !known {
		return netip.Prefix{}, fmt.Errorf("invalid mask %q, no host there may map ports", mask)
	}
	n := bits.OnesCount32(m)
	network := netip.PrefixFrom(dotted(a&m), n)
	if m != prefixMask(n) {
		return network, fmt.Errorf("mask %q is not contiguous: hosts in %v may map ports", mask, network)
	}
	return network, nil
}

// dotted returns the address with this number.
func dotted(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

// aton parses an address like inet_aton(3): one to four numbers between dots,
// the last of which fills the remaining bytes.
func aton(s string) (uint32, bool) {
	parts := strings.Split(s, ".")
	if len(parts) > 4 {
		return 0, false
	}
	var address uint32
	for i, part := range parts {
		size := 8
		if i == len(parts)-1 {
			size = 32 - 8*i
		}
		n, err := parseC(part, size)
		if err != nil {
			return 0, false
		}
		address |= uint32(n) << (32 - 8*i - size)
	}
	return address, true
}

// parseC parses a number in the syntax of C: decimal, octal or hexadecimal.
func parseC(s string, size int) (uint64, error) {
	base := 10
	switch {
	case len(s) > 2 && (s[:2] == "0x" || s[:2] == "0X"):
		s, base = s[2:], 16
	case len(s) > 1 && s[0] == '0':
		s, base = s[1:], 8
	}
	return strconv.ParseUint(s, base, size)
}
