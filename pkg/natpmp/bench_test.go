package natpmp_test

import (
	"testing"

	"igdd/pkg/natpmp"
)

// The benchmarks decode and encode what servers hear most.

func BenchmarkAddress(b *testing.B) { benchmark(b, []byte{0, 0}) }

func BenchmarkMap(b *testing.B) {
	benchmark(b, []byte{0, 1, 0, 0, 0x9c, 0x40, 0x9c, 0x40, 0, 0, 0x0e, 0x10})
}

func benchmark(b *testing.B, request []byte) {
	var buffer [16]byte
	b.ReportAllocs()
	for b.Loop() {
		r, err := natpmp.ParseRequest(request)
		if err != nil {
			b.Fatal(err)
		}
		natpmp.Response{Opcode: r.Opcode, InternalPort: r.InternalPort, Lifetime: r.Lifetime}.Append(buffer[:0])
	}
}
