package upnp

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// UUID identifies a device permanently (UDA 1.1, section 1.1.4).
type UUID [16]byte

// ParseUUID reads the text form of RFC 4122, with or without "uuid:".
func ParseUUID(s string) (UUID, error) {
	var u UUID
	text := strings.TrimPrefix(s, "uuid:")
	if len(text) == 36 && text[8] == '-' && text[13] == '-' && text[18] == '-' && text[23] == '-' {
		digits := text[:8] + text[9:13] + text[14:18] + text[19:23] + text[24:]
		if n, err := hex.Decode(u[:], []byte(digits)); n == len(u) && err == nil {
			return u, nil
		}
	}
	return UUID{}, fmt.Errorf("upnp: %q is no UUID", s)
}

// namespace is the namespace of UUIDs of names, a random UUID.
var namespace = UUID{0x5a, 0x8d, 0x1e, 0x0b, 0x6c, 0x2f, 0x4e, 0x37, 0x9b, 0x14, 0xd3, 0x70, 0x42, 0xfe, 0xa9, 0x66}

// UUIDOf returns the UUID that belongs to a name, such as the hardware address
// of an interface: version 5 of RFC 4122, section 4.3.
func UUIDOf(name string) UUID {
	sum := sha1(append(namespace[:], name...))
	u := UUID(sum[:16])
	u[6], u[8] = u[6]&0x0f|0x50, u[8]&0x3f|0x80
	return u
}

// String returns the text form in lower case.
func (u UUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// embedded returns the UUID of the n-th device inside the root: the last octet
// is incremented modulo 256, so that one stored UUID is enough for all.
func (u UUID) embedded(n int) UUID {
	u[15] += byte(n)
	return u
}
