package ssdp

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Search is the content of an M-SEARCH.
type Search struct {
	Target Target
	// MaxWait is the time that the client waits for answers: MX, at most
	// MaxWait. A search to one device has none (section 1.3.2).
	MaxWait time.Duration
}

// ParseSearch parses a datagram that was sent to the address to. It returns ErrIgnore
// for anything but a search, such as notices and responses of others, and for an
// ambiguous search.
// Clients deviate from the standard. These forms are accepted: other blanks in the
// first line, a MAN without quotes or in capitals, lines that end in LF only, a last
// line without its end, a missing empty line, and NUL octets at the end.
func ParseSearch(b []byte, to netip.Addr) (Search, error) {
	line, rest := cutLine(bytes.TrimRight(b, "\x00"))
	if len(b) > MaxLen || !isStartLine(line) {
		return Search{}, ErrIgnore
	}
	var f fields
	if !parseFields(rest, f.named) || !isDiscover(f.man) {
		return Search{}, ErrIgnore
	}
	var s Search
	var ok bool
	if to.IsMulticast() {
		if s.MaxWait, ok = parseMX(string(trim(f.mx))); !ok {
			return Search{}, ErrIgnore
		}
	}
	if s.Target, ok = ParseTarget(string(trim(f.st))); !ok {
		return Search{}, ErrIgnore
	}
	return s, nil
}

// isStartLine reports whether a line is the first of a search. Blanks around
// the request target and after the version are ignored.
func isStartLine(line []byte) bool {
	rest, search := bytes.CutPrefix(line, []byte("M-SEARCH"))
	version, everything := bytes.CutPrefix(trim(rest), []byte("*"))
	return search && everything && string(trim(version)) == "HTTP/1.1"
}

// isDiscover reports whether a MAN is that of a search. Quotes, blanks and case are
// ignored.
func isDiscover(man []byte) bool {
	word := strings.Map(func(r rune) rune {
		if strings.ContainsRune(`"'`+blanks, r) {
			return -1
		}
		return r
	}, string(man))
	return strings.EqualFold(word, "ssdp:discover")
}

// fields are the relevant header fields of a search; nil is a missing one.
type fields struct{ man, mx, st []byte }

// blanks are what may surround a value: white space, and the line end of a folded
// line (RFC 2616, section 2.2, LWS).
const blanks = " \t\r\n"

// trim removes the blanks at both ends.
func trim(b []byte) []byte { return bytes.Trim(b, blanks) }

// parseFields reads the header up to the empty line or the end: the value of each field
// that has a place, which is nil for fields that are not relevant. A message that
// repeats a field with another value is ambiguous and refused.
func parseFields(b []byte, place func(name []byte) *[]byte) bool {
	for len(b) > 0 {
		var line []byte
		if line, b = cutLine(b); len(line) == 0 {
			break
		}
		name, value, whole := bytes.Cut(line, []byte(":"))
		if field := place(name); whole && field != nil {
			if *field != nil && !bytes.Equal(trim(*field), trim(value)) {
				return false
			}
			*field = value
		}
	}
	return true
}

// named returns the place of a field, nil for fields that are not relevant.
func (f *fields) named(name []byte) *[]byte {
	switch {
	case bytes.EqualFold(name, []byte("MAN")):
		return &f.man
	case bytes.EqualFold(name, []byte("MX")):
		return &f.mx
	case bytes.EqualFold(name, []byte("ST")):
		return &f.st
	}
	return nil
}

// cutLine returns the first line without its end, which is LF and any CR before
// it; the last line may have none. Lines that begin with a blank belong to the
// one before, unless that is empty.
func cutLine(b []byte) (line, rest []byte) {
	for n := 0; ; {
		end := bytes.IndexByte(b[n:], '\n')
		if end < 0 {
			return bytes.TrimRight(b, "\r"), nil
		}
		line, n = bytes.TrimRight(b[:n+end], "\r"), n+end+1
		if len(line) == 0 || n == len(b) || b[n] != ' ' && b[n] != '\t' {
			return line, b[n:]
		}
	}
}

// parseMX parses a number of seconds of any size.
func parseMX(s string) (time.Duration, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	if err != nil { // too large for an int
		return MaxWait, true
	}
	return time.Duration(min(n, int(MaxWait/time.Second))) * time.Second, true
}
