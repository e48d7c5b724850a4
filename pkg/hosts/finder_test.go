package hosts

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"igdd/pkg/netlab"
)

func mac(n byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, n} }

// neighbour is an entry of the kernel's table that answers, on interface 3.
func neighbour(a string, n byte) Host {
	return Host{Addr: addr(a), Hardware: mac(n), Answers: true, Index: 3}
}

// TestIdentify finds hosts in a snapshot.
func TestIdentify(t *testing.T) {
	home := LAN{Index: 3, Networks: []netip.Prefix{netip.MustParsePrefix("192.168.50.0/24")}}
	six := neighbour("2001:db8:50::10", 1)
	elsewhere, unanswered := neighbour("192.168.50.11", 1), neighbour("192.168.50.12", 1)
	elsewhere.Index, unanswered.Answers = 4, false
	foreign := neighbour("2001:db8:50::10", 9)
	foreign.Index = 4
	bare := six
	bare.Hardware = nil
	for _, tt := range []struct {
		what       string
		neighbours []Host
		leases     []lease
		before     net.HardwareAddr
		want       Identity
	}{
		{"nothing is known", nil, nil, nil, Identity{}},
		{"without IPv4", []Host{six}, nil, nil, Identity{Hardware: mac(1)}},
		{"on another interface", []Host{foreign}, nil, nil, Identity{}},
		{"a neighbour without a hardware address", []Host{bare, neighbour("192.168.50.10", 0)}, nil, nil, Identity{}},
		{"a neighbour", []Host{six, neighbour("192.168.50.10", 1), neighbour("192.168.50.20", 2)}, nil, nil, Identity{mac(1), []netip.Addr{addr("192.168.50.10")}}},
		{"a lease", []Host{six}, []lease{{hardware: mac(2), addr: addr("192.168.50.20")}, {hardware: mac(1), addr: addr("192.168.50.10")}}, nil, Identity{mac(1), []netip.Addr{addr("192.168.50.10")}}},
		{"both", []Host{six, neighbour("192.168.50.11", 1), neighbour("192.168.50.10", 1)}, []lease{{hardware: mac(1), addr: addr("192.168.50.10")}}, nil, Identity{mac(1), []netip.Addr{addr("192.168.50.10"), addr("192.168.50.11")}}},
		{"addresses that are not its own here", []Host{six, elsewhere, unanswered, neighbour("192.168.60.10", 1)}, []lease{{hardware: mac(1), addr: addr("192.168.60.11")}}, nil, Identity{Hardware: mac(1)}},
		{"leases of DHCPv6 have no hardware address", []Host{six}, []lease{{addr: addr("2001:db8:50::10")}}, nil, Identity{Hardware: mac(1)}},
		{"known from before", []Host{neighbour("192.168.50.10", 1)}, nil, mac(1), Identity{mac(1), []netip.Addr{addr("192.168.50.10")}}},
		{"another than before", []Host{six, neighbour("192.168.50.10", 1), neighbour("192.168.50.20", 2)}, nil, mac(2), Identity{mac(1), []netip.Addr{addr("192.168.50.10")}}},
	} {
		s := snapshot{neighbours: tt.neighbours, leases: tt.leases}
		got := s.identify(Query{Addr: six.Addr, LAN: home, Hardware: tt.before})
		if got.Hardware.String() != tt.want.Hardware.String() || !slices.Equal(got.IPv4, tt.want.IPv4) {
			t.Errorf("%s: %+v, want %+v", tt.what, got, tt.want)
		}
	}
}

