package ssdpd

import (
	"net/netip"
	"testing"
	"time"

	"igdd/pkg/ssdp"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// own are the addresses of a router's interface.
var own = []netip.Prefix{
	netip.MustParsePrefix("192.168.50.1/24"), netip.MustParsePrefix("10.1.0.1/16"),
	netip.MustParsePrefix("fe80::1/64"), netip.MustParsePrefix("2001:db8::1/64"), netip.MustParsePrefix("fd00::1/64"),
}

func TestIsAdmitted(t *testing.T) {
	group := ssdp.IPv4.Addr()
	tests := []struct {
		from string
		to   netip.Addr
		want bool
	}{
		{"192.168.50.10:4000", group, true},
		{"10.1.2.3:4000", group, true},
		{"192.168.50.10:4000", addr("192.168.50.1"), true},
		{"[fe80::2%7]:4000", ssdp.LinkLocal.Addr(), true},
		{"[2001:db8::2]:4000", ssdp.SiteLocal.Addr(), true},
		{"192.168.50.10:0", group, false},
		{"192.168.50.1:4000", group, false},
		{"[fe80::1%7]:4000", ssdp.LinkLocal.Addr(), false},
		{"192.168.50.255:4000", group, false},
		{"192.168.50.0:4000", group, false},
		{"255.255.255.255:4000", group, false},
		{"224.0.0.1:4000", group, false},
		{"127.0.0.1:4000", group, false},
		{"0.0.0.0:4000", group, false},
		{"192.168.60.10:4000", group, false},
		{"[2001:db8:1::2]:4000", ssdp.SiteLocal.Addr(), false},
		{"192.168.50.10:4000", addr("192.168.60.1"), false},
		{"192.168.50.10:4000", addr("192.168.50.255"), false},
	}
	for _, tt := range tests {
		if got := isAdmitted(own, netip.MustParseAddrPort(tt.from), tt.to); got != tt.want {
			t.Errorf("from %s to %v: %v", tt.from, tt.to, got)
		}
	}
}

func TestAddrFor(t *testing.T) {
	tests := []struct{ from, to, want string }{
		{"192.168.50.10", "239.255.255.250", "192.168.50.1"},
		{"10.1.2.3", "239.255.255.250", "10.1.0.1"},
		{"192.168.50.10", "10.1.0.1", "10.1.0.1"},
		{"fe80::2", "ff02::c", "fe80::1"},
		{"2001:db8::2", "ff02::c", "fe80::1"},
		{"fe80::2", "ff05::c", "2001:db8::1"},
		{"fd00::2", "ff05::c", "fd00::1"},
	}
	for _, tt := range tests {
		if got := addrFor(own, addr(tt.from), addr(tt.to)); got != addr(tt.want) {
			t.Errorf("from %s to %s: %v, want %s", tt.from, tt.to, got, tt.want)
		}
	}
	if got := addrFor(own[2:3], addr("fe80::2"), addr("ff05::c")); got.IsValid() {
		t.Errorf("without an address of wider scope: %v", got)
	}
}

func TestRateLimiter(t *testing.T) {
	l := rateLimiter{sources: make(map[netip.Addr]source)}
	now, c1, c2 := time.Now(), addr("192.168.50.10"), addr("192.168.50.11")
	admitted := func(from netip.Addr, answers, times int) (n int) {
		for range times {
			if l.admit(from, answers, now) {
				n++
			}
		}
		return n
	}
	if sets, singles := admitted(c1, 11, 20), admitted(c1, 1, 20); sets != 1 || singles != singlesPerSource {
		t.Errorf("%d sets and %d single answers in the first second", sets, singles)
	}
	if sets := admitted(c2, 11, 20); sets != 1 {
		t.Errorf("%d sets to another source", sets)
	}
	now = now.Add(window)
	if sets, singles := admitted(c1, 11, 20), admitted(c1, 1, 20); sets != 1 || singles != singlesPerSource {
		t.Errorf("%d sets and %d single answers in the next second", sets, singles)
	}
	all, from := 0, addr("10.1.0.0")
	for range 3 * maxSources {
		from = from.Next()
		all += admitted(from, 11, 1)
	}
	if all == 0 || 11*all > perSecond || len(l.sources) > maxSources {
		t.Errorf("%d sets to all, %d sources", all, len(l.sources))
	}
	now = now.Add(2 * window)
	if admitted(from.Next(), 1, 1) != 1 {
		t.Error("no client is answered after the flood")
	}
}

// TestRateLimitIsPerSource sends searches from one source at twice the rate that all
// sources together are answered: another source is still answered.
func TestRateLimitIsPerSource(t *testing.T) {
	for _, answers := range []int{1, 11} {
		l := rateLimiter{sources: make(map[netip.Addr]source)}
		now := time.Now()
		for n := range 20 {
			for range 2 * perSecond {
				l.admit(addr("192.168.50.10"), answers, now)
			}
			if !l.admit(addr("192.168.50.11"), 1, now) {
				t.Errorf("search %d of the other source is not answered while one gets sets of %d", n, answers)
			}
			now = now.Add(window / 16)
		}
	}
}
