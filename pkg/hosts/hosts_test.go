package hosts

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlab"
	"igdd/pkg/netlink"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestParseLease(t *testing.T) {
	for _, c := range []struct {
		line     string
		ok       bool
		expires  int64
		hardware string
		addr     string
		name     string
	}{
		{"1795651200 52:54:00:12:34:56 192.168.101.20 laptop 01:52:54:00:12:34:56", true, 1795651200, "52:54:00:12:34:56", "192.168.101.20", "laptop"},
		{"0 52:54:00:12:34:56 192.168.101.20 * *", true, 0, "52:54:00:12:34:56", "192.168.101.20", ""},
		{"1795651200 7340034 2001:db8::10 laptop 00:01:00:01", true, 1795651200, "", "2001:db8::10", "laptop"},
		{"1795651200 06-00:01:02:03:04:05 192.168.101.20 a-b_c.d *", true, 1795651200, "", "192.168.101.20", "a-b_c.d"},
		{"1795651200 52:54:00:12:34:56 192.168.101.20 evil\x1b[2J *", true, 1795651200, "52:54:00:12:34:56", "192.168.101.20", ""},
		{"duid 00:01:00:01:2a:2b:2c:2d", false, 0, "", "", ""},
		{"soon 52:54:00:12:34:56 192.168.101.20 laptop *", false, 0, "", "", ""},
		{"1795651200 52:54:00:12:34:56 192.168.101.256 laptop *", false, 0, "", "", ""},
		{"1795651200 52:54:00:12:34:56 fe80::1%eth0 laptop *", false, 0, "", "", ""},
		{"", false, 0, "", "", ""},
	} {
		l, ok := parseLease(c.line)
		if ok != c.ok || ok && (l.expires != c.expires || l.hardware.String() != c.hardware || l.addr != addr(c.addr) || l.name != c.name) {
			t.Errorf("%q: %v, %+v", c.line, ok, l)
		}
	}
}

func TestAddLeasesSkipsExpired(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dnsmasq.leases")
	text := "1000 52:54:00:00:00:01 192.168.50.1 over *\njunk\n1001 52:54:00:00:00:02 192.168.50.2 holds *\n0 52:54:00:00:00:03 192.168.50.3 forever *\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	known := map[netip.Addr]Host{addr("192.168.50.3"): {Addr: addr("192.168.50.3"), Hardware: mac, Answers: true}}
	if err := addLeases(known, path, time.Unix(1000, 0)); err != nil {
		t.Fatal(err)
	}
	if len(known) != 2 || known[addr("192.168.50.2")].Name != "holds" || !known[addr("192.168.50.2")].Leased {
		t.Errorf("known = %+v", known)
	}
	if h := known[addr("192.168.50.3")]; h.Name != "forever" || !h.Answers || !h.Leased || h.Hardware.String() != mac.String() {
		t.Errorf("neighbour with a lease = %+v", h)
	}
	if err := addLeases(known, path+".not", time.Now()); err != nil {
		t.Errorf("without a file: %v", err)
	}
	if err := addLeases(known, filepath.Dir(path), time.Now()); err == nil {
		t.Error("a folder was read as leases")
	}
}

// TestProbe probes addresses that are in use and addresses that are not, of both
// families.
func TestProbe(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{IPv6: true})
	here, here6 := addr("192.168.50.10"), addr("2001:db8:50::10")
	absent, absent6 := addr("192.168.50.77"), addr("2001:db8:50::77")
	var known map[netip.Addr]Host
	err := lab.Router.Do(func() error {
		lan, err := net.InterfaceByName("lan0")
		if err != nil {
			return err
		}
		for _, a := range []netip.Addr{here, here6, absent, absent6} {
			if err := Probe(a, lan.Index); err != nil {
				return err
			}
		}
		settled := func() bool {
			return known[here].Answers && known[here6].Answers && !known[absent].Answers && !known[absent6].Answers
		}
		for deadline := time.Now().Add(15 * time.Second); !settled() && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			if known, err = Read(""); err != nil {
				return err
			}
		}
		if err := Probe(here, 9999); err == nil {
			t.Error("the kernel probes on an interface that does not exist")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []netip.Addr{here, here6} {
		if h := known[a]; !h.Present() || len(h.Hardware) != 6 || h.Addr != a {
			t.Errorf("%v, which answers, is %+v", a, h)
		}
	}
	for _, a := range []netip.Addr{absent, absent6} {
		if known[a].Present() {
			t.Errorf("%v, which does not exist, is %+v", a, known[a])
		}
	}
}

func FuzzNeighbour(f *testing.F) {
	f.Add(useMessage(addr("192.168.50.10"), 3).Data)
	f.Add(useMessage(addr("2001:db8::1"), 3).Data)
	f.Add(binary.NativeEndian.AppendUint16(make([]byte, unix.SizeofNdMsg), 3))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := netlink.Message{Type: unix.RTM_NEWNEIGH, Data: data}
		if h, ok := parseNeighbour(m); ok != h.Addr.IsValid() {
			t.Errorf("%v, %+v", ok, h)
		}
	})
}

func FuzzLease(f *testing.F) {
	f.Add("1795651200 52:54:00:12:34:56 192.168.101.20 laptop 01:52:54:00:12:34:56")
	f.Add("duid 00:01:00:01:2a:2b:2c:2d")
	f.Fuzz(func(t *testing.T, line string) {
		if l, ok := parseLease(line); ok && (!l.addr.IsValid() || !isName(l.name)) {
			t.Errorf("%q: %+v", line, l)
		}
	})
}

// TestParseLeaseCopiesName wants the rest of the line to be released.
func TestParseLeaseCopiesName(t *testing.T) {
	const n = 100
	inUse := func() int {
		runtime.GC()
		runtime.GC() // frees what the first one finalised
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	kept := make([]lease, n)
	before := inUse()
	for i := range kept {
		var ok bool
		kept[i], ok = parseLease("0 02:00:00:00:00:01 192.168.1.2 phone " + strings.Repeat("f", 60000))
		if !ok || kept[i].name != "phone" {
			t.Fatalf("%+v", kept[i])
		}
	}
	if each := (inUse() - before) / n; each > 1024 {
		t.Errorf("%d octets are kept for a name", each)
	}
	runtime.KeepAlive(kept)
}
