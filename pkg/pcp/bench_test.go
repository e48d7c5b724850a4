package pcp_test

import (
	"testing"

	"igdd/pkg/pcp"
)

// The benchmarks decode and encode what servers hear most.

func BenchmarkAnnounce(b *testing.B) { benchmark(b, "02000000"+head4) }

func BenchmarkMap(b *testing.B) { benchmark(b, "02010000"+head4+map4) }

func BenchmarkMapWithOptions(b *testing.B) {
	benchmark(b, "02010000"+head4+map4+"80000003 73736800 02000000")
}

func BenchmarkRefusal(b *testing.B) {
	request := octets(b, "02010000"+head4+map4)
	var buffer [pcp.MaxLen]byte
	b.ReportAllocs()
	for b.Loop() {
		pcp.AppendError(buffer[:0], request, pcp.NotAuthorized, 0, 7)
	}
}

func benchmark(b *testing.B, digits string) {
	request := octets(b, digits)
	var buffer [pcp.MaxLen]byte
	b.ReportAllocs()
	for b.Loop() {
		r, err := all.Parse(request, client4)
		if err != nil {
			b.Fatal(err)
		}
		pcp.Response{Opcode: r.Opcode, Mapping: r.Mapping, Options: r.Options}.Append(buffer[:0])
	}
}
