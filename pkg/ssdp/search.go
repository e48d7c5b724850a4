package ssdp

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Search is what an M-SEARCH asks.
type Search struct {
	Target Target
	// MaxWait is the time that the client waits for answers: MX, at most
	// MaxWait. A search to one device has none (section 1.3.2).
	MaxWait time.Duration
}

// ParseSearch reads a datagram that was sent to the address to. It returns
// ErrIgnore for all that is not a search, notices and answers of others among
// them, and for a search that could be read in two ways.
//
// Programs in the field spell searches in ways that the standard does not know.
// These are taken: other blanks in the first line, a MAN without quotes or in
// capitals, lines that end in LF alone, a last line without its end, a missing
// empty line, and zeros at the end, as of a string in C.
func ParseSearch(b []byte, to netip.Addr) (Search, error) {
	line, rest := cutLine(bytes.TrimRight(b, "\x00"))
	if len(b) > MaxLen || !isStartLine(line) {
		return Search{}, ErrIgnore
	}
	f, ok := parseFields(rest)
	if !ok || !isDiscover(f.man) {
		return Search{}, ErrIgnore
	}
	var s Search
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

// isStartLine reports whether a line is the first of a search. Blanks around the
// request target and behind the version do not count.
func isStartLine(line []byte) bool {
	rest, search := bytes.CutPrefix(line, []byte("M-SEARCH"))
	version, everything := bytes.CutPrefix(trim(rest), []byte("*"))
	return search && everything && string(trim(version)) == "HTTP/1.1"
}

// isDiscover reports whether a MAN is that of a search. Quotes, blanks and case
// do not count.
func isDiscover(man []byte) bool {
	word := strings.Map(func(r rune) rune {
		if strings.ContainsRune(`"'`+blanks, r) {
			return -1
		}
		return r
	}, string(man))
	return strings.EqualFold(word, "ssdp:discover")
}

// fields are the header fields that count in a search; nil is a missing one.
type fields struct{ man, mx, st []byte }

// blanks are what may surround a value: white space, and the line end of a folded
// line (RFC 2616, section 2.2, LWS).
const blanks = " \t\r\n"

// trim takes the blanks off both ends.
func trim(b []byte) []byte { return bytes.Trim(b, blanks) }

// parseFields reads the header up to the empty line or the end. A field that
// stands twice with different values could be read in two ways: it is not taken.
func parseFields(b []byte) (f fields, ok bool) {
	for len(b) > 0 {
		var line []byte
		if line, b = cutLine(b); len(line) == 0 {
			break
		}
		name, value, whole := bytes.Cut(line, []byte(":"))
		if field := f.named(name); whole && field != nil {
			if *field != nil && !bytes.Equal(trim(*field), trim(value)) {
				return f, false
			}
			*field = value
		}
	}
	return f, true
}

// named returns where a field is kept, nil for those that are not.
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

// parseMX reads a number of seconds; one of any size is a number.
func parseMX(s string) (time.Duration, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	if err != nil { // too great for an int
		return MaxWait, true
	}
	return time.Duration(min(n, int(MaxWait/time.Second))) * time.Second, true
}
