package netlink

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// attribute is a type and its value.
type attribute struct {
	kind  uint16
	value []byte
}

// collect returns what Attributes yields.
func collect(b []byte) (list []attribute) {
	for kind, value := range Attributes(b) {
		list = append(list, attribute{kind, value})
	}
	return list
}

func (a attribute) equal(o attribute) bool { return a.kind == o.kind && bytes.Equal(a.value, o.value) }

func TestAttributes(t *testing.T) {
	one := AppendAttribute(nil, 1, []byte{1, 2, 3, 4})
	odd := AppendAttribute(nil, 2, []byte{5})
	for name, tt := range map[string]struct {
		b    []byte
		want []attribute
	}{
		"nothing":                      {nil, nil},
		"one":                          {one, []attribute{{1, []byte{1, 2, 3, 4}}}},
		"two, the first padded":        {slices.Concat(odd, one), []attribute{{2, []byte{5}}, {1, []byte{1, 2, 3, 4}}}},
		"the last without its padding": {slices.Concat(one, odd[:5]), []attribute{{1, []byte{1, 2, 3, 4}}, {2, []byte{5}}}},
		"without a value":              {AppendAttribute(nil, 3, nil), []attribute{{3, nil}}},
		"nested":                       {AppendAttribute(nil, 4|unix.NLA_F_NESTED, odd), []attribute{{4, odd}}},
		"in network byte order":        {AppendAttribute(nil, 5|unix.NLA_F_NET_BYTEORDER, []byte{1}), []attribute{{5, []byte{1}}}},
		"half a header":                {one[:3], nil},
		"half a header after one":      {slices.Concat(one, one[:2]), []attribute{{1, []byte{1, 2, 3, 4}}}},
		"a value that is cut short":    {one[:7], nil},
		"a length of zero":             {make([]byte, 16), nil},
		"a length shorter than itself": {withAttributeLength(one, 3), nil},
		"a length beyond the end":      {withAttributeLength(one, 9), nil},
		"the greatest length":          {withAttributeLength(one, 1<<16-1), nil},
	} {
		if got := collect(tt.b); !slices.EqualFunc(got, tt.want, attribute.equal) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

// withAttributeLength replaces the length of an attribute.
func withAttributeLength(b []byte, length uint16) []byte {
	b = slices.Clone(b)
	binary.NativeEndian.PutUint16(b, length)
	return b
}

func TestAttribute(t *testing.T) {
	b := AppendAttribute(nil, 1, []byte{1})
	b = AppendAttribute(b, 2|unix.NLA_F_NESTED, AppendAttribute(nil, 3, []byte{3}))
	b = AppendAttribute(b, 1, []byte{9})
	if got := Attribute(b, 1); !bytes.Equal(got, []byte{1}) {
		t.Errorf("attribute 1 = %v, want the first", got)
	}
	if got := Attribute(Attribute(b, 2), 3); !bytes.Equal(got, []byte{3}) {
		t.Errorf("nested attribute = %v", got)
	}
	if got := Attribute(b, 3); got != nil {
		t.Errorf("attribute 3 = %v, though it is nested in another", got)
	}
}

func TestAppendAttribute(t *testing.T) {
	want := slices.Concat(binary.NativeEndian.AppendUint16(nil, 7), binary.NativeEndian.AppendUint16(nil, 1), []byte{1, 2, 3, 0})
	if got := AppendAttribute(nil, 1, []byte{1, 2, 3}); !bytes.Equal(got, want) {
		t.Errorf("attribute = %v, want %v", got, want)
	}
}

// FuzzAttributes reads anything; encoded again, the attributes are the same.
func FuzzAttributes(f *testing.F) {
	f.Add(AppendAttribute(AppendAttribute(nil, 1, []byte{1, 2, 3}), 2|unix.NLA_F_NESTED, []byte{4}))
	f.Add([]byte{3, 0, 1, 0})
	f.Add([]byte{0xff, 0xff, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		list := collect(b)
		var again []byte
		for _, a := range list {
			again = AppendAttribute(again, a.kind, a.value)
		}
		if len(again) > len(b)+3 || !slices.EqualFunc(collect(again), list, attribute.equal) {
			t.Errorf("%x: %v, encoded again %x", b, list, again)
		}
	})
}
