package leasefile

import (
	"bytes"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"igdd/pkg/portmap"
)

// maxLine is the longest line in octets, newline included: the status page
// reads that much at once and takes the rest for another line (AST-118).
const maxLine = 1023

// colon stands for the colon in descriptions: the status page splits at every
// real one and would show only what comes before it (AST-118). U+2236 looks
// the same.
const colon = '\u2236'

// The reasons for not taking a line of the lease file.
var (
	errFields   = errors.New("fewer than six fields")
	errTooLong  = errors.New("line is longer than 1,023 octets")
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
}

// key returns what the outside dials.
func (l lease) key() portmap.Key {
	return portmap.Key{Protocol: l.protocol, External: l.external}
}

// leaseOf returns m as the lease file shows it.
func leaseOf(m *portmap.Mapping, now clockReading) lease {
	l := lease{protocol: m.Protocol, external: m.External, internal: m.Internal, text: m.Description()}
	if end := m.Expires(); !end.IsZero() {
		// A lease never looks shorter than it is, and a time that is past
		// never looks like "for ever".
		l.expires = min(max((now.unixAt(end)+999)/1000, 1), maxExpiry)
	}
	return l
}

// maxExpiry is the last second that the format's readers can hold: miniupnpd
// keeps it in 32 bits (the year 2106).
const maxExpiry = 1<<32 - 1

// append adds the line to b. Whatever the text holds, it is one line of six
// fields that the status page shows whole.
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
	b = appendText(b, l.text, start+maxLine-1)
	return append(b, '\n')
}

// appendText adds as much of text to b as fits below the length limit.
func appendText(b []byte, text string, limit int) []byte {
	text = strings.TrimSpace(strings.Map(printableRune, text))
	if room := limit - len(b); len(text) > room {
		text = strings.TrimSpace(truncate(text, room))
	}
	return append(b, text...)
}

// printableRune returns r, or what the lease file has in its place: a blank for what
// is not printable, invalid UTF-8 as U+FFFD.
func printableRune(r rune) rune {
	switch {
	case r == ':':
		return colon
	case !unicode.IsPrint(r):
		return ' '
	}
	return r
}

// truncate shortens s to so many octets at most, at a rune boundary.
func truncate(s string, octets int) string {
	if len(s) <= octets {
		return s
	}
	for octets > 0 && !utf8.RuneStart(s[octets]) {
		octets--
	}
	return s[:octets]
}

// parseLease reads a line without its newline. Blanks around the line and a
// carriage return are tolerated; a line that lacks the colon after the expiry
// is not, because it may be one that was cut off.
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
	return l, nil
}

// blankControl keeps control characters that others wrote out of descriptions.
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
