// Package pcp encodes and decodes messages of the Port Control Protocol, version 2 (RFC
// 6887, with the descriptions of RFC 7220).
package pcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Version is the only supported version (section 7).
const Version = 2

// UDP ports: requests go to the server's, notifications to the clients'
// (section 19.1).
const (
	ServerPort   = 5351
	AnnouncePort = 5350
)

// MaxLen is the maximum length of a packet, in octets (section 7).
const MaxLen = 1100

// Forever is the longest lifetime that the wire can carry; a mapping that the
// administrator made has it (section 11.3).
const Forever = (1<<32 - 1) * time.Second

// Lengths of packets without options, in octets (sections 7.1, 11.1 and 12.1).
const (
	minLen    = 2
	headerLen = 24
	mapLen    = 60
	peerLen   = 80
)

// response is the R bit beside the opcode (section 7.1).
const response = 0x80

// Errors of invalid packets.
var (
	// ErrIgnore marks a packet that a server must not answer (section 8.2).
	ErrIgnore = errors.New("pcp: not a request")
	// ErrMalformed marks a packet that is not a valid response.
	ErrMalformed = errors.New("pcp: not a response")
)

// Opcode is the operation of a request; its response has the same.
type Opcode uint8

// The supported opcodes (section 19.2).
const (
	Announce Opcode = 0
	Map      Opcode = 1
	Peer     Opcode = 2
)

// length returns the octets before the options.
func (o Opcode) length() int {
	switch o {
	case Map:
		return mapLen
	case Peer:
		return peerLen
	}
	return headerLen
}

// Result is a result code (section 7.4). All but Success serve as errors.
type Result uint8

// The result codes of RFC 6887.
const (
	Success               Result = 0
	UnsuppVersion         Result = 1
	NotAuthorized         Result = 2
	MalformedRequest      Result = 3
	UnsuppOpcode          Result = 4
	UnsuppOption          Result = 5
	MalformedOption       Result = 6
	NetworkFailure        Result = 7
	NoResources           Result = 8
	UnsuppProtocol        Result = 9
	UserExQuota           Result = 10
	CannotProvideExternal Result = 11
	AddressMismatch       Result = 12
	ExcessiveRemotePeers  Result = 13
)

var results = [...]string{
	Success:               "SUCCESS",
	UnsuppVersion:         "UNSUPP_VERSION",
	NotAuthorized:         "NOT_AUTHORIZED",
	MalformedRequest:      "MALFORMED_REQUEST",
	UnsuppOpcode:          "UNSUPP_OPCODE",
	UnsuppOption:          "UNSUPP_OPTION",
	MalformedOption:       "MALFORMED_OPTION",
	NetworkFailure:        "NETWORK_FAILURE",
	NoResources:           "NO_RESOURCES",
	UnsuppProtocol:        "UNSUPP_PROTOCOL",
	UserExQuota:           "USER_EX_QUOTA",
	CannotProvideExternal: "CANNOT_PROVIDE_EXTERNAL",
	AddressMismatch:       "ADDRESS_MISMATCH",
	ExcessiveRemotePeers:  "EXCESSIVE_REMOTE_PEERS",
}

// Error returns the name that the RFC gives the result.
func (r Result) Error() string {
	if int(r) < len(results) {
		return results[r]
	}
	return fmt.Sprintf("PCP result %d", uint8(r))
}

// Error lifetimes that section 7.4 recommends.
const (
	shortError = 30 * time.Second
	longError  = 30 * time.Minute
)

// Lifetime returns how long a client should expect the same error: the short
// time for temporary errors, the long one for the others.
func (r Result) Lifetime() time.Duration {
	switch r {
	case NetworkFailure, NoResources, UserExQuota:
		return shortError
	}
	return longError
}

// Nonce is the proof that a mapping belongs to the client (section 11.1).
type Nonce [12]byte

// Mapping is the common part of MAP and PEER, in both directions
// (sections 11.1 and 12.1).
type Mapping struct {
	Nonce        Nonce
	Protocol     uint8 // IANA protocol number; 0: all
	InternalPort uint16
	// External is suggested in a request, assigned in a response. An address
	// of all zeros of either family means any.
	External netip.AddrPort
	// Remote is the remote peer; it belongs to PEER.
	Remote netip.AddrPort
}

// parseMapping decodes a packet that has the length of its opcode.
func parseMapping(op Opcode, b []byte) Mapping {
	m := Mapping{
		Nonce:        Nonce(b[24:]),
		Protocol:     b[36],
		InternalPort: binary.BigEndian.Uint16(b[40:]),
		External:     netip.AddrPortFrom(address(b[44:]), binary.BigEndian.Uint16(b[42:])),
	}
	if op == Peer {
		m.Remote = netip.AddrPortFrom(address(b[64:]), binary.BigEndian.Uint16(b[60:]))
	}
	return m
}

func (m *Mapping) append(op Opcode, b []byte) []byte {
	b = append(b, m.Nonce[:]...)
	b = append(b, m.Protocol, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, m.InternalPort)
	b = binary.BigEndian.AppendUint16(b, m.External.Port())
	b = appendAddress(b, m.External.Addr())
	if op == Peer {
		b = binary.BigEndian.AppendUint16(b, m.Remote.Port())
		b = append(b, 0, 0)
		b = appendAddress(b, m.Remote.Addr())
	}
	return b
}

// address decodes 16 octets; IPv4 comes mapped into IPv6 (section 5).
func address(b []byte) netip.Addr { return netip.AddrFrom16([16]byte(b)).Unmap() }

func appendAddress(b []byte, a netip.Addr) []byte {
	sixteen := a.As16()
	return append(b, sixteen[:]...)
}

func seconds(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint32(b)) * time.Second
}

func appendSeconds(b []byte, d time.Duration) []byte {
	return binary.BigEndian.AppendUint32(b, uint32(d/time.Second))
}
