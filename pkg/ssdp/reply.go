package ssdp

import (
	"bytes"
	"net/netip"
)

// Reply is a device's response to a search.
type Reply struct {
	Target   Target
	Location string // URL of the description, as the device wrote it
}

// AppendSearch appends the search of a control point to one device (section 1.3.2). The
// standard has no MX in it, but some devices ignore a search without.
func AppendSearch(b []byte, device netip.AddrPort, t Target) []byte {
	b = append(b, "M-SEARCH * HTTP/1.1\r\n"...)
	b = appendField(b, "HOST", device.String())
	b = appendField(b, "MAN", `"ssdp:discover"`)
	b = appendField(b, "MX", "1")
	b = appendField(b, "ST", t.String())
	return append(b, "\r\n"...)
}

// ParseReply parses a datagram that a device sent after a search (section 1.3.3). ok is
// false for anything but a response with a target and a location.
// What ParseSearch tolerates is tolerated here, and HTTP/1.0.
func ParseReply(b []byte) (r Reply, ok bool) {
	line, rest := cutLine(bytes.TrimRight(b, "\x00"))
	var f replyFields
	if len(b) > MaxLen || !isSuccess(line) || !parseFields(rest, f.named) {
		return Reply{}, false
	}
	if r.Target, ok = ParseTarget(string(trim(f.st))); !ok {
		return Reply{}, false
	}
	r.Location = string(trim(f.location))
	return r, r.Location != ""
}

// isSuccess reports whether a line is the first of a response with status 200.
func isSuccess(line []byte) bool {
	version, status, _ := bytes.Cut(line, []byte(" "))
	status, _, _ = bytes.Cut(trim(status), []byte(" "))
	return string(status) == "200" && (string(version) == "HTTP/1.1" || string(version) == "HTTP/1.0")
}

// replyFields are the relevant header fields of a response; nil is a missing one.
type replyFields struct{ st, location []byte }

// named returns the place of a field, nil for fields that are not relevant.
func (f *replyFields) named(name []byte) *[]byte {
	switch {
	case bytes.EqualFold(name, []byte("ST")):
		return &f.st
	case bytes.EqualFold(name, []byte("LOCATION")):
		return &f.location
	}
	return nil
}
