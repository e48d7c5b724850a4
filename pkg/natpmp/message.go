// Package natpmp encodes and decodes NAT-PMP messages (RFC 6886).
package natpmp

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"
)

// Version is the first octet of every packet (section 3).
const Version = 0

// UDP ports: requests go to the server's, announcements to the clients'
// (sections 3.1 and 3.2.1).
const (
	ServerPort   = 5351
	AnnouncePort = 5350
)

// Packet lengths in octets.
const (
	minLen             = 2
	mapRequestLen      = 12
	headerLen          = 8 // of a response: version, opcode, result, epoch
	addressResponseLen = 12
	mapResponseLen     = 16
)

// response is the opcode's bit that marks responses (section 3.5).
const response = 0x80

// Opcode is the operation of a request; its response has the same.
type Opcode uint8

// The opcodes that exist (sections 3.2 and 3.3).
const (
	Address Opcode = 0
	MapUDP  Opcode = 1
	MapTCP  Opcode = 2
)

// Result is a result code (section 3.5).
type Result uint16

// The result codes that exist.
const (
	Success            Result = 0
	UnsupportedVersion Result = 1
	NotAuthorized      Result = 2
	NetworkFailure     Result = 3
	OutOfResources     Result = 4
	UnsupportedOpcode  Result = 5
)

// Errors of invalid packets.
var (
	// ErrIgnore marks a packet that a server must not answer: a response, or a
	// packet that is too short for its opcode.
	ErrIgnore = errors.New("natpmp: not a request")
	// ErrVersion calls for the response UnsupportedVersion.
	ErrVersion = errors.New("natpmp: unsupported version")
	// ErrOpcode calls for the response of AppendUnsupportedOpcode.
	ErrOpcode = errors.New("natpmp: unsupported opcode")
	// ErrMalformed marks a packet that is not a valid response.
	ErrMalformed = errors.New("natpmp: not a response")
)

// Request is a request for the external address (section 3.2) or for a mapping
// (section 3.3).
type Request struct {
	Opcode Opcode
	// The rest belongs to mapping requests.
	InternalPort  uint16
	SuggestedPort uint16        // 0: the server chooses
	Lifetime      time.Duration // whole seconds; 0: delete
}

// ParseRequest decodes a request. Octets beyond its length are ignored.
func ParseRequest(b []byte) (Request, error) {
	switch {
	case len(b) < minLen || b[1]&response != 0:
		return Request{}, ErrIgnore
	case b[0] != Version:
		return Request{}, ErrVersion
	}
	switch op := Opcode(b[1]); op {
	case Address:
		return Request{Opcode: Address}, nil
	case MapUDP, MapTCP:
		if len(b) < mapRequestLen {
			return Request{}, ErrIgnore
		}
		return Request{
			Opcode:        op,
			InternalPort:  binary.BigEndian.Uint16(b[4:]),
			SuggestedPort: binary.BigEndian.Uint16(b[6:]),
			Lifetime:      seconds(b[8:]),
		}, nil
	}
	return Request{}, ErrOpcode
}

// Append appends the octets of r to b.
func (r Request) Append(b []byte) []byte {
	b = append(b, Version, byte(r.Opcode))
	if r.Opcode == Address {
		return b
	}
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint16(b, r.InternalPort)
	b = binary.BigEndian.AppendUint16(b, r.SuggestedPort)
	return appendSeconds(b, r.Lifetime)
}

// Response is the response to a request. An error response leaves External, ExternalPort
// and Lifetime zero.
type Response struct {
	Opcode Opcode // of the request
	Result Result
	Epoch  uint32 // seconds since the mapping table was reset (section 3.6)
	// External is the external IPv4 address; it belongs to opcode Address.
	External netip.Addr
	// The rest belongs to the mapping opcodes.
	InternalPort uint16
	ExternalPort uint16
	Lifetime     time.Duration // whole seconds
}

// bare reports whether the response ends with its result.
func (r Response) bare() bool {
	return r.Result == UnsupportedVersion || r.Opcode > MapTCP
}

// ParseResponse decodes a response. Octets beyond its length are ignored.
func ParseResponse(b []byte) (Response, error) {
	if len(b) < headerLen || b[0] != Version || b[1]&response == 0 {
		return Response{}, ErrMalformed
	}
	r := Response{
		Opcode: Opcode(b[1] &^ response),
		Result: Result(binary.BigEndian.Uint16(b[2:])),
		Epoch:  binary.BigEndian.Uint32(b[4:]),
	}
	switch {
	case r.bare():
	case r.Opcode == Address && len(b) >= addressResponseLen:
		r.External = netip.AddrFrom4([4]byte(b[8:]))
	case r.Opcode != Address && len(b) >= mapResponseLen:
		r.InternalPort = binary.BigEndian.Uint16(b[8:])
		r.ExternalPort = binary.BigEndian.Uint16(b[10:])
		r.Lifetime = seconds(b[12:])
	default:
		return Response{}, ErrMalformed
	}
	return r, nil
}

// Append appends the octets of r to b.
func (r Response) Append(b []byte) []byte {
	b = append(b, Version, byte(r.Opcode)|response)
	b = binary.BigEndian.AppendUint16(b, uint16(r.Result))
	b = binary.BigEndian.AppendUint32(b, r.Epoch)
	switch {
	case r.bare():
		return b
	case r.Opcode == Address:
		return appendAddr(b, r.External)
	}
	b = binary.BigEndian.AppendUint16(b, r.InternalPort)
	b = binary.BigEndian.AppendUint16(b, r.ExternalPort)
	return appendSeconds(b, r.Lifetime)
}

// AppendUnsupportedOpcode appends to b the response to a request with an unknown
// opcode: the request itself, marked as a response, with result and epoch, at least 8
// octets (section 3.5).
func AppendUnsupportedOpcode(b, request []byte, epoch uint32) []byte {
	b = append(b, Version, request[1]|response)
	b = binary.BigEndian.AppendUint16(b, uint16(UnsupportedOpcode))
	b = binary.BigEndian.AppendUint32(b, epoch)
	if len(request) > headerLen {
		b = append(b, request[headerLen:]...)
	}
	return b
}

// appendAddr appends a, or 0.0.0.0 when it is not an IPv4 address.
func appendAddr(b []byte, a netip.Addr) []byte {
	var four [4]byte
	if a.Is4() {
		four = a.As4()
	}
	return append(b, four[:]...)
}

func seconds(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint32(b)) * time.Second
}

func appendSeconds(b []byte, d time.Duration) []byte {
	return binary.BigEndian.AppendUint32(b, uint32(d/time.Second))
}
