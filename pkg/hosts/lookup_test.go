package hosts

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlab"
)

// notice is a neighbour that was resolved.
type notice struct {
	index int
	addr  netip.Addr
}

// index returns the index of an interface of the namespace that the thread is in.
func index(name string) (int, error) {
	dev, err := net.InterfaceByName(name)
	if err != nil {
		return 0, err
	}
	return dev.Index, nil
}

// TestResolve resolves addresses that hosts have, and some that none has.
func TestResolve(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{IPv6: true})
	lab.Router.IP(t, "neigh", "flush", "dev", "lan0")
	own := hardware(t, lab.Clients[0])
	here := []netip.Addr{addr("192.168.50.10"), addr("2001:db8:50::10")}
	absent := []netip.Addr{addr("192.168.50.77"), addr("2001:db8:50::77")}
	f := Finder{Log: slog.New(slog.DiscardHandler)}
	notices := make(chan notice, 1000)
	err := lab.Router.Do(func() error {
		lan, err := index("lan0")
		if err != nil {
			return err
		}
		stop, err := f.Watch(func(index int, a netip.Addr) { notices <- notice{index, a} })
		if err != nil {
			return err
		}
		defer stop()
		for _, a := range slices.Concat(here, absent) {
			if hw, known := f.Lookup(lan, a); known {
				t.Errorf("%v is known before: %v", a, hw)
			}
			f.Resolve(lan, a)
		}
		for missing := slices.Clone(here); len(missing) > 0; {
			select {
			case n := <-notices:
				if n.index == lan && slices.Contains(absent, n.addr) {
					t.Errorf("%v, which does not exist, is resolved", n.addr)
				}
				missing = slices.DeleteFunc(missing, func(a netip.Addr) bool { return n == notice{lan, a} })
			case <-time.After(15 * time.Second):
				return fmt.Errorf("no notice of %v", missing)
			}
		}
		for _, a := range here {
			if hw, known := f.Lookup(lan, a); !known || hw.String() != own.String() {
				t.Errorf("%v has %v, %v", a, hw, known)
			}
			if hw, known := f.Lookup(lan+1, a); known {
				t.Errorf("%v is known on another interface: %v", a, hw)
			}
		}
		for _, a := range slices.Concat(here, absent) {
			f.Forget(lan, a)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	table := lab.Router.Run(t, "ip", "neigh", "show", "dev", "lan0", "nud", "all")
	for _, a := range here {
		if !strings.Contains(table, a.String()+" ") {
			t.Errorf("%v is forgotten: %s", a, table)
		}
	}
	for _, a := range absent {
		if strings.Contains(table, a.String()+" ") {
			t.Errorf("%v is not forgotten: %s", a, table)
		}
	}
}

// TestLinksWithoutHardwareAddresses looks for hosts behind a tunnel, on the loopback and
// on an Ethernet where the kernel resolves nothing: all are known at once, and none by
// its hardware address.
func TestLinksWithoutHardwareAddresses(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{})
	lab.Router.IP(t, "tuntap", "add", "tun0", "mode", "tun")
	lab.Router.IP(t, "link", "add", "quiet0", "type", "veth", "peer", "name", "quiet1")
	lab.Router.IP(t, "link", "set", "quiet0", "arp", "off")
	names := []string{"tun0", "lo", "quiet0"}
	for i, name := range names {
		lab.Router.IP(t, "link", "set", name, "up")
		lab.Router.Address(t, name, netip.MustParsePrefix(fmt.Sprintf("10.8.%d.1/24", i)))
		lab.Router.Address(t, name, netip.MustParsePrefix(fmt.Sprintf("fd00:%d::1/64", i)))
	}
	err := lab.Router.Do(func() error {
		for i, name := range names {
			link, err := index(name)
			if err != nil {
				return err
			}
			for _, a := range []string{fmt.Sprintf("10.8.%d.2", i), fmt.Sprintf("fd00:%d::2", i)} {
				f := Finder{Log: slog.New(slog.DiscardHandler)}
				for _, when := range []string{"before", "after"} {
					if hw, known := f.Lookup(link, addr(a)); !known || len(hw) > 0 {
						t.Errorf("%s a packet to it: %s on %s has %v, %v", when, a, name, hw, known)
					}
					f.Resolve(link, addr(a))
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestReusedIndex gives a new interface the index of a former one.
func TestReusedIndex(t *testing.T) {
	ns := netlab.New(t, "router")
	const a = "10.9.0.2"
	add := func(args ...string) {
		ns.IP(t, append([]string{"link", "add", "lan0", "index", "77", "type"}, args...)...)
		ns.IP(t, "link", "set", "lan0", "up")
		ns.Address(t, "lan0", netip.MustParsePrefix("10.9.0.1/24"))
	}
	f := Finder{Log: slog.New(slog.DiscardHandler)}
	demand := func(want string) {
		t.Helper()
		if err := ns.Do(func() error {
			if hw, known := f.Lookup(77, addr(a)); hw.String() != want || known != (want != "") {
				t.Errorf("%v, %v, want %q", hw, known, want)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	add("bridge")
	ns.IP(t, "neigh", "add", a, "lladdr", mac(1).String(), "dev", "lan0")
	demand(mac(1).String())
	ns.IP(t, "neigh", "replace", a, "lladdr", mac(2).String(), "dev", "lan0")
	demand(mac(2).String())
	ns.IP(t, "link", "del", "lan0")
	demand("")
	add("bridge")
	demand("")
}

// TestHardware asks for the hardware addresses of neighbours, for which the whole table,
// which may be large, is not read.
func TestHardware(t *testing.T) {
	ns := netlab.New(t, "router")
	for _, name := range []string{"lan0", "lan1"} {
		ns.IP(t, "link", "add", name, "type", "bridge")
		ns.IP(t, "link", "set", name, "up")
	}
	ns.IP(t, "neigh", "add", "10.9.0.2", "lladdr", mac(2).String(), "dev", "lan0")
	ns.IP(t, "neigh", "add", "10.9.0.3", "dev", "lan0", "nud", "failed")
	f := Finder{Log: slog.New(slog.DiscardHandler)}
	defer f.Close()
	if err := ns.Do(func() error {
		lan, err := index("lan0")
		for a, want := range map[string]string{"10.9.0.2": mac(2).String(), "10.9.0.3": "", "10.9.0.4": ""} {
			if got := f.Hardware(lan, addr(a)); got.String() != want {
				t.Errorf("%s has %v, want %q", a, got, want)
			}
		}
		if got := f.Hardware(lan+1, addr("10.9.0.2")); got != nil {
			t.Errorf("on another interface: %v", got)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if !f.last.readAt.IsZero() {
		t.Error("the whole table was read")
	}
}

// TestIsShared has hosts behind a repeater, and one host with several addresses.
func TestIsShared(t *testing.T) {
	ns := netlab.New(t, "router")
	ns.IP(t, "link", "add", "lan0", "type", "bridge")
	ns.IP(t, "link", "add", "lan1", "type", "bridge")
	enter := func(dev, a string, n byte) {
		ns.IP(t, "neigh", "add", a, "lladdr", mac(n).String(), "dev", dev)
	}
	for _, dev := range []string{"lan0", "lan1"} {
		ns.IP(t, "link", "set", dev, "up")
	}
	for _, a := range []string{"192.168.50.10", "192.168.50.11", "192.168.50.12", "2001:db8:50::10"} {
		enter("lan0", a, 1)
	}
	enter("lan0", "192.168.50.20", 2)
	enter("lan1", "192.168.60.20", 2)
	enter("lan0", "192.168.50.30", 3)
	enter("lan0", "192.168.50.31", 3)
	leases := filepath.Join(t.TempDir(), "leases")
	text := ""
	for a, n := range map[string]byte{"192.168.50.10": 1, "192.168.50.11": 9, "192.168.50.20": 2, "192.168.60.20": 2, "192.168.50.30": 3, "2001:db8:50::10": 1} {
		text += fmt.Sprintf("0 %v %s * *\n", mac(n), a)
	}
	text += fmt.Sprintf("1 %v 192.168.50.31 * *\n", mac(3)) // expired
	if err := os.WriteFile(leases, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	f := Finder{Leases: leases, Log: slog.New(slog.DiscardHandler)}
	err := ns.Do(func() error {
		lan, err := index("lan0")
		if err != nil {
			return err
		}
		for _, tt := range []struct {
			addr string
			n    byte
			want bool
		}{
			{"192.168.50.10", 1, true},
			{"192.168.50.11", 1, true},    // the lease has the host's own hardware address
			{"192.168.50.12", 1, false},   // not leased
			{"2001:db8:50::10", 1, false}, // of all hosts behind the repeater
			{"192.168.50.20", 2, false},   // the other address is on another interface
			{"192.168.50.30", 3, false},   // the other lease has expired
			{"192.168.50.99", 1, false},
		} {
			if got := f.IsShared(lan, addr(tt.addr), mac(tt.n)); got != tt.want {
				t.Errorf("%s: %v", tt.addr, got)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestNoticesOfOthers reads notices of what is no neighbour.
func TestNoticesOfOthers(t *testing.T) {
	valid := useMessage(addr("192.168.50.10"), 3).Data
	notice := append(make([]byte, unix.SizeofNlMsghdr), valid...)
	for n := range len(notice) {
		if h, ok := parseNotice(notice[:n]); ok {
			t.Errorf("%d octets are a notice of %+v", n, h)
		}
	}
}

// BenchmarkLookup looks for an address that the kernel does not know.
func BenchmarkLookup(b *testing.B) {
	lab := netlab.NewLab(b, netlab.Layout{})
	f := Finder{Log: slog.New(slog.DiscardHandler)}
	if err := lab.Router.Do(func() error {
		lan, err := index("lan0")
		for b.Loop() {
			f.Lookup(lan, addr("192.168.50.77"))
		}
		return err
	}); err != nil {
		b.Fatal(err)
	}
}

// TestProbeAddsFewAtATime probes addresses that no host has.
func TestProbeAddsFewAtATime(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{IPv6: true})
	f := Finder{Log: slog.New(slog.DiscardHandler)}
	var absent []netip.Addr
	for a := addr("2001:db8:50::1000"); len(absent) < 8*maxAdditions; a = a.Next() {
		absent = append(absent, a)
	}
	if err := lab.Router.Do(func() error {
		lan, err := index("lan0")
		for range 2 {
			if !f.Probe(lan, absent[:maxAdditions]...) {
				t.Error("these are not too many")
			}
		}
		if f.Probe(lan, absent...) {
			t.Error("these are not too many either")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	table := lab.Router.Run(t, "ip", "neigh", "show", "dev", "lan0", "nud", "all")
	if n := strings.Count(table, "2001:db8:50::1"); n < maxAdditions || n > 4*maxAdditions {
		t.Errorf("%d neighbours, want some %d", n, maxAdditions)
	}
}

// TestLeasesFromAPipe reads leases where there is a named pipe that nobody writes to.
func TestLeasesFromAPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leases")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if list, err := readLeases(path, time.Now()); err == nil || len(list) > 0 {
		t.Errorf("%v, %v", list, err)
	}
}
