package netif

import (
	"net/netip"
	"testing"
)

// TestMasquerade chooses among the addresses of a link.
func TestMasquerade(t *testing.T) {
	for _, tt := range []struct {
		addrs []string
		next  string
		want  string
	}{
		{nil, "11.22.33.1", "invalid IP"},
		{[]string{"2001:db8:33::1/64"}, "11.22.33.1", "invalid IP"},
		{[]string{"11.22.33.44/24"}, "11.22.33.1", "11.22.33.44"},
		{[]string{"192.168.100.2/24", "11.22.33.44/24", "11.22.33.45/24"}, "11.22.33.1", "11.22.33.44"},
		{[]string{"169.254.1.2/16", "11.22.33.44/32", "22.33.44.55/32"}, "198.51.100.7", "11.22.33.44"},
		{[]string{"11.22.33.44/24", "fe80::1/64", "2001:db8:33::1/64"}, "2001:db8:33::fe", "2001:db8:33::1"},
		{[]string{"2001:db8:33::1/64", "2001:db8:33::2/64"}, "2001:db8:33::fe", "invalid IP"},
	} {
		var l Link
		for _, a := range tt.addrs {
			l.Addrs = append(l.Addrs, netip.MustParsePrefix(a))
		}
		if got := l.Masquerade(netip.MustParseAddr(tt.next)).String(); got != tt.want {
			t.Errorf("of %v for %s: %s, want %s", tt.addrs, tt.next, got, tt.want)
		}
	}
}

// TestMasqueradeAlways chooses among the addresses of a link whatever the next hop.
func TestMasqueradeAlways(t *testing.T) {
	for _, tt := range []struct {
		addrs []string
		want  string
	}{
		{nil, "invalid IP"},
		{[]string{"169.254.1.2/16"}, "invalid IP"},
		{[]string{"2001:db8:33::1/64"}, "invalid IP"},
		{[]string{"11.22.33.44/24"}, "11.22.33.44"},
		{[]string{"11.22.33.44/24", "11.22.33.45/24", "11.22.33.46/32", "22.33.44.55/32"}, "11.22.33.44"},
		{[]string{"11.22.33.44/24", "11.22.33.45/28", "11.22.33.161/28"}, "11.22.33.44"},
		{[]string{"11.22.33.44/32", "11.22.33.45/24"}, "invalid IP"},
		{[]string{"11.22.33.44/28", "11.22.33.45/24"}, "invalid IP"},
		{[]string{"11.22.33.1/28", "11.22.33.2/24"}, "invalid IP"},
		{[]string{"192.168.100.2/24", "11.22.33.44/24"}, "invalid IP"},
	} {
		var l Link
		for _, a := range tt.addrs {
			l.Addrs = append(l.Addrs, netip.MustParsePrefix(a))
		}
		if got := l.MasqueradeAlways().String(); got != tt.want {
			t.Errorf("of %v: %s, want %s", tt.addrs, got, tt.want)
		}
	}
}
