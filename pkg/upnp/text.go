package upnp

import (
	"strings"
	"unicode/utf8"
)

// appendElement appends an element with text only.
func appendElement(b []byte, name, text string) []byte {
	b = appendStart(b, name)
	b = appendText(b, text)
	return appendEnd(b, name)
}

func appendStart(b []byte, name string) []byte {
	b = append(b, '<')
	b = append(b, name...)
	return append(b, '>')
}

func appendEnd(b []byte, name string) []byte {
	b = append(b, "</"...)
	b = append(b, name...)
	return append(b, '>')
}

// appendText appends text with escapes. Characters that XML does not allow become the
// replacement character.
func appendText(b []byte, text string) []byte {
	for i := 0; i < len(text); {
		if c := text[i]; c < utf8.RuneSelf {
			b = appendASCII(b, c)
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(text[i:])
		if !isChar(r) {
			r = utf8.RuneError
		}
		b = utf8.AppendRune(b, r)
		i += size
	}
	return b
}

// appendASCII appends one character. Line ends are escaped: parsers would normalize
// them.
func appendASCII(b []byte, c byte) []byte {
	switch c {
	case '&':
		return append(b, "&amp;"...)
	case '<':
		return append(b, "&lt;"...)
	case '>':
		return append(b, "&gt;"...)
	case '"':
		return append(b, "&quot;"...)
	case '\n':
		return append(b, "&#10;"...)
	case '\r':
		return append(b, "&#13;"...)
	}
	if !isChar(rune(c)) {
		return utf8.AppendRune(b, utf8.RuneError)
	}
	return append(b, c)
}

// isChar reports whether XML allows a character (XML 1.0, production 2).
func isChar(r rune) bool {
	return r >= ' ' && r <= 0xd7ff || r == '\t' || r == '\n' || r == '\r' ||
		r >= 0xe000 && r <= 0xfffd || r >= 0x10000 && r <= utf8.MaxRune
}

// label returns an administrator's text in the form of a description: one line, no
// blanks around it, at most so many bytes, truncated between characters.
func label(text string, most int) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return strings.TrimSpace(text[:most])
}
