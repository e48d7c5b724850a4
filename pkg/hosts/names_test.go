package hosts

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestLeased(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dnsmasq.leases")
	text := `0 52:54:00:00:00:01 192.168.50.1 Laptop *
0 52:54:00:00:00:02 192.168.50.2 office.lan *
0 52:54:00:00:00:03 192.168.50.3 twin *
0 52:54:00:00:00:04 192.168.50.4 TWIN.guest.lan *
0 52:54:00:00:00:05 192.168.50.5 * *
0 52:54:00:00:00:06 192.168.50.6 .lan *
1 52:54:00:00:00:07 192.168.50.7 laptop *
0 52:54:00:00:00:08 192.168.50.8 192.168.50.1 *
duid 00:01:00:01:2a:2b:2c:2d
0 7340034 2001:db8::10 laptop 00:01:00:01
`
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]netip.Addr{
		"Laptop":       {addr("192.168.50.1")}, // not what has ended, nor what is IPv6
		"lAPTOP":       {addr("192.168.50.1")},
		"office":       {addr("192.168.50.2")},
		"twin":         {addr("192.168.50.3"), addr("192.168.50.4")},
		"192":          {addr("192.168.50.8")},
		"office.lan":   nil,
		"office.":      nil,
		"lap":          nil,
		"laptop2":      nil,
		"*":            nil,
		"":             nil,
		"192.168.50.1": nil,
	} {
		if got, err := Leased(path, name); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v, want %v", name, got, err, want)
		}
	}
	for _, path := range []string{"", path + ".missing"} {
		if got, err := Leased(path, "laptop"); err != nil || got != nil {
			t.Errorf("leases %q: %v, %v", path, got, err)
		}
	}
	if _, err := Leased(t.TempDir(), "laptop"); err == nil {
		t.Error("a folder is read")
	}
}