// TestFind probes hosts that are not in the neighbour table.
func TestFind(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{Clients: 2, IPv6: true})
	lab.Clients[0].Address(t, "eth0", netip.MustParsePrefix("192.168.50.30/24"))
	here, other, absent := addr("192.168.50.10"), addr("192.168.50.11"), addr("192.168.50.77")
	leases := filepath.Join(t.TempDir(), "leases")
	own := hardware(t, lab.Clients[0])
	for _, tt := range []struct {
		what, host string
		named      []netip.Addr
		leased     netip.Addr
		known      bool
		want       []netip.Addr
	}{
		{"by its own address", "2001:db8:50::10", []netip.Addr{here}, netip.Addr{}, true, []netip.Addr{here}},
		{"by both its addresses", "2001:db8:50::10", []netip.Addr{here, addr("192.168.50.30")}, netip.Addr{}, true, []netip.Addr{here, addr("192.168.50.30")}},
		{"by another host's address", "2001:db8:50::10", []netip.Addr{other}, netip.Addr{}, true, nil},
		{"by an unused address", "2001:db8:50::10", []netip.Addr{absent}, netip.Addr{}, true, nil},
		{"by none", "2001:db8:50::10", nil, netip.Addr{}, true, nil},
		{"by its lease", "2001:db8:50::10", []netip.Addr{other}, here, true, []netip.Addr{here}},
		{"of an IPv4 address", "192.168.50.10", nil, here, true, nil},
		{"an unused IPv4 address", "192.168.50.77", nil, absent, false, nil},
		{"an unused address", "2001:db8:50::77", []netip.Addr{here}, netip.Addr{}, false, nil},
	} {
		lab.Router.IP(t, "neigh", "flush", "dev", "lan0")
		var got Identity
		var settled bool
		err := lab.Router.Do(func() error {
			lan, err := net.InterfaceByName("lan0")
			if err != nil {
				return err
			}
			if tt.leased.IsValid() {
				if err := os.WriteFile(leases, []byte("0 "+own.String()+" "+tt.leased.String()+" * *\n"), 0o644); err != nil {
					return err
				}
				defer os.Remove(leases)
			}
			q := Query{Addr: addr(tt.host), LAN: LAN{Index: lan.Index, Networks: []netip.Prefix{netlab.RouterLAN.Masked()}}, Named: tt.named}
			for deadline := time.Now().Add(15 * time.Second); ; { // on a busy machine hosts answer late
				f := Finder{Leases: leases, Log: slog.New(slog.DiscardHandler)}
				got = f.Find(context.Background(), q)
				_, settled = f.Known(q)
				if len(got.Hardware) == 6 == tt.known && slices.Equal(got.IPv4, tt.want) || time.Now().After(deadline) {
					return nil
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if known := len(got.Hardware) == 6; known != tt.known || !slices.Equal(got.IPv4, tt.want) || !settled {
			t.Errorf("%s: %+v, settled %v, want known %v and %v", tt.what, got, settled, tt.known, tt.want)
		}
	}
}

// hardware returns the hardware address of a client.
func hardware(t *testing.T, client *netlab.Namespace) (own net.HardwareAddr) {
	t.Helper()
	err := client.Do(func() error {
		link, err := net.InterfaceByName("eth0")
		if err == nil {
			own = link.HardwareAddr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return own
}

// TestOldAddressIsDropped has the old and the new address of a host in the neighbour
// table.
func TestOldAddressIsDropped(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{IPv6: true})
	for name, value := range map[string]string{"delay_first_probe_time": "1", "ucast_solicit": "1", "mcast_solicit": "1", "retrans_time_ms": "100"} {
		lab.Router.Sysctl(t, "net/ipv4/neigh/lan0/"+name, value)
	}
	old, now := addr("192.168.50.30"), addr("192.168.50.10")
	own := hardware(t, lab.Clients[0]).String()
	for _, a := range []netip.Addr{old, now, addr("2001:db8:50::10")} {
		lab.Router.IP(t, "neigh", "replace", a.String(), "lladdr", own, "dev", "lan0", "nud", "stale")
	}
	var got Identity
	err := lab.Router.Do(func() error {
		lan, err := net.InterfaceByName("lan0")
		if err != nil {
			return err
		}
		f := Finder{Log: slog.New(slog.DiscardHandler)}
		q := Query{Addr: addr("2001:db8:50::10"), LAN: LAN{Index: lan.Index, Networks: []netip.Prefix{netlab.RouterLAN.Masked()}}}
		if got, _ := f.Known(q); !slices.Equal(got.IPv4, []netip.Addr{now, old}) {
			t.Errorf("at first %+v", got)
		}
		for deadline := time.Now().Add(15 * time.Second); len(got.IPv4) != 1 && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			got, _ = f.Known(q)
		}
		return nil
	})
	if err != nil || !slices.Equal(got.IPv4, []netip.Addr{now}) {
		t.Errorf("later %+v, %v", got, err)
	}
}

// TestProbeDoesNotWait looks for the result later.
func TestProbeDoesNotWait(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{IPv6: true})
	lab.Router.IP(t, "neigh", "flush", "dev", "lan0")
	want := []netip.Addr{addr("192.168.50.10")}
	var got Identity
	err := lab.Router.Do(func() error {
		lan, err := net.InterfaceByName("lan0")
		if err != nil {
			return err
		}
		f := Finder{Log: slog.New(slog.DiscardHandler)}
		q := Query{Addr: addr("2001:db8:50::10"), LAN: LAN{Index: lan.Index, Networks: []netip.Prefix{netlab.RouterLAN.Masked()}}, Named: want}
		if got, settled := f.Known(q); settled || len(got.Hardware) > 0 {
			t.Errorf("known without a probe: %+v, %v", got, settled)
		}
		f.Probe(lan.Index, q.Addr, want[0])
		for deadline := time.Now().Add(15 * time.Second); !slices.Equal(got.IPv4, want) && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			got, _ = f.Known(q)
		}
		return nil
	})
	if err != nil || !slices.Equal(got.IPv4, want) {
		t.Errorf("later %+v, %v", got, err)
	}
}

// TestNewEntriesAreUsedAtOnce searches in vain, which is remembered, and again when
// there is a new neighbour or lease.
func TestNewEntriesAreUsedAtOnce(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{IPv6: true})
	lab.Router.IP(t, "neigh", "flush", "dev", "lan0")
	own := hardware(t, lab.Clients[0]).String()
	f := Finder{Log: slog.New(slog.DiscardHandler)}
	var q Query
	find := func() (id Identity) {
		err := lab.Router.Do(func() error {
			lan, err := net.InterfaceByName("lan0")
			if err != nil {
				return err
			}
			q = Query{Addr: addr("2001:db8:50::10"), LAN: LAN{Index: lan.Index, Networks: []netip.Prefix{netlab.RouterLAN.Masked()}}}
			id = f.Find(context.Background(), q)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	if id := find(); len(id.Hardware) == 0 || len(id.IPv4) > 0 {
		t.Fatalf("at first %+v", id)
	}
	lab.Router.IP(t, "neigh", "replace", "192.168.50.10", "lladdr", own, "dev", "lan0", "nud", "stale")
	if id := find(); len(id.IPv4) != 1 {
		t.Errorf("a new neighbour is not used: %+v", id)
	}
	f.Leases = filepath.Join(t.TempDir(), "leases")
	if err := os.WriteFile(f.Leases, []byte("0 "+own+" 192.168.50.20 * *\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if id := find(); len(id.IPv4) != 2 {
		t.Errorf("a new lease is not used: %+v", id)
	}
}
