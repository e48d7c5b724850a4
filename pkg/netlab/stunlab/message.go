package stunlab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// Constants of RFC 8489, sections 5, 14 and 18, and of RFC 5780, section 7.
const (
	headerLen          = 20
	attributeHeaderLen = 4
	addressLen         = 8 // of an IPv4 address attribute's value
	magicCookie        = 0x2112A442
	familyIPv4         = 0x01

	bindingRequest = 0x0001
	bindingSuccess = 0x0101

	changeRequest    = 0x0003
	xorMappedAddress = 0x0020
	responseOrigin   = 0x802b
	otherAddress     = 0x802c

	changeIP   = 0x4
	changePort = 0x2
)

// transactionID matches a response to its request.
type transactionID [12]byte

// request is a Binding request, and how the response's source is to differ from the
// request's destination (RFC 5780, section 7.2).
type request struct {
	id                   transactionID
	changeIP, changePort bool
}

// response is a response to a Binding request over IPv4.
type response struct {
	id     transactionID
	mapped netip.AddrPort // XOR-MAPPED-ADDRESS: the request's source, as the server sees it
	origin netip.AddrPort // RESPONSE-ORIGIN: the response's source
	other  netip.AddrPort // OTHER-ADDRESS: its source if address and port are to change
}

// errMalformed is the error of what is no message, or not one of these.
var errMalformed = errors.New("stunlab: malformed")

// encode returns the request's octets.
func (r request) encode() []byte {
	if !r.changeIP && !r.changePort {
		return message(bindingRequest, r.id, nil)
	}
	flags := make([]byte, 4)
	if r.changeIP {
		flags[3] |= changeIP
	}
	if r.changePort {
		flags[3] |= changePort
	}
	return message(bindingRequest, r.id, appendAttribute(nil, changeRequest, flags))
}

// encode returns the response's octets.
func (r response) encode() []byte {
	mapped := address(r.mapped)
	xorAddress(mapped)
	list := appendAttribute(nil, xorMappedAddress, mapped)
	list = appendAttribute(list, responseOrigin, address(r.origin))
	return message(bindingSuccess, r.id, appendAttribute(list, otherAddress, address(r.other)))
}

// message puts a header in front of attributes.
func message(kind uint16, id transactionID, attributes []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, kind)
	b = binary.BigEndian.AppendUint16(b, uint16(len(attributes)))
	b = binary.BigEndian.AppendUint32(b, magicCookie)
	return append(append(b, id[:]...), attributes...)
}

// appendAttribute appends an attribute whose value needs no padding.
func appendAttribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
	return append(b, value...)
}

// address returns the value of an address attribute.
func address(a netip.AddrPort) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0, familyIPv4}, a.Port())
	return append(b, a.Addr().AsSlice()...)
}

// xorAddress masks the value of an IPv4 address attribute, or removes the mask (RFC
// 8489, section 14.2).
func xorAddress(value []byte) {
	cookie := binary.BigEndian.AppendUint32(nil, magicCookie)
	for i, octet := range append(cookie[:2:2], cookie...) {
		value[2+i] ^= octet
	}
}

// parseRequest returns the request that b is.
func parseRequest(b []byte) (r request, err error) {
	r.id, err = parse(b, bindingRequest, map[uint16]func([]byte) error{
		changeRequest: func(value []byte) error {
			if len(value) != 4 || !bytes.Equal(value[:3], make([]byte, 3)) || value[3]&^(changeIP|changePort) != 0 {
				return fmt.Errorf("%w: CHANGE-REQUEST %x", errMalformed, value)
			}
			r.changeIP, r.changePort = value[3]&changeIP != 0, value[3]&changePort != 0
			return nil
		},
	})
	return r, err
}

// parseResponse returns the response that b is.
func parseResponse(b []byte) (r response, err error) {
	r.id, err = parse(b, bindingSuccess, map[uint16]func([]byte) error{
		xorMappedAddress: func(value []byte) error {
			value = bytes.Clone(value)
			if len(value) == addressLen {
				xorAddress(value)
			}
			return parseAddress(value, &r.mapped)
		},
		responseOrigin: func(value []byte) error { return parseAddress(value, &r.origin) },
		otherAddress:   func(value []byte) error { return parseAddress(value, &r.other) },
	})
	if err == nil && !(r.mapped.IsValid() && r.origin.IsValid() && r.other.IsValid()) {
		err = fmt.Errorf("%w: an address is missing", errMalformed)
	}
	return r, err
}

// parse checks a message of a kind and hands the values of its attributes to
// functions. One without a function must be one that need not be understood (RFC
// 8489, section 14).
func parse(b []byte, kind uint16, values map[uint16]func([]byte) error) (id transactionID, err error) {
	if len(b) < headerLen || binary.BigEndian.Uint16(b) != kind || binary.BigEndian.Uint32(b[4:]) != magicCookie ||
		int(binary.BigEndian.Uint16(b[2:])) != len(b)-headerLen {
		return id, fmt.Errorf("%w: header", errMalformed)
	}
	id = transactionID(b[8:])
	for rest := b[headerLen:]; len(rest) > 0; {
		if len(rest) < attributeHeaderLen {
			return id, fmt.Errorf("%w: attribute header", errMalformed)
		}
		kind, size := binary.BigEndian.Uint16(rest), int(binary.BigEndian.Uint16(rest[2:]))
		padded := attributeHeaderLen + (size+3)&^3
		if padded > len(rest) {
			return id, fmt.Errorf("%w: attribute %#04x is cut short", errMalformed, kind)
		}
		value := rest[attributeHeaderLen : attributeHeaderLen+size]
		rest = rest[padded:]
		if take := values[kind]; take != nil {
			if err := take(value); err != nil {
				return id, err
			}
		} else if kind < 0x8000 {
			return id, fmt.Errorf("%w: unknown attribute %#04x", errMalformed, kind)
		}
	}
	return id, nil
}

// parseAddress reads the value of an IPv4 address attribute.
func parseAddress(value []byte, a *netip.AddrPort) error {
	if len(value) != addressLen || value[0] != 0 || value[1] != familyIPv4 {
		return fmt.Errorf("%w: address %x", errMalformed, value)
	}
	*a = netip.AddrPortFrom(netip.AddrFrom4([4]byte(value[4:])), binary.BigEndian.Uint16(value[2:]))
	return nil
}
