package vectors

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
)

// fields are a reply's decoded values by their names in the vectors, in the
// form that JSON gives them: numbers are float64, octets hexadecimal digits.
type fields map[string]any

// decode reads as much of a reply as is there.
func decode(b []byte) fields {
	f := fields{}
	f.number(b, "ver", 0, 1)
	f.number(b, "op", 1, 1)
	if len(b) > 0 && b[0] == 0 {
		f.natpmp(b)
	} else if len(b) > 1 {
		f.pcp(b)
	}
	return f
}

// natpmp reads RFC 6886, sections 3.2 and 3.3.
func (f fields) natpmp(b []byte) {
	f.number(b, "result", 2, 2)
	f.number(b, "epoch", 4, 4)
	switch {
	case len(b) >= 12 && b[1] == 0x80:
		f["ext_ip"] = netip.AddrFrom4([4]byte(b[8:])).String()
	case len(b) >= 16 && (b[1] == 0x81 || b[1] == 0x82):
		f.number(b, "int_port", 8, 2)
		f.number(b, "ext_port", 10, 2)
		f.number(b, "lifetime", 12, 4)
	}
}

// pcp reads RFC 6887, sections 7.2, 11.1 and 12.1.
func (f fields) pcp(b []byte) {
	f.number(b, "rsv", 2, 1)
	f.number(b, "result", 3, 1)
	if len(b) < 24 {
		return
	}
	f.number(b, "lifetime", 4, 4)
	f.number(b, "epoch", 8, 4)
	f["rsv96"] = hex.EncodeToString(b[12:24])
	options := map[byte]int{0x80: 24, 0x81: 60, 0x82: 80}[b[1]]
	if options == 0 || len(b) < options {
		return
	}
	f["options"] = pcpOptions(b[options:])
	if b[1] == 0x80 {
		return
	}
	f["nonce"] = hex.EncodeToString(b[24:36])
	f.number(b, "proto", 36, 1)
	f["rsv24"] = hex.EncodeToString(b[37:40])
	f.number(b, "int_port", 40, 2)
	f.number(b, "ext_port", 42, 2)
	f["ext_ip"] = netip.AddrFrom16([16]byte(b[44:])).Unmap().String()
	if b[1] == 0x82 {
		f.number(b, "peer_port", 60, 2)
		f["peer_ip"] = netip.AddrFrom16([16]byte(b[64:])).Unmap().String()
	}
}

// number notes the unsigned number at an offset if the reply has it.
func (f fields) number(b []byte, name string, offset, octets int) {
	if len(b) < offset+octets {
		return
	}
	var wide [8]byte
	copy(wide[8-octets:], b[offset:offset+octets])
	f[name] = float64(binary.BigEndian.Uint64(wide[:]))
}

// pcpOptions returns pairs of code and data; what is cut off is shorter.
func pcpOptions(b []byte) any {
	options := []any{}
	for len(b) >= 4 {
		end := min(len(b), 4+int(binary.BigEndian.Uint16(b[2:])))
		options = append(options, []any{float64(b[0]), hex.EncodeToString(b[4:end])})
		b = b[min(len(b), (end+3)&^3):]
	}
	return options
}
