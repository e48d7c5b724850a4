package ssdpd

import (
	"net/netip"
	"strconv"
	"testing"
	"time"

	"igdd/pkg/lan"
	"igdd/pkg/ssdp"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// own are the addresses of a router's interface.
var own = []netip.Prefix{
	netip.MustParsePrefix("192.168.50.1/24"), netip.MustParsePrefix("10.1.0.1/16"),
	netip.MustParsePrefix("fe80::1/64"), netip.MustParsePrefix("2001:db8::1/64"), netip.MustParsePrefix("fd00::1/64"),
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

// everything are the items of a set.
var everything = []ssdp.Item{{Type: "upnp:rootdevice"}, {Type: "uuid:1"}, {Type: "urn:schemas-upnp-org:device:InternetGatewayDevice:1"}, {Type: "urn:schemas-upnp-org:device:WANDevice:1"}}

// TestRateLimiter sends more searches than are answered.
func TestRateLimiter(t *testing.T) {
	l, now := newRateLimiter(), time.Now()
	// answered returns how many searches of a host are answered with a number of messages.
	answered := func(host lan.Host, search []ssdp.Item, times int) map[int]int {
		counts := make(map[int]int)
		for range times {
			counts[len(l.limit(host, search, now))]++
		}
		return counts
	}
	if c := answered("a", everything, 20); c[len(everything)] != setsPerHost || c[1] != 20-setsPerHost {
		t.Errorf("searches for everything are answered with so many messages: %v", c)
	}
	if got := l.limit("a", everything, now); len(got) != 1 || got[0] != everything[2] {
		t.Errorf("in place of a set a host gets %v, not the gateway", got)
	}
	if c := answered("a", everything[:1], 2*singlesPerHost); c[1] == 0 || c[1] >= singlesPerHost {
		t.Errorf("%d single answers in a second", c[1])
	}
	if c := answered("b", everything, 1); c[len(everything)] != 1 {
		t.Error("another host gets no set")
	}
	if c := answered("b", everything[:1], 100); c[1] != 100 {
		t.Errorf("another host gets %d of 100 answers", c[1])
	}
	now = now.Add(time.Second)
	if c := answered("a", everything, 1); c[len(everything)] != 1 {
		t.Error("no set in the next second")
	}
}

// TestRateLimitOfAll sends searches of many hosts.
func TestRateLimitOfAll(t *testing.T) {
	l, now := newRateLimiter(), time.Now()
	sets, singles := 0, 0
	for n := range 3 * maxHosts {
		host := lan.Host(strconv.Itoa(n))
		if len(l.limit(host, everything, now)) > 1 {
			sets++
		}
		for range 20 {
			singles += len(l.limit(host, everything[:1], now))
		}
	}
	if sets == 0 || sets > setsInAll || singles == 0 || singles > singlesInAll {
		t.Errorf("%d sets, %d single answers", sets, singles)
	}
	if len(l.limit("another", everything, now.Add(2*time.Second))) != len(everything) {
		t.Error("no host is answered after the flood")
	}
}
