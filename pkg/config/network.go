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
// the mask are counted wherever they stand.
func networkOf(address, mask string) (netip.Addr, int, error) {
	a, ok := aton(address)
	if !ok {
		return netip.Addr{}, 0, fmt.Errorf("%q is no IPv4 address, nobody there may map ports", address)
	}
	m, ok := aton(mask)
	if !ok {
		return netip.Addr{}, 0, fmt.Errorf("%q is no mask, nobody there may map ports", mask)
	}
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], a&m)
	return netip.AddrFrom4(b), bits.OnesCount32(m), nil
}

// aton reads an address as inet_aton(3) does: one to four numbers, decimal,
// octal or hexadecimal, the last of which fills what the others leave.
func aton(s string) (uint32, bool) {
	parts := strings.Split(s, ".")
	if len(parts) > 4 {
		return 0, false
	}
	var address uint64
	for i, part := range parts {
		size := 8
		if i == len(parts)-1 {
			size = 8 * (4 - i)
		}
		n, err := strconv.ParseUint(part, 0, size)
		if err != nil || strings.Contains(part, "_") || strings.ContainsAny(part, "oObB") && !strings.HasPrefix(strings.ToLower(part), "0x") {
			return 0, false
		}
		address |= n << (8 * (3 - i))
		if i == len(parts)-1 {
			address = address &^ (n << (8 * (3 - i)))
			address |= n
		}
	}
	return uint32(address), true
}
