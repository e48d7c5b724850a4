package portmap

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxDescription is the length of a stored description, in bytes; RFC 7220,
// section 3, requires at least 128.
const maxDescription = 256

// StoredDescription returns what is stored of a client's description: its first
// 256 bytes at most, without splitting a character, with the rune control in
// place of line breaks and other control characters (negative: nothing). It
// shares no memory with text.
func StoredDescription(text string, control rune) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return control
		}
		return r
	}, text)
	end := min(len(text), maxDescription)
	for end < len(text) && !utf8.RuneStart(text[end]) {
		end--
	}
	return strings.Clone(text[:end])
}
