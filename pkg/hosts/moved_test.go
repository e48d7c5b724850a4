package hosts

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/netlab"
)

var (
	formerAddr  = addr("192.168.50.30")
	presentAddr = addr("192.168.50.130")
)

// TestHasMoved decides from snapshots.
func TestHasMoved(t *testing.T) {
	here := neighbour(presentAddr.String(), 1).inState(unix.NUD_REACHABLE)
	old := func(n byte, state uint16) Host { return neighbour(formerAddr.String(), n).inState(state) }
	beside := func(a string) Host { return neighbour(a, 1).inState(unix.NUD_STALE) }
	elsewhere := old(1, unix.NUD_FAILED)
	elsewhere.Index = 4
	bare := old(0, unix.NUD_INCOMPLETE)
	bare.Hardware = nil
	leased := func(a netip.Addr, n byte) lease { return lease{hardware: mac(n), addr: a} }
	gone := []Host{here, old(1, unix.NUD_FAILED)}
	with := func(more ...Host) []Host { return append(gone[:2:2], more...) }
	for _, tt := range []struct {
		what       string
		neighbours []Host
		leases     []lease
		want       bool
	}{
		{"nothing is known", nil, nil, false},
		{"the old address does not answer", gone, nil, true},
		{"the old address is being probed", []Host{here, old(1, unix.NUD_PROBE)}, nil, true},
		{"the old address is probed for the first time", []Host{here, bare}, nil, true},
		{"the old address was not probed", []Host{here}, nil, false},
		{"the old address may answer", []Host{here, old(1, unix.NUD_STALE)}, nil, false},
		{"the old address may answer soon", []Host{here, old(1, unix.NUD_DELAY)}, nil, false},
		{"it has both addresses", []Host{here, old(1, unix.NUD_REACHABLE)}, nil, false},
		{"the old address is entered by the administrator", []Host{here, old(1, unix.NUD_PERMANENT)}, nil, false},
		{"the old address is another host's", []Host{here, old(2, unix.NUD_REACHABLE)}, nil, true},
		{"the old address was another host's once", []Host{here, old(2, unix.NUD_STALE)}, nil, false},
		{"the old address is unanswered on another interface", []Host{here, elsewhere}, nil, false},
		{"the new address is not known", gone[1:], nil, false},
		{"the new address is another host's", []Host{neighbour(presentAddr.String(), 2).inState(unix.NUD_REACHABLE), gone[1]}, nil, false},
		{"the new address answered once", []Host{here.inState(unix.NUD_STALE), gone[1]}, nil, false},
		{"with a lease for the new address", gone, []lease{leased(presentAddr, 1)}, true},
		{"with leases for both", gone, []lease{leased(presentAddr, 1), leased(formerAddr, 1)}, true},
		{"the old address is another's by lease and answer", []Host{here, old(2, unix.NUD_REACHABLE)}, []lease{leased(presentAddr, 1), leased(formerAddr, 2)}, true},
		{"a repeater, by the lease of the old address", gone, []lease{leased(formerAddr, 9)}, false},
		{"a repeater, by the lease of the new address", gone, []lease{leased(presentAddr, 9)}, false},
		{"a repeater, by a lease beside", with(beside("192.168.50.50")), []lease{leased(addr("192.168.50.50"), 9)}, false},
		{"a repeater, by its own lease", with(beside("192.168.50.50")), []lease{leased(addr("192.168.50.50"), 1)}, false},
		{"a repeater, by its own lease alone", gone, []lease{leased(addr("192.168.50.50"), 1)}, false},
		{"a repeater, by its neighbours", with(beside("192.168.50.50"), beside("192.168.50.51")), nil, false},
		{"with a fixed address beside", with(beside("192.168.50.50")), []lease{leased(presentAddr, 1)}, true},
		{"beside other hosts", with(neighbour("192.168.50.50", 2), neighbour("192.168.50.51", 3)), []lease{leased(addr("192.168.50.50"), 2)}, true},
		{"a lease that has ended", gone, []lease{{expires: 1, hardware: mac(9), addr: presentAddr}}, true},
	} {
		s := snapshot{readAt: time.Now(), neighbours: tt.neighbours, leases: tt.leases}
		if got := s.hasMoved(home, mac(1), formerAddr, presentAddr); got != tt.want {
			t.Errorf("%s: %v", tt.what, got)
		}
	}
}

// TestHasMovedAtRandom checks that a host that has moved answers at the new address
// and not at the old one, and that no lease gives the new one to another host.
func TestHasMovedAtRandom(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	states := []uint16{unix.NUD_REACHABLE, unix.NUD_PERMANENT, unix.NUD_STALE, unix.NUD_DELAY, unix.NUD_PROBE, unix.NUD_FAILED, unix.NUD_INCOMPLETE, unix.NUD_NOARP, unix.NUD_NONE}
	addrs := []netip.Addr{formerAddr, presentAddr, addr("192.168.50.10"), addr("192.168.50.11")}
	found := 0
	for range 20000 {
		s := snapshot{readAt: time.Unix(1000, 0)}
		state := make(map[netip.Addr]Host)
		for _, a := range addrs {
			if rnd.IntN(4) > 0 {
				h := neighbour(a.String(), byte(1+rnd.IntN(2))).inState(states[rnd.IntN(len(states))])
				s.neighbours, state[a] = append(s.neighbours, h), h
			}
			if rnd.IntN(6) == 0 {
				s.leases = append(s.leases, lease{expires: rnd.Int64N(3) * 800, hardware: mac(byte(1 + rnd.IntN(2))), addr: a})
			}
		}
		if !s.hasMoved(home, mac(1), formerAddr, presentAddr) {
			continue
		}
		found++
		now, old := state[presentAddr], state[formerAddr]
		confirmed := func(h Host) bool { return h.state == unix.NUD_REACHABLE || h.state == unix.NUD_PERMANENT }
		if !confirmed(now) || !bytes.Equal(now.Hardware, mac(1)) || confirmed(old) && bytes.Equal(old.Hardware, mac(1)) || !confirmed(old) && old.state&unansweredStates == 0 {
			t.Fatalf("%+v", s)
		}
		for _, l := range s.leases {
			if l.expires == 1600 && l.addr == presentAddr && !bytes.Equal(l.hardware, mac(1)) {
				t.Fatalf("%+v", s)
			}
		}
	}
	if found < 100 {
		t.Errorf("only %d hosts have moved", found)
	}
}

