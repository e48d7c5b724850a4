package natpmp_test

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/vectors"
)

// octets reads hexadecimal digits, with spaces between groups.
func octets(t testing.TB, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRequestBothWays(t *testing.T) {
	for name, test := range map[string]struct {
		request natpmp.Request
		octets  string
	}{
		"address": {natpmp.Request{Opcode: natpmp.Address}, "0000"},
		"map UDP": {
			natpmp.Request{Opcode: natpmp.MapUDP, InternalPort: 40000, SuggestedPort: 41234, Lifetime: 2 * time.Hour},
			"00010000 9c40a112 00001c20",
		},
		"map TCP for the longest time": {
			natpmp.Request{Opcode: natpmp.MapTCP, InternalPort: 1, Lifetime: (1<<32 - 1) * time.Second},
			"00020000 00010000 ffffffff",
		},
		"delete all": {natpmp.Request{Opcode: natpmp.MapTCP}, "00020000 00000000 00000000"},
	} {
		t.Run(name, func(t *testing.T) {
			if got, want := hex.EncodeToString(test.request.Append(nil)), strings.ReplaceAll(test.octets, " ", ""); got != want {
				t.Errorf("encoded %s, want %s", got, want)
			}
			got, err := natpmp.ParseRequest(octets(t, test.octets))
			if err != nil || got != test.request {
				t.Errorf("decoded %+v, %v, want %+v", got, err, test.request)
			}
		})
	}
}

func TestResponseBothWays(t *testing.T) {
	for name, test := range map[string]struct {
		response natpmp.Response
		octets   string
	}{
		"address": {
			natpmp.Response{Opcode: natpmp.Address, Epoch: 258, External: netip.MustParseAddr("11.22.33.44")},
			"00800000 00000102 0b16212c",
		},
		"no address": {
			natpmp.Response{Opcode: natpmp.Address, Result: natpmp.NetworkFailure, External: netip.IPv4Unspecified()},
			"00800003 00000000 00000000",
		},
		"mapping": {
			natpmp.Response{Opcode: natpmp.MapTCP, Epoch: 1, InternalPort: 40000, ExternalPort: 41234, Lifetime: time.Hour},
			"00820000 00000001 9c40a112 00000e10",
		},
		"refused": {
			natpmp.Response{Opcode: natpmp.MapUDP, Result: natpmp.NotAuthorized, InternalPort: 80},
			"00810002 00000000 00500000 00000000",
		},
		"unsupported version": {
			natpmp.Response{Result: natpmp.UnsupportedVersion, Epoch: 7},
			"00800001 00000007",
		},
		"unsupported opcode": {
			natpmp.Response{Opcode: 127, Result: natpmp.UnsupportedOpcode, Epoch: 7},
			"00ff0005 00000007",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got, want := hex.EncodeToString(test.response.Append(nil)), strings.ReplaceAll(test.octets, " ", ""); got != want {
				t.Errorf("encoded %s, want %s", got, want)
			}
			got, err := natpmp.ParseResponse(octets(t, test.octets))
			if err != nil || got != test.response {
				t.Errorf("decoded %+v, %v, want %+v", got, err, test.response)
			}
		})
	}
}

func TestErrorResponseHasNoAddress(t *testing.T) {
	r := natpmp.Response{Opcode: natpmp.Address, Result: natpmp.NetworkFailure}
	if got := hex.EncodeToString(r.Append(nil)); got != "008000030000000000000000" {
		t.Errorf("encoded %s", got)
	}
}

func TestRequestTolerates(t *testing.T) {
	want := natpmp.Request{Opcode: natpmp.MapUDP, InternalPort: 40000, SuggestedPort: 40000, Lifetime: time.Hour}
	for name, digits := range map[string]string{
		"reserved octets": "0001ffff 9c409c40 00000e10",
		"trailing octets": "00010000 9c409c40 00000e10 00000000",
	} {
		if got, err := natpmp.ParseRequest(octets(t, digits)); err != nil || got != want {
			t.Errorf("%s: decoded %+v, %v", name, got, err)
		}
	}
	if got, err := natpmp.ParseRequest(octets(t, "0000dead beef")); err != nil || got.Opcode != natpmp.Address {
		t.Errorf("long address request: decoded %+v, %v", got, err)
	}
}

