package upnp

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// sha1 returns the SHA-1 of a message (FIPS 180-4, section 6.1), for UUIDs of names,
// where collisions do no harm. The standard library's brings all of Go's FIPS module along,
// 150 kB on ARM and 32 MB of address space.
func sha1(message []byte) (sum [20]byte) {
	h := [5]uint32{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0}
	padded := append(slices.Clip(message), 0x80)
	for len(padded)%64 != 56 {
		padded = append(padded, 0)
	}
	padded = binary.BigEndian.AppendUint64(padded, 8*uint64(len(message)))
	for ; len(padded) > 0; padded = padded[64:] {
		addBlock(&h, padded[:64])
	}
	for i, word := range h {
		binary.BigEndian.PutUint32(sum[4*i:], word)
	}
	return sum
}

// addBlock has the hash value include the next 64 octets of the padded message.
func addBlock(h *[5]uint32, block []byte) {
	var w [80]uint32
	for i := range w {
		if i < 16 {
			w[i] = binary.BigEndian.Uint32(block[4*i:])
		} else {
			w[i] = bits.RotateLeft32(w[i-3]^w[i-8]^w[i-14]^w[i-16], 1)
		}
	}
	a, b, c, d, e := h[0], h[1], h[2], h[3], h[4]
	for i, word := range w {
		t := bits.RotateLeft32(a, 5) + mix(i, b, c, d) + e + word
		a, b, c, d, e = t, a, bits.RotateLeft32(b, 30), c, d
	}
	for i, v := range [5]uint32{a, b, c, d, e} {
		h[i] += v
	}
}

// mix returns the function of round i, with its constant (sections 4.1.1 and 4.2.1).
func mix(i int, b, c, d uint32) uint32 {
	switch i / 20 {
	case 0:
		return (b&c ^ ^b&d) + 0x5a827999
	case 1:
		return (b ^ c ^ d) + 0x6ed9eba1
	case 2:
		return (b&c ^ b&d ^ c&d) + 0x8f1bbcdc
	}
	return (b ^ c ^ d) + 0xca62c1d6
}
