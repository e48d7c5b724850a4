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
// ErrIgnore for all that is not a search, whole and correct; notices and
// answers of others among them. Lines may end in LF alone, and a search
// without its empty line at the end is taken: some clients send such.
func ParseSearch(b []byte, to netip.Addr) (Search, error) {
	line, rest, ok := cutLine(b)
	if !ok || len(b) > MaxLen || string(line) != "M-SEARCH * HTTP/1.1" {
		return Search{}, ErrIgnore
	}
	f, ok := parseFields(rest)
	if !ok || trim(f.man) != `"ssdp:discover"` {
		return Search{}, ErrIgnore
	}
	var s Search
	if to.IsMulticast() {
		if s.MaxWait, ok = parseMX(trim(f.mx)); !ok {
			return Search{}, ErrIgnore
		}
	}
	if s.Target, ok = ParseTarget(trim(f.st)); !ok {
		return Search{}, ErrIgnore
	}
	return s, nil
}

// fields are the header fields that count in a search; nil is a missing one.
type fields struct{ man, mx, st []byte }

// trim takes the optional blanks off a field's value.
func trim(value []byte) string { return string(bytes.Trim(value, " \t")) }

// parseFields reads the header up to the empty line or the end. A field that
// stands twice, or a folded line, could be read in two ways: neither is taken.
func parseFields(b []byte) (f fields, ok bool) {
	for {
		line, rest, whole := cutLine(b)
		if !whole || len(line) == 0 {
			return f, true
		}
		if line[0] == ' ' || line[0] == '\t' {
			return f, false
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if field := f.named(name); field != nil {
			if *field != nil {
				return f, false
			}
			*field = value
		}
		b = rest
	}
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

// cutLine returns the first line without its end, CRLF or LF. What has no end
// may be cut off: it is no line.
func cutLine(b []byte) (line, rest []byte, ok bool) {
	line, rest, ok = bytes.Cut(b, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), rest, ok
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