func TestMalformedRequests(t *testing.T) {
	for name, test := range map[string]struct {
		octets string
		want   error
	}{
		"nothing":                          {"", natpmp.ErrIgnore},
		"one octet":                        {"00", natpmp.ErrIgnore},
		"map request one octet short":      {"00010000 00000000 000000", natpmp.ErrIgnore},
		"bare map opcode":                  {"0002", natpmp.ErrIgnore},
		"response":                         {"00800000 00000001 0a0a0a0a", natpmp.ErrIgnore},
		"response to a map request":        {"00820000 00000001 9c409c40 00000e10", natpmp.ErrIgnore},
		"response of an unknown version":   {"05810000", natpmp.ErrIgnore},
		"response of an unknown operation": {"00ff", natpmp.ErrIgnore},
		"version 1":                        {"0101", natpmp.ErrVersion},
		"version 255":                      {"ff00", natpmp.ErrVersion},
		"first unknown opcode":             {"0003", natpmp.ErrOpcode},
		"last unknown opcode":              {"007f", natpmp.ErrOpcode},
	} {
		if got, err := natpmp.ParseRequest(octets(t, test.octets)); err != test.want || got != (natpmp.Request{}) {
			t.Errorf("%s: %+v, %v, want %v", name, got, err, test.want)
		}
	}
}

func TestMalformedResponses(t *testing.T) {
	for name, digits := range map[string]string{
		"nothing":                    "",
		"seven octets":               "00800000 000000",
		"request":                    "00010000 9c409c40 00000e10",
		"PCP":                        "02800000 00000000 00000000",
		"address response cut short": "00800000 00000001 0b1621",
		"map response cut short":     "00810000 00000001 9c409c40 00000e",
		"refusal cut short":          "00810002 00000001",
	} {
		if got, err := natpmp.ParseResponse(octets(t, digits)); err != natpmp.ErrMalformed {
			t.Errorf("%s: decoded %+v, %v", name, got, err)
		}
	}
}

func TestUnsupportedOpcode(t *testing.T) {
	for request, want := range map[string]string{
		"007f":                            "00ff0005 00000102",
		"0003":                            "00830005 00000102",
		"00031122 33445566":               "00830005 00000102",
		"00030000 11112222 33334444 5555": "00830005 00000102 33334444 5555",
		"0003ffff ffffff":                 "00830005 00000102",
	} {
		got := natpmp.AppendUnsupportedOpcode(nil, octets(t, request), 258)
		if string(got) != string(octets(t, want)) {
			t.Errorf("%s: answered %x, want %s", request, got, want)
		}
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	request, reply := octets(t, "00010000 9c409c40 00000e10"), make([]byte, 0, 16)
	if n := testing.AllocsPerRun(100, func() {
		r, _ := natpmp.ParseRequest(request)
		reply = natpmp.Response{Opcode: r.Opcode, InternalPort: r.InternalPort}.Append(reply[:0])
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	address := natpmp.Response{External: netip.MustParseAddr("11.22.33.44")}
	if n := testing.AllocsPerRun(100, func() { reply = address.Append(reply[:0]) }); n != 0 {
		t.Errorf("address response: %v allocations", n)
	}
}

func FuzzRequest(f *testing.F) {
	for _, seed := range []string{"", "00", "0000", "00010000 9c409c40 00000e10", "0002", "0003ff", "0080", "02000000"} {
		f.Add(octets(f, seed))
	}
	for _, v := range vectors.Load(f, "natpmp") {
		f.Add([]byte(v.Request))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := natpmp.ParseRequest(b)
		switch err {
		case nil:
		case natpmp.ErrOpcode:
			if reply := natpmp.AppendUnsupportedOpcode(nil, b, 1); len(reply) != max(8, len(b)) {
				t.Errorf("%d octets answer %d", len(reply), len(b))
			}
			return
		default:
			return
		}
		if again, err := natpmp.ParseRequest(r.Append(nil)); err != nil || again != r {
			t.Errorf("%+v became %+v, %v", r, again, err)
		}
	})
}

func FuzzResponse(f *testing.F) {
	for _, seed := range []string{"", "00800000 00000102 0b16212c", "00810000 00000001 9c409c40 00000e10", "00800001 00000007", "00ff0005 00000007"} {
		f.Add(octets(f, seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := natpmp.ParseResponse(b)
		if err != nil {
			return
		}
		if again, err := natpmp.ParseResponse(r.Append(nil)); err != nil || again != r {
			t.Errorf("%+v became %+v, %v", r, again, err)
		}
	})
}
