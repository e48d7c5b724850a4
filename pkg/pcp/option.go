package pcp

import (
	"encoding/binary"
	"net/netip"
	"unicode/utf8"
)

// optionCode is the code of an option (section 19.4).
type optionCode uint8

const (
	thirdParty    optionCode = 1
	preferFailure optionCode = 2
	filter        optionCode = 3
	description   optionCode = 128 // RFC 7220
)

// firstOptional begins the codes that a server may ignore (section 7.3).
const firstOptional optionCode = 128

// Lengths of option parts in octets.
const (
	optionHeaderLen   = 4
	thirdPartyLen     = 16
	filterLen         = 20
	maxDescriptionLen = 1016 // RFC 7220, section 3
)

// once reports whether a request may have the option only once.
func (c optionCode) once() bool { return c == thirdParty || c == preferFailure || c == description }

// Option is a ThirdParty, PreferFailure, Filter or Description.
type Option interface {
	code() optionCode
	appendData([]byte) []byte
	// fits checks the option against its request.
	fits(Request) error
}

// cutOption splits the first option off well-formed options.
func cutOption(b []byte) (code optionCode, data, rest []byte) {
	n := int(binary.BigEndian.Uint16(b[2:]))
	return optionCode(b[0]), b[optionHeaderLen : optionHeaderLen+n], b[optionHeaderLen+padded(n):]
}

// wellFormed reports whether b is nothing but whole options. Padding may hold
// anything.
func wellFormed(b []byte) bool {
	for len(b) > 0 {
		if len(b) < optionHeaderLen {
			return false
		}
		next := optionHeaderLen + padded(int(binary.BigEndian.Uint16(b[2:])))
		if next > len(b) {
			return false
		}
		b = b[next:]
	}
	return true
}

// padded rounds a length up to a multiple of 4 (section 7.3).
func padded(n int) int { return (n + 3) &^ 3 }

// parseOption decodes one option without regard to its request. It returns nil
// for one that may be ignored.
func parseOption(code optionCode, data []byte) (Option, error) {
	switch code {
	case thirdParty:
		if len(data) != thirdPartyLen {
			return nil, MalformedOption
		}
		return ThirdParty{Internal: address(data)}, nil
	case preferFailure:
		if len(data) != 0 {
			return nil, MalformedOption
		}
		return PreferFailure{}, nil
	case filter:
		return parseFilter(data)
	case description:
		return parseDescription(data)
	}
	if code < firstOptional {
		return nil, UnsuppOption
	}
	return nil, nil
}

func appendOptions(b []byte, options []Option) []byte {
	for _, o := range options {
		start := len(b)
		b = o.appendData(append(b, byte(o.code()), 0, 0, 0))
		n := len(b) - start - optionHeaderLen
		binary.BigEndian.PutUint16(b[start+2:], uint16(n))
		b = append(b, make([]byte, padded(n)-n)...)
	}
	return b
}

// ThirdParty names the host that a mapping is for, when it is not the sender
// (section 13.1).
type ThirdParty struct{ Internal netip.Addr }

func (ThirdParty) code() optionCode { return thirdParty }

func (o ThirdParty) appendData(b []byte) []byte { return appendAddress(b, o.Internal) }

func (o ThirdParty) fits(r Request) error {
	switch {
	case r.Opcode == Announce:
		return MalformedOption
	case o.Internal == r.Client:
		return MalformedRequest
	}
	return nil
}

// PreferFailure asks for the suggested external endpoint or none (section 13.2).
type PreferFailure struct{}

func (PreferFailure) code() optionCode { return preferFailure }

func (PreferFailure) appendData(b []byte) []byte { return b }

func (PreferFailure) fits(r Request) error {
	switch {
	case r.Opcode == Peer: // section 12.1
		return MalformedRequest
	case r.Opcode != Map, r.Lifetime == 0, r.External.Port() == 0:
		return MalformedOption
	}
	return nil
}

// Filter names remote peers that may use the mapping (section 13.3).
type Filter struct {
	// PrefixLength counts as on the wire, where IPv4 addresses start at bit
	// 96. 0 removes all filters, and Remote means nothing.
	PrefixLength uint8
	// Remote is the peers' network and their port, 0 for all ports.
	Remote netip.AddrPort
}

// mappedBits is where an IPv4 address begins within 128 bits (section 5).
const mappedBits = 96

func parseFilter(data []byte) (Option, error) {
	if len(data) != filterLen {
		return nil, MalformedOption
	}
	f := Filter{
		PrefixLength: data[1],
		Remote:       netip.AddrPortFrom(address(data[4:]), binary.BigEndian.Uint16(data[2:])),
	}
	if f.PrefixLength != 0 && !f.Network().IsValid() {
		return nil, MalformedOption
	}
	return f, nil
}

// Network returns the remote peers' network; it is invalid when there is none.
func (f Filter) Network() netip.Prefix {
	a, bits := f.Remote.Addr(), int(f.PrefixLength)
	if a.Is4() {
		bits -= mappedBits
	}
	if bits < 0 || f.PrefixLength == 0 {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, bits).Masked()
}

func (Filter) code() optionCode { return filter }

func (f Filter) appendData(b []byte) []byte {
	b = append(b, 0, f.PrefixLength)
	b = binary.BigEndian.AppendUint16(b, f.Remote.Port())
	return appendAddress(b, f.Remote.Addr())
}

func (f Filter) fits(r Request) error {
	if r.Opcode != Map || r.Lifetime == 0 || f.PrefixLength != 0 && f.Remote.Addr().Is4() != r.Client.Is4() {
		return MalformedOption
	}
	return nil
}

// Description is the mapping's name for people (RFC 7220). Its text is legal
// UTF-8.
type Description struct{ Text string }

func parseDescription(data []byte) (Option, error) {
	if len(data) > maxDescriptionLen {
		return nil, MalformedOption
	}
	if !utf8.Valid(data) {
		return nil, nil
	}
	return Description{Text: string(data)}, nil
}

func (Description) code() optionCode { return description }

func (d Description) appendData(b []byte) []byte { return append(b, d.Text...) }

func (Description) fits(Request) error { return nil }
