package hosts

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"igdd/pkg/netlab"
)

// TestRoutedHosts asks for hosts behind another router on the LAN, which the neighbour
// table does not have, or has with that router's hardware address since it answers ARP
// for them: nothing is known of them, and the kernel is not made to look for them.
func TestRoutedHosts(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{IPv6: true})
	proxied, plain, six := addr("10.1.0.2"), addr("10.1.0.3"), addr("2001:db8:51::2")
	lab.Router.IP(t, "neigh", "add", proxied.String(), "lladdr", hardware(t, lab.Clients[0]).String(), "dev", "lan0")
	f := Finder{Log: slog.New(slog.DiscardHandler)}
	err := lab.Router.Do(func() error {
		lan, err := index("lan0")
		if err != nil {
			return err
		}
		f.Routed = func(index int) []netip.Prefix {
			if index != lan {
				return nil
			}
			return []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("2001:db8:51::/64")}
		}
		for _, a := range []netip.Addr{proxied, plain, six} {
			demandRouted(t, &f, lan, a)
		}
		if f.Same(t.Context(), LAN{Index: lan}, six, six.Next()) {
			t.Error("two addresses behind the router are one host's")
		}
		if _, known := f.Lookup(lan+1, plain); known {
			t.Error("the address is known on another interface")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []netip.Addr{plain, six} {
		if table := lab.Router.Run(t, "ip", "neigh", "show"); strings.Contains(table, a.String()+" ") {
			t.Errorf("the kernel was made to look for %v", a)
		}
	}
}

// TestRoutedNetworksAreAskedForOnce has many neighbours on two interfaces.
func TestRoutedNetworksAreAskedForOnce(t *testing.T) {
	asked := 0
	f := Finder{Routed: func(index int) []netip.Prefix {
		asked++
		return []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(index), 0, 0}), 16)}
	}}
	var neighbours []Host
	for i := range 200 {
		neighbours = append(neighbours, Host{Index: 1 + i%2, Addr: netip.AddrFrom4([4]byte{10, 1, 0, byte(i)})})
	}
	if left := f.withoutRouted(neighbours); len(left) != 100 || left[0].Index != 2 || asked != 2 {
		t.Errorf("%d neighbours are left after asking %d times", len(left), asked)
	}
}

// demandRouted demands that an address is known to have no hardware address.
func demandRouted(t *testing.T, f *Finder, lan int, a netip.Addr) {
	t.Helper()
	if hw, known := f.Lookup(lan, a); !known || len(hw) > 0 {
		t.Errorf("%v: hardware address %v, known: %v", a, hw, known)
	}
	if hw := f.Hardware(lan, a); len(hw) > 0 {
		t.Errorf("%v: the neighbour has the hardware address %v", a, hw)
	}
	if hw := f.HardwareOf(a); len(hw) > 0 {
		t.Errorf("%v: the host has the hardware addresses %v", a, hw)
	}
	q := Query{Addr: a, LAN: LAN{Index: lan}, Hardware: []byte{2, 0, 0, 0, 0, 1}}
	if id, settled := f.Known(q); !settled || len(id.Hardware) > 0 {
		t.Errorf("%v: known is %+v, settled: %v", a, id, settled)
	}
	if id := f.Find(t.Context(), q); len(id.Hardware) > 0 {
		t.Errorf("%v: found is %+v", a, id)
	}
	f.Probe(lan, a)
}
