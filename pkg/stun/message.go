package stun

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// Constants of RFC 8489, sections 5, 14 and 18, that a Binding request without
// credentials needs.
const (
	headerLen          = 20
	attributeHeaderLen = 4
	magicCookie        = 0x2112A442

	bindingRequest  = 0x0001
	bindingSuccess  = 0x0101
	mappedAddress   = 0x0001
	xorMapped       = 0x0020
	familyIPv4      = 0x01
	familyIPv6      = 0x02
	addressValueLen = 4 // family and port, before the address
)

// transactionID matches a response to its request (section 5).
type transactionID [12]byte

// errNotOurs marks a datagram that is not the response to the request.
var errNotOurs = errors.New("not the response to the request")

// appendRequest appends a Binding request to b.
func appendRequest(b []byte, id transactionID) []byte {
	b = binary.BigEndian.AppendUint16(b, bindingRequest)
	b = binary.BigEndian.AppendUint16(b, 0) // no attributes
	b = binary.BigEndian.AppendUint32(b, magicCookie)
	return append(b, id[:]...)
}

// parseResponse returns the address that the server saw the request come from.
func parseResponse(b []byte, id transactionID) (netip.Addr, error) {
	if len(b) < headerLen || binary.BigEndian.Uint32(b[4:]) != magicCookie || transactionID(b[8:headerLen]) != id {
		return netip.Addr{}, errNotOurs
	}
	if kind := binary.BigEndian.Uint16(b); kind != bindingSuccess {
		return netip.Addr{}, fmt.Errorf("the server responds with message type %#04x instead of an address", kind)
	}
	length := int(binary.BigEndian.Uint16(b[2:]))
	if length > len(b)-headerLen {
		return netip.Addr{}, errNotOurs
	}
	var plain netip.Addr // from servers older than XOR-MAPPED-ADDRESS
	for rest := b[headerLen : headerLen+length]; len(rest) >= attributeHeaderLen; {
		kind, size := binary.BigEndian.Uint16(rest), int(binary.BigEndian.Uint16(rest[2:]))
		rest = rest[attributeHeaderLen:]
		if size > len(rest) {
			break
		}
		switch a, ok := parseAddress(rest[:size]); {
		case kind == xorMapped && ok:
			return unmask(a, b[4:headerLen]), nil
		case kind == mappedAddress && ok:
			plain = a
		}
		rest = rest[min(len(rest), (size+3)&^3):]
	}
	if !plain.IsValid() {
		return netip.Addr{}, errors.New("the response contains no address")
	}
	return plain, nil
}

// parseAddress decodes the value of MAPPED-ADDRESS (section 14.1).
func parseAddress(value []byte) (netip.Addr, bool) {
	if len(value) < addressValueLen {
		return netip.Addr{}, false
	}
	family := value[1]
	a, ok := netip.AddrFromSlice(value[addressValueLen:])
	return a, ok && (family == familyIPv4 && a.Is4() || family == familyIPv6 && a.Is6())
}

// unmask removes the mask, the magic cookie and the transaction ID, from the value of
// XOR-MAPPED-ADDRESS (section 14.2).
func unmask(a netip.Addr, mask []byte) netip.Addr {
	raw := a.AsSlice()
	for i := range raw {
		raw[i] ^= mask[i]
	}
	a, _ = netip.AddrFromSlice(raw)
	return a
}
