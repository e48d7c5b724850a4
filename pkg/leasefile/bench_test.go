package leasefile

import (
	"strconv"
	"testing"
	"time"

	"igdd/pkg/portmap"
)

// filled returns a store with n mappings, and the first of them.
func filled(b *testing.B, n int) (*Store, *portmap.Mapping) {
	s := New(Options{Path: leasePath(b)})
	load(b, s)
	list := many(n)
	save(b, s, additions(list...)...)
	checkpoint(b, s)
	return s, list[0]
}

// BenchmarkSave saves one change, for which a request waits.
func BenchmarkSave(b *testing.B) {
	s, m := filled(b, 5000)
	b.ReportAllocs()
	for b.Loop() {
		after := renewed(m, time.Hour)
		save(b, s, portmap.Change{Before: m, After: after})
		m = after
	}
}

// BenchmarkCheckpoint writes both files, with syncs, while requests go on.
func BenchmarkCheckpoint(b *testing.B) {
	for _, n := range []int{100, 1000, 5000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			s, m := filled(b, n)
			b.ReportAllocs()
			for b.Loop() {
				after := forward(m.Serial, m.Claims[0])
				after.Key.External = 1 + m.Key.External%1000
				save(b, s, portmap.Change{Before: m, After: after})
				m = after
				checkpoint(b, s)
			}
		})
	}
}

// BenchmarkLoad reads both files.
func BenchmarkLoad(b *testing.B) {
	s, _ := filled(b, 5000)
	b.ReportAllocs()
	for b.Loop() {
		load(b, New(Options{Path: s.path}))
	}
}
