package portmap

import (
	"net/netip"
	"testing"
	"time"
)

// fillHosts fills the desk with n TCP mappings of as many hosts as it takes to
// give each 250, from external port 1024 on, one of them due every second.
func fillHosts(d *allocator, n int) {
	for i := range n {
		m := &Mapping{
			Key:      Key{Protocol: TCP, External: uint16(1024 + i)},
			Internal: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i / 250), byte(i % 250)}), uint16(1024+i)),
			Claims:   []Claim{{Origin: PCP, Bound: true, Expires: d.now.Add(time.Hour + time.Duration(i)*time.Second)}},
			Serial:   uint64(i + 1),
		}
		d.change(Change{After: m})
	}
	d.serial, d.changes = uint64(n), nil
}

// thousandRules makes the last of 1,000 rules decide.
func thousandRules() []Rule {
	var rules []Rule
	for i := range 999 {
		rules = append(rules, Rule{
			Allow: i%2 == 0, External: PortRange{uint16(i * 60), uint16(i*60 + 59)},
			Network: peer, Mask: ^uint32(0), Internal: PortRange{0, 65535},
		})
	}
	return append(rules, Rule{Allow: true, External: PortRange{1024, 65535}, Network: any4, Internal: PortRange{0, 65535}})
}

// decide decides a request as a batch of its own and takes it back.
func (d *allocator) benchmark(b *testing.B, req Request) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		d.begin()
		if a := d.decide(&req); a.Refusal != Granted {
			b.Fatal(a.Refusal)
		}
		d.undo(0)
	}
}

func BenchmarkDeskOpen(b *testing.B) {
	d := testAllocator()
	fillHosts(d, 1000)
	d.benchmark(b, ask(PCP, host, TCP, 40000, 40000))
}

func BenchmarkDeskRenewWith60000(b *testing.B) {
	d := testAllocator()
	fillHosts(d, 60000)
	d.asked(ask(NATPMP, host, UDP, 40000, 40000))
	d.benchmark(b, ask(NATPMP, host, UDP, 40000, 40000))
}

func BenchmarkDeskConflictWith60000(b *testing.B) {
	d := testAllocator()
	fillHosts(d, 60000)
	d.benchmark(b, ask(NATPMP, host, TCP, 2000, 2000))
}

func BenchmarkDeskOpenWith1000Rules(b *testing.B) {
	d := testAllocator()
	d.policy.Rules = thousandRules()
	d.benchmark(b, ask(PCP, host, TCP, 40000, 40000))
}

func BenchmarkDeskConflictWith1000Rules(b *testing.B) {
	d := testAllocator()
	d.policy.Rules = thousandRules()
	d.asked(ask(PCP, host, TCP, 40000, 40000))
	d.benchmark(b, ask(PCP, host, TCP, 40001, 40000))
}

func BenchmarkDeskTickWith60000(b *testing.B) {
	d := testAllocator()
	fillHosts(d, 60000)
	b.ReportAllocs()
	for b.Loop() {
		d.begin()
		d.expire(IPv4)
	}
}

func BenchmarkDeskDeleteAllWith60000(b *testing.B) {
	d := testAllocator()
	fillHosts(d, 60000)
	d.asked(ask(NATPMP, host, UDP, 40000, 40000))
	d.benchmark(b, ask(NATPMP, host, UDP, 0, 0, closing))
}

func BenchmarkDeskDeleteRangeWith1000(b *testing.B) {
	d := testAllocator()
	fillHosts(d, 1000)
	d.asked(ask(UPnP, host, UDP, 40000, 40000))
	d.benchmark(b, ask(UPnP, host, UDP, 0, 1, closing, until(65535)))
}
