package leasefile

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"igdd/pkg/portmap"
)

// maxLine is the length of the longest line in bytes, newline included: the
// status page reads that much at once and takes the rest for another line
// (AST-118).
const maxLine = 1023

// colon replaces the colon in descriptions: the status page splits lines at
// colons and would show only the part before it (AST-118). U+2236 looks the
// same.
const colon = '\u2236'

// restrictedMark ends the description of a mapping that lets fewer remote hosts
// in than its line says: the state file has which. Without that the mapping is
// dropped, so that it is never open to more. A client's own text may look alike:
// then its mapping is dropped too.
const restrictedMark = "[restricted]"

// The reasons why a line of the lease file is skipped.
var (
	errFields   = errors.New("fewer than six fields")
	errTooLong  = errors.New("line is longer than 1,023 bytes")
	errProtocol = errors.New("protocol is neither TCP nor UDP")
	errPort     = errors.New("port is not a number from 1 to 65535")
	errAddress  = errors.New("address is not an IPv4 address")
	errExpiry   = errors.New("expiry is not a number of seconds since 1970")
	errTaken    = errors.New("external port is already taken by an earlier line")
)

// lease is one line of the lease file (MUP-130):
//
//	PROTOCOL:EXTERNAL:ADDRESS:PORT:EXPIRES:DESCRIPTION
type lease struct {
	protocol portmap.Protocol
	external uint16
	internal netip.AddrPort
	expires  int64 // Unix seconds; 0: never
	text     string
	// restricted is set if some remote hosts may not use the mapping.
	restricted bool
}

// key returns the key of the mapping.
func (l lease) key() portmap.Key {
	return portmap.Key{Protocol: l.protocol, External: l.external}
}

// leaseOf returns the line of m in the lease file.
func leaseOf(m *portmap.Mapping, now clockReading) lease {
	l := lease{protocol: m.Protocol, external: m.External, internal: m.Internal, text: m.Description()}
	l.restricted = slices.ContainsFunc(m.Claims, isRestricted)
	if end := m.Expires(); !end.IsZero() {
		// Rounded up, so that a lease never looks expired before it is, and
		// at least 1, since 0 means for ever.
		l.expires = min(max((now.unixAt(end)+999)/1000, 1), maxExpiry)
	}
	return l
}

// isRestricted reports whether some remote hosts, or all, may not use the
// mapping by an inbound claim. While a mapping has another claim they may, but
// the line does not say until when.
func isRestricted(c portmap.Claim) bool {
	return !c.Outbound() && (c.Disabled || len(c.Filters) > 0)
}

// maxExpiry is the latest expiry that readers of the format accept: miniupnpd
// stores it in 32 bits (the year 2106).
const maxExpiry = 1<<32 - 1

// append appends the line to b. Whatever the description contains, it is one
// line of six fields, all of which the status page shows.
func (l lease) append(b []byte) []byte {
	start := len(b)
	b = append(b, l.protocol.String()...)
	b = append(b, ':')
	b = strconv.AppendUint(b, uint64(l.external), 10)
	b = append(b, ':')
	b = l.internal.Addr().AppendTo(b)
	b = append(b, ':')
	b = strconv.AppendUint(b, uint64(l.internal.Port()), 10)
	b = append(b, ':')
	b = strconv.AppendInt(b, l.expires, 10)
	b = append(b, ':')
	end := "\n"
	if l.restricted {
		end = " " + restrictedMark + "\n"
	}
	b = appendText(b, l.text, start+maxLine-len(end))
	return append(b, end...)
}

// appendText appends to b as much of text as fits into a length of limit.
func appendText(b []byte, text string, limit int) []byte {
	text = strings.TrimSpace(strings.Map(printableRune, text))
	if room := limit - len(b); len(text) > room {
		text = strings.TrimSpace(truncate(text, room))
	}
	return append(b, text...)
}

// printableRune returns r as descriptions in the lease file have it: a blank
// replaces what is not printable, U+2236 a colon.
func printableRune(r rune) rune {
	switch {
	case r == ':':
		return colon
	case !unicode.IsPrint(r):
		return ' '
	}
	return r
}

// truncate shortens s to at most so many bytes, at a rune boundary.
func truncate(s string, size int) string {
	if len(s) <= size {
		return s
	}
	for size > 0 && !utf8.RuneStart(s[size]) {
		size--
	}
	return s[:size]
}

// parseLease parses a line without its newline. Blanks around it and a carriage
// return are ignored. A line without the colon after the expiry is an error,
// because it may have been truncated.
func parseLease(line []byte) (lease, error) {
	f := bytes.SplitN(bytes.TrimSpace(line), []byte(":"), 6)
	if len(f) < 6 {
		return lease{}, errFields
	}
	var l lease
	var err error
	if l.protocol, err = parseProtocol(string(f[0])); err != nil {
		return lease{}, err
	}
	if l.external, err = parsePort(string(f[1])); err != nil {
		return lease{}, err
	}
	host, err := netip.ParseAddr(string(f[2]))
	if err != nil || !host.Is4() {
		return lease{}, errAddress
	}
	port, err := parsePort(string(f[3]))
	if err != nil {
		return lease{}, err
	}
	l.internal = netip.AddrPortFrom(host, port)
	expires, err := strconv.ParseUint(string(f[4]), 10, 32)
	if err != nil {
		return lease{}, errExpiry
	}
	l.expires = int64(expires)
	l.text = strings.TrimSpace(strings.Map(blankControl, string(f[5])))
	l.text, l.restricted = strings.CutSuffix(l.text, restrictedMark)
	l.text = strings.TrimSpace(l.text)
	return l, nil
}

// blankControl returns a blank for a control character, as in descriptions that
// another program wrote.
func blankControl(r rune) rune {
	if unicode.IsControl(r) {
		return ' '
	}
	return r
}

func parseProtocol(s string) (portmap.Protocol, error) {
	for _, p := range []portmap.Protocol{portmap.TCP, portmap.UDP} {
		if strings.EqualFold(s, p.String()) {
			return p, nil
		}
	}
	return 0, errProtocol
}

func parsePort(s string) (uint16, error) {
	port, err := strconv.ParseUint(s, 10, 16)
	if err != nil || port == 0 {
		return 0, errPort
	}
	return uint16(port), nil
}
