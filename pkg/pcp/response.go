package pcp

import (
	"encoding/binary"
	"time"
)

// Response is the response to a request, an announcement (section 14.1) or a mapping
// update (section 14.2).
type Response struct {
	Opcode Opcode
	Result Result
	// Lifetime is that of the mapping, or how long the same error is to be
	// expected; whole seconds.
	Lifetime time.Duration
	Epoch    uint32 // seconds since mappings may have been lost (section 8.5)
	Mapping         // of MAP and PEER
	// Options are those that were processed, in the order of the request.
	Options []Option
}

// bare reports whether the response ends with the header.
func (r Response) bare() bool {
	return r.Result == UnsuppVersion || r.Result == UnsuppOpcode || r.Opcode == Announce || r.Opcode > Peer
}

// ParseResponse decodes a response. It ignores the options of an error response: they
// may be the error.
func ParseResponse(b []byte) (Response, error) {
	if len(b) < headerLen || len(b) > MaxLen || len(b)%4 != 0 || b[0] != Version || b[1]&response == 0 {
		return Response{}, ErrMalformed
	}
	r := Response{
		Opcode:   Opcode(b[1] &^ response),
		Result:   Result(b[3]),
		Lifetime: seconds(b[4:]),
		Epoch:    binary.BigEndian.Uint32(b[8:]),
	}
	if r.bare() {
		return r, nil
	}
	if len(b) < r.Opcode.length() {
		return Response{}, ErrMalformed
	}
	r.Mapping = parseMapping(r.Opcode, b)
	if r.Result != Success {
		return r, nil
	}
	return r, r.parseOptions(b[r.Opcode.length():])
}

// parseOptions decodes the options that are known.
func (r *Response) parseOptions(b []byte) error {
	if !wellFormed(b) {
		return ErrMalformed
	}
	for len(b) > 0 {
		var code optionCode
		var data []byte
		code, data, b = cutOption(b)
		o, err := parseOption(code, data)
		if err == MalformedOption {
			return ErrMalformed
		}
		if o != nil {
			r.Options = append(r.Options, o)
		}
	}
	return nil
}

// Append appends the octets of r to b. The answer to a request that failed is
// made of the request's own octets instead; see AppendError.
func (r Response) Append(b []byte) []byte {
	b = append(b, Version, byte(r.Opcode)|response, 0, byte(r.Result))
	b = appendSeconds(b, r.Lifetime)
	b = binary.BigEndian.AppendUint32(b, r.Epoch)
	b = append(b, make([]byte, 12)...)
	if r.bare() {
		return b
	}
	b = r.Mapping.append(r.Opcode, b)
	if r.Result != Success {
		return b
	}
	return appendOptions(b, r.Options)
}

// AppendError appends to b the error response to a request, which need not
// be one that can be parsed: the request's own octets, so that the client recognizes
// it, after a header with the error (sections 7.2 and 8.2).
func AppendError(b, request []byte, result Result, lifetime time.Duration, epoch uint32) []byte {
	start := len(b)
	b = append(b, request[:min(len(request), MaxLen)]...)
	for n := len(b) - start; n < headerLen || n%4 != 0; n++ {
		b = append(b, 0)
	}
	head := b[start : start+headerLen]
	head[0], head[1], head[2], head[3] = Version, head[1]|response, 0, byte(result)
	binary.BigEndian.PutUint32(head[4:], uint32(lifetime/time.Second))
	binary.BigEndian.PutUint32(head[8:], epoch)
	switch result {
	case UnsuppVersion, MalformedRequest, MalformedOption: // not parsed: the octets stay
	default:
		clear(head[12:])
	}
	return b
}
