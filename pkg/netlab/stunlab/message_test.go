package stunlab

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

const head = "2112a442 b7e7a701bc34d686fa87dfae" // cookie and transaction ID (RFC 5769)

func octets(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var id = transactionID{0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae}

func TestMessages(t *testing.T) {
	for text, want := range map[string]any{
		"0001 0000" + head:                        request{id: id},
		"0001 0008" + head + "0003 0004 00000006": request{id, true, true},
		"0001 0008" + head + "0003 0004 00000002": request{id, false, true},
		// XOR-MAPPED-ADDRESS is that of RFC 5769, section 2.2.
		"0101 0024" + head + "0020 0008 0001 a147 e112a643 802b 0008 0001 0d96 0b162101 802c 0008 0001 0d97 0b162102": response{
			id, netip.MustParseAddrPort("192.0.2.1:32853"), netip.MustParseAddrPort("11.22.33.1:3478"), netip.MustParseAddrPort("11.22.33.2:3479")},
	} {
		b := octets(t, text)
		var got any
		var encoded []byte
		var err error
		switch want := want.(type) {
		case request:
			got, err = parseRequest(b)
			encoded = want.encode()
		case response:
			got, err = parseResponse(b)
			encoded = want.encode()
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %+v, %v, want %+v", text, got, err, want)
		}
		if !bytes.Equal(encoded, b) {
			t.Errorf("%+v is %x, want %x", want, encoded, b)
		}
	}
}

func TestMalformedMessages(t *testing.T) {
	for what, text := range map[string]string{
		"nothing":                       "",
		"no request":                    "0101 0000" + head,
		"another cookie":                "0001 0000 2112a443" + head[8:],
		"octets behind the message":     "0001 0000" + head + "00",
		"half an attribute header":      "0001 0002" + head + "0003",
		"an attribute that is cut":      "0001 0004" + head + "0003 0004",
		"CHANGE-REQUEST of two octets":  "0001 0008" + head + "0003 0002 00060000",
		"CHANGE-REQUEST, another flag":  "0001 0008" + head + "0003 0004 00000008",
		"an attribute to be understood": "0001 0008" + head + "0026 0004 00000000",
	} {
		if r, err := parseRequest(octets(t, text)); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %+v, %v", what, r, err)
		}
	}
	for what, text := range map[string]string{
		"no address":       "0101 0000" + head,
		"one is missing":   "0101 0018" + head + "0020 0008 0001 a147 e112a643 802b 0008 0001 0d96 0b162101",
		"too short":        "0101 0008" + head + "0020 0004 0001 a147",
		"IPv6 of 4 octets": "0101 000c" + head + "0020 0008 0002 a147 e112a643",
	} {
		if r, err := parseResponse(octets(t, text)); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %+v, %v", what, r, err)
		}
	}
}
