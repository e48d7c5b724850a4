package pcp

import (
	"net/netip"
	"time"
)

// Request is an ANNOUNCE, MAP or PEER request.
type Request struct {
	Opcode   Opcode
	Lifetime time.Duration // whole seconds; 0 in MAP: delete
	Client   netip.Addr    // the client's address as it knows it
	Mapping                // of MAP and PEER
	// Options are the supported ones, in the order of the packet.
	Options []Option
}

// Service has the optional features of a server; requests for others are refused as
// the RFC specifies.
type Service struct {
	Peer       bool // the opcode PEER
	ThirdParty bool // the option THIRD_PARTY (section 13.1)
}

// Parse decodes a request from source and checks its form in the order of section 8.2.
// The error is ErrIgnore for a packet that gets no response, otherwise the Result of
// the error response; see AppendError.
func (s Service) Parse(b []byte, source netip.Addr) (Request, error) {
	if err := s.checkHeader(b, source); err != nil {
		return Request{}, err
	}
	r := Request{Opcode: Opcode(b[1]), Lifetime: seconds(b[4:]), Client: address(b[8:])}
	if r.Opcode != Announce {
		r.Mapping = parseMapping(r.Opcode, b)
	}
	if err := s.parseOptions(&r, b[r.Opcode.length():]); err != nil {
		return Request{}, err
	}
	if !r.valid() {
		return Request{}, MalformedRequest
	}
	return r, nil
}

// checkHeader checks the header and the length.
func (s Service) checkHeader(b []byte, source netip.Addr) error {
	if len(b) < minLen || b[1]&response != 0 {
		return ErrIgnore
	}
	op := Opcode(b[1])
	served := op == Announce || op == Map || op == Peer && s.Peer
	switch {
	case b[0] != Version:
		return UnsuppVersion
	case len(b) < headerLen:
		return ErrIgnore
	case len(b) > MaxLen, len(b)%4 != 0, served && len(b) < op.length():
		return MalformedRequest
	case source.As16() != [16]byte(b[8:]):
		return AddressMismatch
	case !served:
		return UnsuppOpcode
	}
	return nil
}

// parseOptions decodes the options of r. Their structure is checked before
// their content (section 7.3).
func (s Service) parseOptions(r *Request, b []byte) error {
	if !wellFormed(b) {
		return MalformedOption
	}
	var seen [256]bool
	for len(b) > 0 {
		var code optionCode
		var data []byte
		code, data, b = cutOption(b)
		if code == thirdParty && !s.ThirdParty {
			return UnsuppOption
		}
		if r.Opcode == Announce && code >= firstOptional {
			continue // defined for MAP and PEER alone
		}
		if seen[code] && code.once() {
			return MalformedOption
		}
		seen[code] = true
		o, err := parseOption(code, data)
		if err != nil {
			return err
		}
		if o == nil {
			continue
		}
		if err := o.fits(*r); err != nil {
			return err
		}
		r.Options = append(r.Options, o)
	}
	return nil
}

// valid reports whether the opcode's own fields are valid.
func (r Request) valid() bool {
	switch r.Opcode {
	case Map: // all protocols means all ports (section 11.1)
		return r.Protocol != 0 || r.InternalPort == 0
	case Peer: // one flow to a host that packets can go to (section 12)
		to := r.Remote.Addr()
		return r.Protocol != 0 && r.InternalPort != 0 && r.Remote.Port() != 0 &&
			to.IsGlobalUnicast() && to.Is4() == r.Client.Is4()
	}
	return true
}

// Append appends the octets of r to b.
func (r Request) Append(b []byte) []byte {
	b = append(b, Version, byte(r.Opcode), 0, 0)
	b = appendSeconds(b, r.Lifetime)
	b = appendAddress(b, r.Client)
	if r.Opcode != Announce {
		b = r.Mapping.append(r.Opcode, b)
	}
	return appendOptions(b, r.Options)
}
