package netlink

import (
	"encoding/binary"
	"iter"

	"golang.org/x/sys/unix"
)

// typeFlags are the bits of an attribute's type that are none of the type.
const typeFlags = unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER

// Attributes yields the attributes in b, their types without the flags
// (NLA_F_NESTED …), as far as they are well-formed. Values are parts of b; that
// of a nested attribute is attributes again.
func Attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofNlAttr {
			length := int(binary.NativeEndian.Uint16(b))
			if length < unix.SizeofNlAttr || length > len(b) {
				return
			}
			if !yield(binary.NativeEndian.Uint16(b[2:])&^typeFlags, b[unix.SizeofNlAttr:length:length]) {
				return
			}
			b = b[min(len(b), align(length)):]
		}
	}
}

// Attribute returns the value of the first attribute of a type in b, or nil.
func Attribute(b []byte, kind uint16) []byte {
	for k, value := range Attributes(b) {
		if k == kind {
			return value
		}
	}
	return nil
}

// AppendAttribute appends an attribute, padded to a multiple of four octets. Its
// type may carry flags.
func AppendAttribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofNlAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	return append(b, make([]byte, align(len(value))-len(value))...)
}
