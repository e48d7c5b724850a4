package pcp_test

import (
	"net/netip"
	"reflect"
	"testing"

	"igdd/pkg/pcp"
	"igdd/pkg/vectors"
)

// seeds are the packets that fuzzing starts from.
func seeds(f *testing.F) {
	for _, digits := range []string{
		"", "02", "0200", "02000000" + delete4, "02010000" + head4 + map4, "02020000" + head4 + peer4,
		"02010000" + head6 + map6 + "03000014 00400000 20010db8 00770000 00000000 00000000",
		"02010000" + head4 + map4 + "80000003 73736800 02000000 01000010 00000000 00000000 0000ffff c0a8320b c8000001 01000000",
		"02810000 00000e10 00000102 00000000 00000000 00000000" + map4 + "02000000 80000003 73736800",
		"02820000 00000e10 00000000 00000000 00000000 00000000" + peer4,
		"02810002 0000003c 00000000 00000000 00000000 00000000" + map4,
	} {
		f.Add(octets(f, digits))
	}
	for _, v := range vectors.Load(f, "pcp") {
		f.Add([]byte(v.Request))
	}
}

func FuzzRequest(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		source := client4
		if len(b) >= 24 {
			source = netip.AddrFrom16([16]byte(b[8:])).Unmap()
		}
		r, err := all.Parse(b, source)
		if result, ok := err.(pcp.Result); ok {
			reply := pcp.AppendError(nil, b, result, result.Lifetime(), 1)
			if len(reply) < 24 || len(reply) > max(24, len(b)+3) || len(reply) > pcp.MaxLen || len(reply)%4 != 0 {
				t.Errorf("%v: %d octets answer %d", result, len(reply), len(b))
			}
		}
		if err != nil {
			return
		}
		again, err := all.Parse(r.Append(nil), source)
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%+v became %+v, %v", r, again, err)
		}
	})
}

func FuzzResponse(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := pcp.ParseResponse(b)
		if err != nil {
			return
		}
		again, err := pcp.ParseResponse(r.Append(nil))
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%+v became %+v, %v", r, again, err)
		}
	})
}
