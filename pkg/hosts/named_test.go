package hosts

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestNamedHosts finds hosts by the names in their leases, and names by hosts.
func TestNamedHosts(t *testing.T) {
	of := func(a, name string, n byte) lease { return lease{addr: addr(a), name: name, hardware: mac(n)} }
	ended := of("192.168.50.19", "laptop", 9)
	ended.expires = 1
	s := snapshot{readAt: time.Now(), leases: []lease{
		of("192.168.50.10", "Laptop.lan", 1), of("192.168.50.11", "phone", 2), of("192.168.50.12", "LAPTOP", 3), ended,
		of("192.168.50.13", "", 4), of("192.168.50.14", "old", 1), {addr: addr("2001:db8:50::10"), name: "tablet"},
	}}
	for name, want := range map[string][]string{
		"laptop": {"192.168.50.10", "192.168.50.12"}, "phone": {"192.168.50.11"}, "tablet": {"2001:db8:50::10"}, "": nil, "lap": nil,
	} {
		if got := fmt.Sprint(s.named(ShortName(name))); got != fmt.Sprint(addrs(want)) {
			t.Errorf("%q is %v, want %v", name, got, want)
		}
	}
	for n, want := range map[byte]string{1: "[192.168.50.10 192.168.50.14]", 2: "[192.168.50.11]", 9: "[]"} {
		if got := fmt.Sprint(s.leasedTo(mac(n))); got != want {
			t.Errorf("%d has leased %v, want %v", n, got, want)
		}
	}
	for _, tt := range []struct {
		a        string
		hardware byte
		want     []string
	}{
		{"192.168.50.10", 1, []string{"laptop"}},
		{"192.168.50.10", 2, []string{"laptop"}},
		{"192.168.50.14", 1, []string{"old"}},
		{"2001:db8:50::10", 2, []string{"tablet"}},
		{"2001:db8:50::11", 1, []string{"laptop", "old"}},
		{"2001:db8:50::11", 0, nil},
		{"192.168.50.13", 4, nil},
		{"192.168.50.19", 9, nil},
	} {
		hardware := mac(tt.hardware)
		if tt.hardware == 0 {
			hardware = nil
		}
		if got := s.names(addr(tt.a), Identity{Hardware: hardware}); !slices.Equal(got, tt.want) {
			t.Errorf("%s with %v is %v, want %v", tt.a, hardware, got, tt.want)
		}
	}
	other := Identity{Hardware: mac(7), IPv4: addrs([]string{"192.168.50.14", "192.168.50.11"})}
	if got := s.names(addr("2001:db8:50::11"), other); !slices.Equal(got, []string{"phone", "old"}) {
		t.Errorf("a host that has the leased addresses of others is %v", got)
	}
}

// addrs returns addresses from texts.
func addrs(texts []string) (list []netip.Addr) {
	for _, a := range texts {
		list = append(list, addr(a))
	}
	return list
}

// TestHardwareOf finds the hardware address of hosts that are neighbours, that have a
// lease, and that share one.
func TestHardwareOf(t *testing.T) {
	gone := neighbour("192.168.50.15", 5).inState(unix.NUD_FAILED)
	s := snapshot{
		readAt: time.Now(),
		neighbours: []Host{
			neighbour("192.168.50.10", 1).inState(unix.NUD_STALE), neighbour("fe80::10", 1).inState(unix.NUD_REACHABLE), gone,
			neighbour("192.168.50.12", 7).inState(unix.NUD_STALE), neighbour("192.168.50.13", 7).inState(unix.NUD_STALE),
		},
		leases: []lease{
			{addr: addr("192.168.50.10"), hardware: mac(9)}, {addr: addr("192.168.50.11"), hardware: mac(2)}, {addr: addr("192.168.50.15"), hardware: mac(6)},
			{addr: addr("192.168.50.12"), hardware: mac(7)}, {addr: addr("192.168.50.13"), hardware: mac(7)}, {addr: addr("192.168.50.16"), hardware: mac(8), expires: 1},
		},
	}
	for a, want := range map[string]byte{
		"192.168.50.10": 1, "fe80::10": 1, "192.168.50.11": 2, "192.168.50.15": 6, "192.168.50.12": 0, "192.168.50.16": 0, "192.168.50.77": 0,
	} {
		got := s.hardwareAnywhere(addr(a))
		if want == 0 && len(got) > 0 || want > 0 && (len(got) != 1 || got[0].String() != mac(want).String()) {
			t.Errorf("%s has %v, want %d", a, got, want)
		}
	}
}
