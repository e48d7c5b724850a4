package identity

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"igdd/pkg/hosts"
	"igdd/pkg/lan"
	"igdd/pkg/netlab"
	"igdd/pkg/portmap"
)

// newQuotaResolver returns a Resolver for a lab's LAN, which has a second IPv6
// prefix, with a limit for each host. The DHCP server has leased addresses.
func newQuotaResolver(t *testing.T, lab *netlab.Lab, perHost int, leased ...netip.Addr) *Resolver {
	t.Helper()
	second := netip.MustParsePrefix("2001:db8:51::1/64")
	r := newLabResolver(t, lab)
	leases := filepath.Join(t.TempDir(), "leases")
	var lines []byte
	for _, a := range leased {
		lines = fmt.Appendf(lines, "%d 02:00:00:00:00:99 %v * *\n", time.Now().Add(time.Hour).Unix(), a)
	}
	if err := os.WriteFile(leases, lines, 0o644); err != nil {
		t.Fatal(err)
	}
	r.finder = &hosts.Finder{Leases: leases, Log: slog.New(slog.DiscardHandler)}
	r.hosts = lan.NewHosts(r.finder, r.finder.Log)
	first := r.lan
	r.lan = func(a netip.Addr) (hosts.LAN, bool) {
		l, ours := first(a)
		return l, ours || second.Contains(a)
	}
	r.policy().Rules, r.policy().MaxPerHost = nil, perHost
	network := portmap.NetworkState{External: netip.MustParseAddr("11.22.33.44"), LANs: []netip.Prefix{lan4, lan6, second}}
	if err := r.SetNetworkState(t.Context(), network); err != nil {
		t.Fatal(err)
	}
	return r
}

// setHardware makes the router know the hardware address of a host, by its last
// octet.
func setHardware(t *testing.T, lab *netlab.Lab, octet int, addrs ...netip.Addr) {
	t.Helper()
	for _, a := range addrs {
		lab.Router.IP(t, "neigh", "replace", a.String(), "lladdr", fmt.Sprintf("02:00:00:00:00:%02x", octet), "dev", "lan0", "nud", "permanent")
	}
}

// fill has a host ask for mappings to each of its addresses in turn, until one is
// refused, and returns how many it got.
func fill(t *testing.T, lab *netlab.Lab, r *Resolver, addrs ...netip.Addr) (n int) {
	t.Helper()
	err := lab.Router.Do(func() error {
		for ; n < 1000; n++ {
			a, err := r.Do(t.Context(), open(addrs[n%len(addrs)], uint16(2000+n)))
			if err != nil || a.Refusal == portmap.QuotaExceeded {
				return err
			}
			if a.Refusal != portmap.Granted {
				t.Errorf("%v: %v", addrs[n%len(addrs)], a.Refusal)
				return nil
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestQuotaOfAHost has a host map ports to many IPv6 addresses in two prefixes: it
// gets as many as one host may have, and a host with an IPv4 address beside it gets
// all of its own.
func TestQuotaOfAHost(t *testing.T) {
	const perHost = 5
	lab := netlab.NewLab(t, netlab.Layout{IPv6: true})
	r := newQuotaResolver(t, lab, perHost)
	var many []netip.Addr
	for i := range 40 {
		many = append(many, netip.MustParseAddr(fmt.Sprintf("2001:db8:5%d::%x", i%2, 0x1000+i)))
	}
	other := netip.MustParseAddr("192.168.50.11")
	setHardware(t, lab, 0x10, many...)
	setHardware(t, lab, 0x11, other)
	if n := fill(t, lab, r, many...); n != 4*perHost {
		t.Errorf("the host with many addresses has %d mappings, want %d", n, 4*perHost)
	}
	for _, m := range r.List() {
		if m.Host.Hardware != "02:00:00:00:00:10" {
			t.Fatalf("%v is of %+v", m.Key, m.Host)
		}
	}
	if n := fill(t, lab, r, other); n != perHost {
		t.Errorf("the host beside it has %d mappings, want %d", n, perHost)
	}
}

// TestQuotaBehindARepeater has hosts that share one hardware address ask: those with
// leases count each for itself, the others together. So do hosts that are not known.
func TestQuotaBehindARepeater(t *testing.T) {
	const perHost = 3
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 168, 50, byte(i)}) }
	lab := netlab.NewLab(t, netlab.Layout{IPv6: true})
	r := newQuotaResolver(t, lab, perHost, addr(20), addr(21))
	setHardware(t, lab, 0x99, addr(20), addr(21), addr(22), addr(23))
	for _, tt := range []struct {
		what  string
		addrs []netip.Addr
		want  int
	}{
		{"a host with a lease", []netip.Addr{addr(20)}, perHost},
		{"another one", []netip.Addr{addr(21)}, perHost},
		{"those without", []netip.Addr{addr(22), addr(23)}, perHost},
		{"unknown ones", []netip.Addr{addr(30), addr(31), addr(32)}, perHost},
	} {
		if n := fill(t, lab, r, tt.addrs...); n != tt.want {
			t.Errorf("%s: %d mappings, want %d", tt.what, n, tt.want)
		}
	}
}

// TestHostOfTheTarget has one host ask for another: the mapping counts for the other
// one, whatever the asking host is.
func TestHostOfTheTarget(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{IPv6: true})
	r, in := newQuotaResolver(t, lab, 0), make(answers, 1)
	asking, other := addr6(0), addr6(1)
	setHardware(t, lab, 0x10, asking)
	setHardware(t, lab, 0x11, other)
	for i, target := range []netip.Addr{asking, other} {
		req := open(asking, 2000)
		req.ClientHost, req.Internal = "the asking host", netip.AddrPortFrom(target, 2000)
		if err := lab.Router.Do(func() error { in.submit(r, req); return nil }); err != nil {
			t.Fatal(err)
		}
		want := []string{"the asking host", "02:00:00:00:00:11"}[i]
		if got := in.next(t); got.Refusal != portmap.Granted || r.List()[i].Host.Name != want {
			t.Errorf("for %v: %v, of %+v, want %s", target, got.Refusal, r.List()[i].Host, want)
		}
	}
}
