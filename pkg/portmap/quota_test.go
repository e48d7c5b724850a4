package portmap

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// quotaAllocator returns an allocator with limits, and two IPv6 prefixes on its
// LAN.
func quotaAllocator(perHost, perLAN, total int) *allocator {
	al := testAllocator()
	al.policy.MaxPerHost, al.policy.MaxPerLAN, al.policy.MaxTotal = perHost, perLAN, total
	al.setNetwork(NetworkState{External: wan4, LANs: []netip.Prefix{
		lan, netip.MustParsePrefix("2001:db8:50::1/64"), netip.MustParsePrefix("2001:db8:51::1/64"),
	}})
	return al
}

// owned makes a request come from a host with this name.
func owned(name string) func(*Request) { return func(r *Request) { r.ClientHost = name } }

// fill sends requests until one is refused, and returns how many were granted, and
// the refusal.
func (al *allocator) fill(request func(i int) Request) (n int, r Refusal) {
	for ; r == Granted && n < 10000; n++ {
		r = al.do(request(n)).Refusal
	}
	return n - 1, r
}

// addr6 returns the i-th IPv6 address of a host, in one of two prefixes.
func addr6(i int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("2001:db8:5%d::%x", i%2, 0x100+i))
}

// fillIPv4 asks for mappings of an address until one is refused.
func (al *allocator) fillIPv4(a netip.Addr) (int, Refusal) {
	return al.fill(func(i int) Request { return ask(NATPMP, a, UDP, uint16(30000+i), 0) })
}

// TestQuotaOfManyAddresses has a host with many IPv6 addresses, in two prefixes,
// map ports to each of them: they count together, and a host beside it gets all
// that it may have.
func TestQuotaOfManyAddresses(t *testing.T) {
	const perHost, perLAN, total = 64, 256, 512
	al := quotaAllocator(perHost, perLAN, total)
	n, r := al.fill(func(i int) Request { return ask(PCP, addr6(i), TCP, uint16(2000+i%5), 0, owned("flooder")) })
	if n != perLAN/2 || r != QuotaExceeded {
		t.Errorf("the host has %d pinholes, then %v", n, r)
	}
	if n, r := al.fillIPv4(peer); n != perHost || r != QuotaExceeded {
		t.Errorf("a host beside it has %d mappings, then %v", n, r)
	}
}

// TestQuotaCountsClaimsAndRules has a host at its quota through one mapping or few:
// by pinholes to one target, by flows from one port, and by remote peers that its
// claims name.
func TestQuotaCountsClaimsAndRules(t *testing.T) {
	const perHost = 32
	single := func(i int) string { return fmt.Sprintf("9.9.%d.%d/32", i/256, i%256) }
	tests := []struct {
		what    string
		request func(i int) Request
		most    int // requests granted
	}{
		{"pinholes", func(i int) Request {
			return ask(UPnP, inside, TCP, uint16(2000+i/50), 0, func(r *Request) {
				r.Filters = []Filter{{netip.PrefixFrom(addr6(i), 128), 0}}
			})
		}, ipv6QuotaFactor * perHost},
		{"flows", func(i int) Request {
			return ask(PCP, host, TCP, uint16(2000+i/20), 0, toward(fmt.Sprintf("9.9.9.9:%d", 1000+i)))
		}, perHost},
		{"rules", func(i int) Request {
			return ask(PCP, host, TCP, uint16(2000+i), 0, from(single(4*i), single(4*i+1), single(4*i+2), single(4*i+3)))
		}, perHost / 4},
		{"rules of one claim", func(i int) Request {
			return ask(PCP, host, TCP, 2000, 0, from(single(i)), keeping)
		}, perHost},
		{"protocols", func(i int) Request {
			return ask([]Origin{PCP, NATPMP, UPnP}[i%3], host, TCP, uint16(2000+i/3), uint16(2000+i/3))
		}, perHost},
	}
	for _, tt := range tests {
		al := quotaAllocator(perHost, 0, 0)
		al.policy.Rules = nil
		if n, r := al.fill(tt.request); n != tt.most || r != QuotaExceeded {
			t.Errorf("%s: %d are granted, then %v, want %d", tt.what, n, r, tt.most)
		}
		if a := al.do(tt.request(0)); a.Refusal != Granted {
			t.Errorf("%s: a renewal: %v", tt.what, a.Refusal)
		}
		if a := al.do(ask(NATPMP, peer, UDP, 40000, 0)); a.Refusal != Granted {
			t.Errorf("%s: another host: %v", tt.what, a.Refusal)
		}
	}
}

