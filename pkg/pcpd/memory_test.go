package pcpd_test

import (
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/pcp"
)

// liveHeap returns the bytes of the heap that are in use.
func liveHeap() int {
	runtime.GC()
	runtime.GC() // frees what the first one finalised
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// filters returns n filters, all for one network or each for another one.
func filters(n int, distinct bool) (list []pcp.Option) {
	for i := range n {
		host := netip.AddrFrom4([4]byte{45, 67, 0, byte(i)})
		if distinct {
			host = netip.AddrFrom4([4]byte{45, 67, byte(i), 0})
		}
		list = append(list, pcp.Filter{PrefixLength: 96 + 24, Remote: netip.AddrPortFrom(host, 443)})
	}
	return list
}

// TestMemoryOfMappings checks that a mapping takes no more memory than it needs, even
// after the largest valid requests.
func TestMemoryOfMappings(t *testing.T) {
	lab := newLab(t)
	const n, maxFilters = 200, 16
	description := func(octets int) pcp.Option { return pcp.Description{Text: strings.Repeat("d", octets)} }
	remove := pcp.Filter{} // removes the filters before it
	for _, tt := range []struct {
		name    string
		most    int // bytes per mapping
		options []pcp.Option
	}{
		{"no options", 2048, nil},
		{"longest description", 2048, []pcp.Option{description(1016)}},
		{"one filter repeated", 2048, filters(43, false)},
		{"repeated filter and a description", 2048, append(filters(22, false), description(500))},
		{"filters that are removed", 2048, append(filters(42, true), remove)},
		{"only removals", 2048, slices.Repeat([]pcp.Option{remove}, 43)},
		{"most filters and a description", 2048 + maxFilters*128, append(filters(maxFilters, true), description(640))},
	} {
		t.Run("MAP, "+tt.name, func(t *testing.T) {
			s := defaultSetup()
			s.policy.MaxFilters = maxFilters
			g := serve(t, lab, s)
			checkHeapGrowth(t, n, tt.most, func(i int) {
				checkResult(t, g.askPCP(t, client, mapUDP(uint16(4000+i), 0, nonceA, tt.options...)), pcp.Success, time.Hour)
			})
			runtime.KeepAlive(g)
		})
	}
	t.Run("NAT-PMP", func(t *testing.T) {
		g := serve(t, lab, defaultSetup())
		checkHeapGrowth(t, n, 2048, func(i int) {
			r := natpmp.Request{Opcode: natpmp.MapUDP, InternalPort: uint16(4000 + i), Lifetime: time.Hour}
			if reply := g.askNATPMP(t, client, r); reply.Result != natpmp.Success {
				t.Fatalf("%+v", reply)
			}
		})
		runtime.KeepAlive(g)
	})
}

// checkHeapGrowth checks that n requests make the heap grow by most bytes each, or
// less.
func checkHeapGrowth(t *testing.T, n, most int, ask func(i int)) {
	t.Helper()
	before := liveHeap()
	for i := range n {
		ask(i)
	}
	each := (liveHeap() - before) / n
	t.Logf("%d bytes per mapping", each)
	if each > most {
		t.Errorf("%d bytes per mapping, want %d at most", each, most)
	}
}
