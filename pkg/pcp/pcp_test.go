package pcp_test

import (
	"encoding/hex"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"igdd/pkg/pcp"
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

var (
	client4 = netip.MustParseAddr("192.168.50.10")
	client6 = netip.MustParseAddr("2001:db8:50::10")
	nonce   = pcp.Nonce{0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab}
	all     = pcp.Service{Peer: true, ThirdParty: true}
)

// Parts of packets.
const (
	head4     = " 00000e10 00000000 00000000 0000ffff c0a8320a "
	delete4   = " 00000000 00000000 00000000 0000ffff c0a8320a "
	head6     = " 00000e10 20010db8 00500000 00000000 00000010 "
	nonceText = "a0a1a2a3 a4a5a6a7 a8a9aaab "
	map4      = nonceText + "11000000 9c40a112 00000000 00000000 0000ffff 0b16212c "
	map6      = nonceText + "06000000 9c400000 00000000 00000000 00000000 00000000 "
	peer4     = map4 + "01bb0000 00000000 00000000 0000ffff 5db8d822 "
)

// mapping is what map4 says.
func mapping() pcp.Mapping {
	return pcp.Mapping{
		Nonce: nonce, Protocol: 17, InternalPort: 40000,
		External: netip.MustParseAddrPort("11.22.33.44:41234"),
	}
}

func peer() pcp.Mapping {
	m := mapping()
	m.Remote = netip.MustParseAddrPort("93.184.216.34:443")
	return m
}

func TestRequestBothWays(t *testing.T) {
	for name, test := range map[string]struct {
		request pcp.Request
		octets  string
	}{
		"ANNOUNCE": {pcp.Request{Client: client4}, "02000000" + delete4},
		"MAP":      {pcp.Request{Opcode: pcp.Map, Lifetime: time.Hour, Client: client4, Mapping: mapping()}, "02010000" + head4 + map4},
		"MAP over IPv6": {
			pcp.Request{
				Opcode: pcp.Map, Lifetime: time.Hour, Client: client6,
				Mapping: pcp.Mapping{
					Nonce: nonce, Protocol: 6, InternalPort: 40000,
					External: netip.AddrPortFrom(netip.IPv6Unspecified(), 0),
				},
			},
			"02010000" + head6 + map6,
		},
		"PEER": {pcp.Request{Opcode: pcp.Peer, Lifetime: time.Hour, Client: client4, Mapping: peer()}, "02020000" + head4 + peer4},
		"every option": {
			pcp.Request{
				Opcode: pcp.Map, Lifetime: time.Hour, Client: client4, Mapping: mapping(),
				Options: []pcp.Option{
					pcp.Description{Text: "ssh"},
					pcp.PreferFailure{},
					pcp.Filter{Remote: netip.AddrPortFrom(netip.IPv4Unspecified(), 0)},
					pcp.Filter{PrefixLength: 120, Remote: netip.MustParseAddrPort("11.22.33.1:5000")},
					pcp.ThirdParty{Internal: netip.MustParseAddr("192.168.50.11")},
				},
			},
			"02010000" + head4 + map4 + "80000003 73736800 02000000" +
				"03000014 00000000 00000000 00000000 0000ffff 00000000" +
				"03000014 00781388 00000000 00000000 0000ffff 0b162101" +
				"01000010 00000000 00000000 0000ffff c0a8320b",
		},
		"IPv6 filter": {
			pcp.Request{
				Opcode: pcp.Map, Lifetime: time.Hour, Client: client6,
				Mapping: pcp.Mapping{
					Nonce: nonce, Protocol: 6, InternalPort: 40000,
					External: netip.AddrPortFrom(netip.IPv6Unspecified(), 0),
				},
				Options: []pcp.Option{pcp.Filter{PrefixLength: 64, Remote: netip.MustParseAddrPort("[2001:db8:77::]:0")}},
			},
			"02010000" + head6 + map6 + "03000014 00400000 20010db8 00770000 00000000 00000000",
		},
		"erased description": {
			pcp.Request{
				Opcode: pcp.Map, Lifetime: time.Hour, Client: client4, Mapping: mapping(),
				Options: []pcp.Option{pcp.Description{}},
			},
			"02010000" + head4 + map4 + "80000000",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got, want := hex.EncodeToString(test.request.Append(nil)), strings.ReplaceAll(test.octets, " ", ""); got != want {
				t.Errorf("encoded %s, want %s", got, want)
			}
			got, err := all.Parse(octets(t, test.octets), test.request.Client)
			if err != nil || !reflect.DeepEqual(got, test.request) {
				t.Errorf("decoded %+v, %v, want %+v", got, err, test.request)
			}
		})
	}
}

