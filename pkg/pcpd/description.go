package pcpd

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxDescription bounds stored texts, in octets; RFC 7220, section 3, asks for
// 128 at least.
const maxDescription = 256

// printable returns what is stored of a description: no line breaks or other
// control characters, no more than fits, and nothing of the memory of the rest.
func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, text)
	end := min(len(text), maxDescription)
	for end < len(text) && !utf8.RuneStart(text[end]) {
		end--
	}
	return strings.Clone(text[:end])
}