// TestMoved has a host leave an address, or not, and the kernel probe it.
func TestMoved(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{Clients: 2})
	host, next := lab.Clients[0], lab.Clients[1]
	own, others := hardware(t, host).String(), hardware(t, next).String()
	now := addr("192.168.50.10")
	leases := filepath.Join(t.TempDir(), "leases")
	for _, tt := range []struct {
		what  string
		has   *netlab.Namespace // which has the old address; nil: none
		old   []string          // the neighbour of the old address: hardware address, state
		lease string
		want  bool
	}{
		{"nothing was probed", nil, nil, "", true},
		{"the host had it a moment ago", nil, []string{own, "reachable"}, "", true},
		{"the host had it once", nil, []string{own, "stale"}, "", true},
		{"no host answered once", nil, []string{own, "failed"}, "", true},
		{"the host holds both leases", nil, []string{own, "stale"}, "0 " + own + " 192.168.50.30 * *\n0 " + own + " 192.168.50.10 * *", true},
		{"the host has both", host, nil, "", false},
		{"the host has both, though it did not answer once", host, []string{own, "failed"}, "", false},
		{"the next host has it", next, []string{others, "stale"}, "", true},
		{"the next host has it, and its lease", next, nil, "0 " + others + " 192.168.50.30 * *", true},
		{"an absent host has its lease", nil, []string{own, "stale"}, "0 02:00:00:00:00:99 192.168.50.30 * *", false},
		{"more hosts are absent than are probed", nil, []string{own, "stale"}, absentLeases(maxProbedLeases + 1), false},
		{"it is entered by the administrator", nil, []string{own, "permanent"}, "", false},
	} {
		lab.Router.IP(t, "neigh", "flush", "dev", "lan0", "nud", "all")
		if tt.has != nil {
			tt.has.IP(t, "address", "replace", "192.168.50.30/24", "dev", "eth0")
		}
		if tt.old != nil {
			lab.Router.IP(t, "neigh", "replace", "192.168.50.30", "lladdr", tt.old[0], "dev", "lan0", "nud", tt.old[1])
		}
		if err := os.WriteFile(leases, []byte(tt.lease+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := retryMoved(t, lab, leases, own, now, tt.want); got != tt.want {
			t.Errorf("%s: %v", tt.what, got)
		}
		if tt.has != nil {
			tt.has.IP(t, "address", "del", "192.168.50.30/24", "dev", "eth0")
		}
	}
	if retryMoved(t, lab, leases, strings.Replace(own, own[:2], "06", 1), now, false) {
		t.Error("a host with another hardware address has moved")
	}
}

// TestClonedHardwareAddress has another host take the hardware address of one that is
// there: it has not moved, though the switch delivers to the other one.
func TestClonedHardwareAddress(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{Clients: 2})
	host, thief := lab.Clients[0], lab.Clients[1]
	own := hardware(t, host).String()
	host.Address(t, "eth0", netip.PrefixFrom(formerAddr, 24))
	thief.IP(t, "link", "set", "eth0", "address", own)
	lab.Router.IP(t, "neigh", "replace", formerAddr.String(), "lladdr", own, "dev", "lan0", "nud", "stale")
	err := thief.Do(func() error {
		c, err := net.Dial("udp", "192.168.50.1:9")
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("I am here"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	hw, _ := net.ParseMAC(own)
	err = lab.Router.Do(func() error {
		lan, err := net.InterfaceByName("lan0")
		if err != nil {
			return err
		}
		l := LAN{Index: lan.Index, Networks: []netip.Prefix{netlab.RouterLAN.Masked()}}
		for range 5 {
			f := Finder{Log: slog.New(slog.DiscardHandler)}
			if f.Moved(context.Background(), l, hw, formerAddr, addr("192.168.50.11")) {
				t.Error("the address of a host that is there is taken over")
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// retryMoved calls Moved until the result is as wanted: on a busy machine hosts answer
// late.
func retryMoved(t *testing.T, lab *netlab.Lab, leases, own string, now netip.Addr, want bool) (got bool) {
	t.Helper()
	hw, _ := net.ParseMAC(own)
	err := lab.Router.Do(func() error {
		lan, err := net.InterfaceByName("lan0")
		if err != nil {
			return err
		}
		l := LAN{Index: lan.Index, Networks: []netip.Prefix{netlab.RouterLAN.Masked()}}
		for deadline := time.Now().Add(15 * time.Second); ; {
			f := Finder{Leases: leases, Log: slog.New(slog.DiscardHandler)}
			got = f.Moved(context.Background(), l, hw, formerAddr, now)
			if got == want || time.Now().After(deadline) {
				break
			}
		}
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		f := Finder{Leases: leases, Log: slog.New(slog.DiscardHandler)}
		if f.Moved(ended, l, hw, formerAddr, now) {
			t.Error("a host has moved though ctx had ended")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}