func TestResponseBothWays(t *testing.T) {
	for name, test := range map[string]struct {
		response pcp.Response
		octets   string
	}{
		"ANNOUNCE": {pcp.Response{Epoch: 258}, "02800000 00000000 00000102 00000000 00000000 00000000"},
		"MAP": {
			pcp.Response{Opcode: pcp.Map, Lifetime: time.Hour, Epoch: 258, Mapping: mapping()},
			"02810000 00000e10 00000102 00000000 00000000 00000000" + map4,
		},
		"MAP with options": {
			pcp.Response{
				Opcode: pcp.Map, Lifetime: pcp.Forever, Mapping: mapping(),
				Options: []pcp.Option{pcp.PreferFailure{}, pcp.Description{Text: "ssh"}},
			},
			"02810000 ffffffff 00000000 00000000 00000000 00000000" + map4 + "02000000 80000003 73736800",
		},
		"PEER": {
			pcp.Response{Opcode: pcp.Peer, Lifetime: time.Hour, Mapping: peer()},
			"02820000 00000e10 00000000 00000000 00000000 00000000" + peer4,
		},
		"refusal": {
			pcp.Response{Opcode: pcp.Map, Result: pcp.NotAuthorized, Lifetime: time.Minute, Mapping: mapping()},
			"02810002 0000003c 00000000 00000000 00000000 00000000" + map4,
		},
		"unsupported version": {
			pcp.Response{Opcode: pcp.Map, Result: pcp.UnsuppVersion, Lifetime: 30 * time.Minute},
			"02810001 00000708 00000000 00000000 00000000 00000000",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got, want := hex.EncodeToString(test.response.Append(nil)), strings.ReplaceAll(test.octets, " ", ""); got != want {
				t.Errorf("encoded %s, want %s", got, want)
			}
			got, err := pcp.ParseResponse(octets(t, test.octets))
			if err != nil || !reflect.DeepEqual(got, test.response) {
				t.Errorf("decoded %+v, %v, want %+v", got, err, test.response)
			}
		})
	}
}

func TestFilterNetwork(t *testing.T) {
	for _, test := range []struct {
		length uint8
		remote string
		want   string
	}{
		{120, "11.22.33.1:0", "11.22.33.0/24"},
		{128, "11.22.33.1:0", "11.22.33.1/32"},
		{96, "0.0.0.0:5000", "0.0.0.0/0"},
		{95, "11.22.33.1:0", "invalid Prefix"},
		{129, "11.22.33.1:0", "invalid Prefix"},
		{0, "11.22.33.1:0", "invalid Prefix"},
		{0, "[2001:db8::1]:0", "invalid Prefix"},
		{1, "[2001:db8::1]:0", "::/1"},
		{64, "[2001:db8::1]:0", "2001:db8::/64"},
		{128, "[2001:db8::1]:0", "2001:db8::1/128"},
		{129, "[2001:db8::1]:0", "invalid Prefix"},
	} {
		f := pcp.Filter{PrefixLength: test.length, Remote: netip.MustParseAddrPort(test.remote)}
		if got := f.Network().String(); got != test.want {
			t.Errorf("%d bits of %s are %s, want %s", test.length, test.remote, got, test.want)
		}
	}
}

func TestAppendError(t *testing.T) {
	const rest = "a0a1a2a3 05000004 01020304"
	for name, test := range map[string]struct {
		request string
		result  pcp.Result
		want    string
	}{
		"two octets of another version": {"0301", pcp.UnsuppVersion, "02810001 00000708 00000102 00000000 00000000 00000000"},
		"garbage of another version": {
			"ff3fabab" + strings.Repeat("abababab", 5), pcp.UnsuppVersion,
			"02bf0001 00000708 00000102 abababab abababab abababab",
		},
		"not parsed, to be padded": {
			"0201ff00" + head4 + "0102", pcp.MalformedRequest,
			"02810003 00000708 00000102 00000000 0000ffff c0a8320a 01020000",
		},
		"option not parsed": {"02010000" + head4 + rest, pcp.MalformedOption, "02810006 00000708 00000102 00000000 0000ffff c0a8320a" + rest},
		"parsed":            {"0201ffff" + head4 + rest, pcp.UnsuppOption, "02810005 00000708 00000102 00000000 00000000 00000000" + rest},
		"short error":       {"02010000" + head4 + rest, pcp.NoResources, "02810008 0000001e 00000102 00000000 00000000 00000000" + rest},
	} {
		got := pcp.AppendError(nil, octets(t, test.request), test.result, test.result.Lifetime(), 258)
		if want := octets(t, test.want); string(got) != string(want) {
			t.Errorf("%s: %x, want %x", name, got, want)
		}
	}
	if got := pcp.AppendError(nil, make([]byte, 1104), pcp.MalformedRequest, 0, 0); len(got) != pcp.MaxLen {
		t.Errorf("an answer of %d octets", len(got))
	}
	if got := pcp.AppendError([]byte("before"), []byte{1, 1}, pcp.UnsuppVersion, 0, 0); string(got[:8]) != "before\x02\x81" {
		t.Errorf("appended as %q", got)
	}
}

func TestResultNames(t *testing.T) {
	for result, want := range map[pcp.Result]string{
		pcp.AddressMismatch: "ADDRESS_MISMATCH",
		pcp.UnsuppVersion:   "UNSUPP_VERSION",
		200:                 "PCP result 200",
	} {
		if got := result.Error(); got != want {
			t.Errorf("%d is called %s", result, got)
		}
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	reply := make([]byte, 0, 128)
	for name, request := range map[string][]byte{
		"ANNOUNCE": octets(t, "02000000"+head4),
		"MAP":      octets(t, "02010000"+head4+map4),
		"ignored":  octets(t, "02010000"+head4+map4+"ff000000"),
	} {
		if n := testing.AllocsPerRun(100, func() {
			r, _ := pcp.Service{}.Parse(request, client4)
			reply = pcp.Response{Opcode: r.Opcode, Mapping: r.Mapping, Options: r.Options}.Append(reply[:0])
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	malformed := octets(t, "02010000"+head4)
	if n := testing.AllocsPerRun(100, func() {
		_, err := pcp.Service{}.Parse(malformed, client4)
		reply = pcp.AppendError(reply[:0], malformed, err.(pcp.Result), time.Minute, 1)
	}); n != 0 {
		t.Errorf("error: %v allocations", n)
	}
}