// TestRoomForHostsWithLittle has hosts take all that they can, one after another:
// each of them leaves room for the next.
func TestRoomForHostsWithLittle(t *testing.T) {
	for _, tt := range []struct {
		perHost, perLAN, total int
		want                   []int // mappings of each host
	}{
		{0, 64, 0, []int{56, 4, 2, 1, 1, 0}},
		{0, 0, 64, []int{56, 4, 2, 1, 1, 0}},
		{20, 64, 80, []int{20, 20, 16, 4, 2, 1, 1, 0}},
		{0, 4, 0, []int{4, 0}}, // too few to divide
	} {
		al := quotaAllocator(tt.perHost, tt.perLAN, tt.total)
		for i, want := range tt.want {
			if n, r := al.fillIPv4(netip.AddrFrom4([4]byte{192, 168, 50, byte(100 + i)})); n != want || r == Granted {
				t.Errorf("limits %d, %d, %d: host %d has %d mappings, then %v, want %d", tt.perHost, tt.perLAN, tt.total, i, n, r, want)
			}
		}
	}
}

// TestUnknownHostsShareAQuota asks for hosts that are not known, on two LANs, for a
// host whose hardware address is known, and for hosts behind one repeater, which
// have names of their own.
func TestUnknownHostsShareAQuota(t *testing.T) {
	const perHost = 8
	al := quotaAllocator(perHost, 0, 0)
	al.policy.Rules, al.policy.Secure = nil, false
	other := netip.MustParsePrefix("192.168.51.1/24")
	al.setNetwork(NetworkState{External: wan4, Interfaces: [][]netip.Prefix{{lan}, {other}}, LANs: []netip.Prefix{lan, other}})
	of := func(a netip.Addr, i int, h Host) Request {
		return ask(UPnP, host, UDP, uint16(2000+i), 2000, to(a, uint16(2000+i)), anyPort, func(r *Request) { r.ClientHost, r.Host = "", h })
	}
	on := func(third, i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 168, byte(third), byte(20 + i)}) }
	const repeater = "02:00:00:00:00:aa"
	for _, tt := range []struct {
		what    string
		request func(i int) Request
		want    int
	}{
		{"unknown hosts", func(i int) Request { return of(on(50, i), i, Host{}) }, perHost},
		{"one more of them", func(i int) Request { return of(on(50, 100), i, Host{}) }, 0},
		{"those of another LAN", func(i int) Request { return of(on(51, i), i, Host{}) }, perHost},
		{"a host with several addresses", func(i int) Request { return of(on(50, 150+i), i, Host{Hardware: repeater}) }, perHost},
		{"a host behind it", func(i int) Request { return of(on(50, 200), i, Host{Name: repeater + " 200", Hardware: repeater}) }, perHost},
		{"another host behind it", func(i int) Request { return of(on(50, 201), i, Host{Name: repeater + " 201", Hardware: repeater}) }, perHost},
	} {
		if n, r := al.fill(tt.request); n != tt.want || r != QuotaExceeded {
			t.Errorf("%s: %d are granted, then %v, want %d", tt.what, n, r, tt.want)
		}
	}
}

// TestHostThatBecomesKnown has a host's mapping renewed when its name is known: it
// counts for that host, and not for the unknown ones.
func TestHostThatBecomesKnown(t *testing.T) {
	al := quotaAllocator(2, 0, 0)
	first := ask(NATPMP, host, UDP, 40000, 0, owned(""))
	if a := al.do(first); a.Refusal != Granted {
		t.Fatal(a.Refusal)
	}
	first.ClientHost = "a"
	if a := al.do(first); a.Refusal != Granted || a.Mapping.Host.Name != "a" {
		t.Fatalf("renewed: %v, %+v", a.Refusal, a.Mapping)
	}
	first.ClientHost = ""
	if a := al.do(first); a.Refusal != Granted || a.Mapping.Host.Name != "a" {
		t.Fatalf("renewed without a name: %v, %+v", a.Refusal, a.Mapping)
	}
	for _, tt := range []struct {
		name string
		want int
	}{{"a", 1}, {"", 2}} {
		n, r := al.fill(func(i int) Request { return ask(NATPMP, peer, UDP, uint16(41000+10*tt.want+i), 0, owned(tt.name)) })
		if n != tt.want || r != QuotaExceeded {
			t.Errorf("host %q: %d are granted, then %v", tt.name, n, r)
		}
	}
}

