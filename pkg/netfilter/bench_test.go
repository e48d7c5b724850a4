package netfilter_test

import (
	"fmt"
	"testing"

	"igdd/pkg/netlab"
	"igdd/pkg/portmap"
)

// many returns n mappings.
func many(n int) []*portmap.Mapping {
	var list []*portmap.Mapping
	for i := range n {
		list = append(list, mapping(portmap.TCP, uint16(10000+i), fmt.Sprintf("192.168.50.%d:%d", 10+i%200, 1000+i)))
	}
	return list
}

// eachCommitter runs a benchmark with both variants and both committers.
func eachCommitter(b *testing.B, run func(b *testing.B, f nsFirewall)) {
	for _, variant := range netlab.Variants {
		for _, committer := range []string{"resident", "alone"} {
			b.Run(variant+"/"+committer, func(b *testing.B) {
				r := newRouter(b, variant)
				if committer == "alone" {
					r.alone(b)
				}
				f := r.firewall(b, ipv4(b))
				must(b, f.Setup())
				run(b, f)
				must(b, f.Teardown())
			})
		}
	}
}

// BenchmarkApply opens or closes one mapping while others are present.
func BenchmarkApply(b *testing.B) {
	for _, present := range []int{0, 1000, 5000} {
		b.Run(fmt.Sprint(present), func(b *testing.B) {
			eachCommitter(b, func(b *testing.B, f nsFirewall) {
				one := open(mapping(portmap.TCP, 1, "192.168.50.10:80"))
				must(b, f.Sync(many(present)))
				for b.Loop() {
					must(b, f.Apply(one))
					one[0] = one[0].Inverse()
				}
			})
		})
	}
}

// BenchmarkClose closes one mapping or a hundred while others are present, as the daemon
// does, which is told of changes.
func BenchmarkClose(b *testing.B) {
	for _, present := range []int{0, 1000, 5000, 10000} {
		for _, n := range []int{1, 100} {
			b.Run(fmt.Sprintf("%d of %d", n, present+n), func(b *testing.B) {
				f := newRouter(b, "nft").firewall(b, ipv4(b))
				must(b, f.Setup())
				must(b, f.Sync(many(present + n)[n:]))
				f.watchTables(b)
				for b.Loop() {
					b.StopTimer()
					must(b, f.Apply(open(many(n)...)))
					b.StartTimer()
					must(b, f.Apply(closing(many(n)...)))
				}
				must(b, f.Teardown())
			})
		}
	}
}

// BenchmarkSync fills empty chains with 5,000 mappings.
func BenchmarkSync(b *testing.B) {
	eachCommitter(b, func(b *testing.B, f nsFirewall) {
		all := many(5000)
		for b.Loop() {
			must(b, f.Sync(all))
			b.StopTimer()
			must(b, f.Sync(nil))
			b.StartTimer()
		}
	})
}

// BenchmarkRenewal applies a change that alters no rule.
func BenchmarkRenewal(b *testing.B) {
	r := newRouter(b, "legacy")
	f := r.firewall(b, ipv4(b))
	m := mapping(portmap.TCP, 1, "192.168.50.10:80")
	renewal := []portmap.Change{{Before: m, After: m}}
	for b.Loop() {
		must(b, f.Firewall.Apply(b.Context(), renewal))
	}
}

// BenchmarkHealthy looks at 5,000 mappings.
func BenchmarkHealthy(b *testing.B) {
	eachCommitter(b, func(b *testing.B, f nsFirewall) {
		must(b, f.Sync(many(5000)))
		for b.Loop() {
			wantHealthy(b, f)
		}
	})
}
