package journal

import (
	"fmt"
	"hash/crc32"
)

// chain computes the checksums of the lines of a file, one after another. That of a line
// depends on the line before, so that one that is missing, doubled or in another place is
// noticed, and on the first line, so that fragments of an older file, which can appear
// after a power cut, do not match.
type chain struct {
	first, last uint32 // checksums of these lines; 0: there is none
}

// origin is what the checksum of the first line begins with; 0 in files of earlier
// versions, in which that of each other line depends on the first one only.
const origin = 0x69676464

// next returns the checksum of the next line.
func (c chain) next(text []byte) uint32 {
	if c == (chain{}) {
		return checksum(origin, text)
	}
	return checksum(c.first+c.last, text)
}

// with returns the chain with a line that has this checksum.
func (c chain) with(sum uint32) chain {
	if c == (chain{}) {
		c.first = sum
	}
	c.last = sum
	return c
}

// frame returns the next lines, and the chain with them.
func (c chain) frame(texts ...[]byte) ([]byte, chain) {
	var lines []byte
	for _, text := range texts {
		c = c.with(c.next(text))
		lines = fmt.Appendf(lines, "%08x ", c.last)
		lines = append(append(lines, text...), '\n')
	}
	return lines, c
}

func checksum(start uint32, text []byte) uint32 { return crc32.Update(start, crc32.IEEETable, text) }
