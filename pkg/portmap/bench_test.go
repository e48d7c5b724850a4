package portmap

import (
	"net/netip"
	"testing"
	"time"
)

// fillHosts adds n TCP mappings, 250 for each host, from external port 1024 on,
// of which one expires every second.
func fillHosts(al *allocator, n int) {
	for i := range n {
		m := &Mapping{
			Key:      Key{Protocol: TCP, External: uint16(1024 + i)},
			Internal: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i / 250), byte(i % 250)}), uint16(1024+i)),
			Claims:   []Claim{{Origin: PCP, Expires: al.now.Add(time.Hour + time.Duration(i)*time.Second)}},
			Serial:   uint64(i + 1),
		}
		al.change(Change{After: m})
	}
	al.serial, al.changes = uint64(n), nil
}

// thousandRules returns 1,000 rules of which the last one decides.
func thousandRules() []Rule {
	var rules []Rule
	for i := range 999 {
		rules = append(rules, Rule{
			Allow: i%2 == 0, External: Ports{{uint16(i * 60), uint16(i*60 + 59)}},
			Network: peer, Mask: ^uint32(0), Internal: Ports{{0, 65535}},
		})
	}
	return append(rules, Rule{Allow: true, External: Ports{{1024, 65535}}, Network: any4, Internal: Ports{{0, 65535}}})
}

// benchmark decides a request as a batch of its own and reverts it.
func (al *allocator) benchmark(b *testing.B, req Request) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		al.begin()
		if a := al.decide(&req); a.Refusal != Granted {
			b.Fatal(a.Refusal)
		}
		al.undo(0)
	}
}

func BenchmarkAllocatorOpen(b *testing.B) {
	al := testAllocator()
	fillHosts(al, 1000)
	al.benchmark(b, ask(PCP, host, TCP, 40000, 40000))
}

func BenchmarkAllocatorRenewWith60000(b *testing.B) {
	al := testAllocator()
	fillHosts(al, 60000)
	al.do(ask(NATPMP, host, UDP, 40000, 40000))
	al.benchmark(b, ask(NATPMP, host, UDP, 40000, 40000))
}

func BenchmarkAllocatorConflictWith60000(b *testing.B) {
	al := testAllocator()
	fillHosts(al, 60000)
	al.benchmark(b, ask(NATPMP, host, TCP, 2000, 2000))
}

func BenchmarkAllocatorOpenWith1000Rules(b *testing.B) {
	al := testAllocator()
	al.policy.Rules = thousandRules()
	al.benchmark(b, ask(PCP, host, TCP, 40000, 40000))
}

func BenchmarkAllocatorConflictWith1000Rules(b *testing.B) {
	al := testAllocator()
	al.policy.Rules = thousandRules()
	al.do(ask(PCP, host, TCP, 40000, 40000))
	al.benchmark(b, ask(PCP, host, TCP, 40001, 40000))
}

func BenchmarkAllocatorTickWith60000(b *testing.B) {
	al := testAllocator()
	fillHosts(al, 60000)
	b.ReportAllocs()
	for b.Loop() {
		al.begin()
		al.expire(IPv4)
	}
}

func BenchmarkAllocatorDeleteAllWith60000(b *testing.B) {
	al := testAllocator()
	fillHosts(al, 60000)
	al.do(ask(NATPMP, host, UDP, 40000, 40000))
	al.benchmark(b, ask(NATPMP, host, UDP, 0, 0, closing))
}

func BenchmarkAllocatorDeleteRangeWith1000(b *testing.B) {
	al := testAllocator()
	fillHosts(al, 1000)
	al.do(ask(UPnP, host, UDP, 40000, 40000))
	al.benchmark(b, ask(UPnP, host, UDP, 0, 1, closing, until(65535)))
}