// TestRestartKeepsWhatExceedsTheQuota restores mappings under lower limits, when no
// host is known but by its saved hardware address: all stay, and count for new
// ones.
func TestRestartKeepsWhatExceedsTheQuota(t *testing.T) {
	al := quotaAllocator(0, 0, 0)
	al.policy.Rules = nil
	var saved []*Mapping
	for i := range 10 {
		a := al.do(ask(PCP, addr6(i), TCP, 2000, 0, owned("02:00:00:00:00:10"), func(r *Request) { r.Host.Hardware = r.ClientHost }))
		b := al.do(ask(NATPMP, netip.AddrFrom4([4]byte{192, 168, 50, byte(20 + i)}), UDP, 40000, 0))
		if a.Refusal != Granted || b.Refusal != Granted {
			t.Fatal(a.Refusal, b.Refusal)
		}
		for _, m := range []*Mapping{a.Mapping, b.Mapping} {
			n := *m
			n.Host.Name = "" // it is not saved
			saved = append(saved, &n)
		}
	}
	al = quotaAllocator(2, 100, 100)
	al.policy.Rules = nil
	if d := al.restore(saved, true); len(d.closed) > 0 || len(al.index.order) != len(saved) {
		t.Fatalf("%d of %d are restored, closed are %v", len(al.index.order), len(saved), d.closed)
	}
	next := 1000
	for name, want := range map[string]Refusal{"02:00:00:00:00:10": QuotaExceeded, "02:00:00:00:00:11": Granted, "": QuotaExceeded} {
		next++
		if a := al.do(ask(PCP, addr6(next), TCP, 2000, 0, owned(name))); a.Refusal != want {
			t.Errorf("a new mapping of %q: %v, want %v", name, a.Refusal, want)
		}
	}
}

// TestLANsAreCountedAnew removes the network of a LAN and adds it again.
func TestLANsAreCountedAnew(t *testing.T) {
	al := quotaAllocator(0, 4, 0)
	other := netip.MustParsePrefix("192.168.51.1/24")
	both := NetworkState{External: wan4, LANs: []netip.Prefix{lan, other}, Interfaces: [][]netip.Prefix{{lan}, {other}}}
	al.setNetwork(both)
	al.fillIPv4(host)
	al.setNetwork(NetworkState{External: wan4, LANs: []netip.Prefix{other}, Interfaces: [][]netip.Prefix{{other}}})
	al.policy.Rules = nil
	if n, r := al.fillIPv4(netip.MustParseAddr("192.168.51.10")); n != 4 || r != TableFull {
		t.Errorf("the other LAN has %d mappings, then %v", n, r)
	}
	al.setNetwork(both)
	if n, r := al.fillIPv4(peer); n != 0 || r != TableFull {
		t.Errorf("the first LAN has %d more mappings, then %v", n, r)
	}
	al.begin()
	al.now = al.now.Add(2 * time.Hour)
	al.expire(IPv4)
	if q := al.quotas; q.total != 0 || len(q.hosts) != 0 || len(q.lans) != 0 {
		t.Errorf("left in the counts: %+v", q)
	}
}

// TestHoldDownIsBoundedByHost has a host open and close PCP mappings from many
// addresses.
func TestHoldDownIsBoundedByHost(t *testing.T) {
	al := quotaAllocator(0, 0, 0)
	for i := range 4 {
		client := netip.AddrFrom4([4]byte{192, 168, 50, byte(10 + i)})
		for port := uint16(2000); port < 2000+maxHeldPerHost; port++ {
			a := al.do(ask(PCP, client, TCP, port, uint16(i)*1000+port, owned("02:00:00:00:00:10")))
			if a.Refusal != Granted {
				t.Fatal(a.Refusal)
			}
			al.drop(a.Mapping, func(Claim) bool { return true }, Deleted)
		}
	}
	if n := len(al.holdDown.ports); n != maxHeldPerHost {
		t.Errorf("%d ports are held, want %d", n, maxHeldPerHost)
	}
}

// TestHoldDownCountsItsPorts starts, ends and restarts hold-downs of few ports for more
// hosts than may hold them all: the counts are those of the entries at any time, and a
// host at its limit starts the hold-down of a port anew.
func TestHoldDownCountsItsPorts(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	h, now, full := newHoldDown(make(numbers)), time.Now(), 0
	hosts := []hostKey{{name: "a"}, {name: "b"}, {name: "c"}}
	for range 20000 {
		m := &Mapping{Key: Key{Protocol: []Protocol{TCP, UDP}[rnd.IntN(2)], External: uint16(1 + rnd.IntN(150))}, Internal: netip.AddrPortFrom(host, 1)}
		by := hosts[min(rnd.IntN(20), 2)]
		now = now.Add(time.Duration(rnd.IntN(2000)) * time.Millisecond)
		switch old, held := h.ports[m.Key]; {
		case rnd.IntN(50) == 0:
			h.forget(m.Key)
		case rnd.IntN(50) == 0:
			h.sweep(now)
		default:
			if held && old.host == by && h.perHost[by] == maxHeldPerHost {
				full++
			}
			h.add(m, by, by, now)
		}
		counts := make(map[hostKey]int)
		for _, p := range h.ports {
			counts[p.host]++
		}
		if !maps.Equal(counts, h.perHost) {
			t.Fatalf("%v ports are held, the counts are %v", counts, h.perHost)
		}
	}
	if full == 0 {
		t.Error("no host at its limit has started a hold-down anew")
	}
}
