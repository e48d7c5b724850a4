package portmap

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
)

// TestAliasGrantsNoMoreThanTheAddress sends random requests from another
// address of a host, with the host's own address as alias, and from the address
// itself: answers and mappings are the same. An alias that is not the target's
// address has no effect.
func TestAliasGrantsNoMoreThanTheAddress(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	link, neighbour := netip.MustParseAddr("fe80::10"), netip.MustParseAddr("2001:db8:50::11")
	granted := 0
	for range 200 {
		strict, al := testAllocator(), testAllocator()
		al.now = strict.now
		for range 20 {
			req := ask(UPnP, inside, TCP, uint16([]int{80, 4000, 4001, 4002}[rnd.IntN(4)]), 0, anyPort)
			switch rnd.IntN(4) {
			case 0:
				req.ID = uint16(rnd.IntN(4))
			case 1:
				req.Op, req.ID = Close, uint16(1+rnd.IntN(4))
			case 2:
				req.Filters = []Filter{{Prefix: netip.MustParsePrefix("2001:db8:99::2/128")}}
			}
			if rnd.IntN(4) == 0 { // another host's, which the alias does not match
				req.Internal = netip.AddrPortFrom(neighbour, 4000)
			}
			other := req
			other.Client, other.Alias = link, inside
			want, got := strict.do(req), al.do(other)
			if got.Refusal != want.Refusal || got.ID != want.ID || got.Closed != want.Closed || !reflect.DeepEqual(got.Mapping, want.Mapping) {
				t.Fatalf("%+v: %+v, want %+v", other, got, want)
			}
			if want.Refusal == Granted {
				granted++
			}
		}
	}
	if granted < 100 {
		t.Errorf("only %d requests were granted", granted)
	}
}
