package config

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"
)

// networkOf returns the network of an address under a mask as busybox's ipcalc
// has it, which AstLinux asks: both are read as inet_aton does, and the ones of
// the mask are counted, wherever they stand. The error may object to a mask
// that is taken all the same.
func networkOf(address, mask string) (netip.Prefix, error) {
	a, known := aton(address)
	if !known {
		return netip.Prefix{}, fmt.Errorf("%q is no IPv4 address, no host there may map ports", address)
	}
	m, known := aton(mask)
	if !known {
		return netip.Prefix{}, fmt.Errorf("%q is no mask, no host there may map ports", mask)
	}
	n := bits.OnesCount32(m)
	network := netip.PrefixFrom(dotted(a&m), n)
	if m != prefixMask(n) {
		return network, fmt.Errorf("mask %q has holes: hosts in %v may map ports", mask, network)
	}
	return network, nil
}

// dotted returns the address that is a number.
func dotted(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

// aton reads an address as inet_aton(3) does: one to four numbers between
// dots, the last of which fills what the others leave.
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

// parseC reads a number as C writes it: decimal, octal or hexadecimal.
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
