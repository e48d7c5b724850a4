package hosts

import (
	"bytes"
	"context"
	"fmt"
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
	linkLocal = addr("fe80::10")
	global    = addr("2001:db8:50::10")
	home      = LAN{Index: 3, Networks: []netip.Prefix{netip.MustParsePrefix("192.168.50.0/24")}}
)

// inState puts a neighbour into a state.
func (h Host) inState(state uint16) Host {
	h.state, h.Answers = state, state&answeringStates != 0
	return h
}

// TestIsSame decides from snapshots.
func TestIsSame(t *testing.T) {
	reachable := func(a string, n byte) Host { return neighbour(a, n).inState(unix.NUD_REACHABLE) }
	elsewhere := reachable(global.String(), 1)
	elsewhere.Index = 4
	bare := reachable(global.String(), 1)
	bare.Hardware = nil
	lease4 := func(a string, n byte) lease { return lease{hardware: mac(n), addr: addr(a)} }
	old := lease4("192.168.50.10", 9)
	old.expires = 1
	both := []Host{reachable(linkLocal.String(), 1), reachable(global.String(), 1)}
	with := func(more ...Host) []Host { return append(both[:2:2], more...) }
	for _, tt := range []struct {
		what       string
		neighbours []Host
		leases     []lease
		want       bool
	}{
		{"nothing is known", nil, nil, false},
		{"one is not known", both[:1], nil, false},
		{"the other is not known", both[1:], nil, false},
		{"both", both, nil, true},
		{"both, entered by the administrator", []Host{both[0].inState(unix.NUD_PERMANENT), both[1].inState(unix.NUD_PERMANENT)}, nil, true},
		{"two hosts", []Host{both[0], reachable(global.String(), 2)}, nil, false},
		{"one is known on another interface", []Host{both[0], elsewhere}, nil, false},
		{"one without a hardware address", []Host{both[0], bare}, nil, false},
		{"one that answered once", []Host{both[0], both[1].inState(unix.NUD_STALE)}, nil, false},
		{"one that may answer", []Host{both[0], both[1].inState(unix.NUD_DELAY)}, nil, false},
		{"one that is being probed", []Host{both[0].inState(unix.NUD_PROBE), both[1]}, nil, false},
		{"one that does not answer", []Host{both[0], both[1].inState(unix.NUD_FAILED)}, nil, false},
		{"one that has not answered yet", []Host{both[0], both[1].inState(unix.NUD_INCOMPLETE)}, nil, false},
		{"where hosts are not probed", []Host{both[0].inState(unix.NUD_NOARP), both[1].inState(unix.NUD_NOARP)}, nil, false},
		{"with an IPv4 address", with(neighbour("192.168.50.10", 1).inState(unix.NUD_STALE)), nil, true},
		{"with one and its lease", with(reachable("192.168.50.10", 1)), []lease{lease4("192.168.50.10", 1)}, true},
		{"with a lease", both, []lease{lease4("192.168.50.10", 1)}, true},
		{"beside another host", with(reachable("192.168.50.11", 2)), []lease{lease4("192.168.50.11", 2)}, true},
		{"with two IPv4 addresses", with(reachable("192.168.50.10", 1), neighbour("192.168.50.11", 1).inState(unix.NUD_STALE)), nil, false},
		{"with two leases", both, []lease{lease4("192.168.50.10", 1), lease4("192.168.50.11", 1)}, false},
		{"with an address and the lease of another", with(reachable("192.168.50.10", 1)), []lease{lease4("192.168.50.11", 1)}, false},
		{"a repeater in front of a leased host", with(reachable("192.168.50.10", 1)), []lease{lease4("192.168.50.10", 9)}, false},
		{"a repeater, by a lease of IPv6", both, []lease{lease4(global.String(), 9)}, false},
		{"a lease that has ended", with(reachable("192.168.50.10", 1)), []lease{old}, true},
		{"a lease without a hardware address", both, []lease{{addr: global}}, true},
	} {
		s := snapshot{readAt: time.Now(), neighbours: tt.neighbours, leases: tt.leases}
		if got := s.isSame(home, linkLocal, global); got != tt.want {
			t.Errorf("%s: %v", tt.what, got)
		}
		if got := s.isSame(home, global, linkLocal); got != tt.want {
			t.Errorf("%s, the other way round: %v", tt.what, got)
		}
	}
}

// TestIsSameAtRandom checks that addresses of the same host have one confirmed
// hardware address, and that no other host seems to share it.
func TestIsSameAtRandom(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	states := []uint16{unix.NUD_REACHABLE, unix.NUD_REACHABLE, unix.NUD_REACHABLE, unix.NUD_PERMANENT, unix.NUD_STALE, unix.NUD_DELAY, unix.NUD_PROBE, unix.NUD_FAILED, unix.NUD_INCOMPLETE, unix.NUD_NOARP, unix.NUD_NONE}
	addrs := []netip.Addr{linkLocal, global, addr("192.168.50.10"), addr("192.168.50.11"), addr("192.168.60.10")}
	found := 0
	for range 20000 {
		s := snapshot{readAt: time.Unix(1000, 0)}
		for _, a := range addrs {
			if rnd.IntN(4) > 0 {
				h := neighbour(a.String(), byte(1+rnd.IntN(2))).inState(states[rnd.IntN(len(states))])
				h.Index = 3 + rnd.IntN(8)/7
				s.neighbours = append(s.neighbours, h)
			}
			if rnd.IntN(6) == 0 {
				s.leases = append(s.leases, lease{expires: rnd.Int64N(3) * 800, hardware: mac(byte(1 + rnd.IntN(3))), addr: a})
			}
		}
		if !s.isSame(home, linkLocal, global) {
			continue
		}
		found++
		var own net.HardwareAddr
		four := make(map[netip.Addr]bool)
		for _, h := range s.neighbours {
			if h.Addr.Is6() && h.Index == 3 {
				if own != nil && !bytes.Equal(own, h.Hardware) || h.state != unix.NUD_REACHABLE && h.state != unix.NUD_PERMANENT {
					t.Fatalf("%+v", s)
				}
				own = h.Hardware
			}
		}
		for _, h := range s.neighbours {
			if h.Index == 3 && h.Answers && bytes.Equal(h.Hardware, own) && home.contains(h.Addr) {
				four[h.Addr] = true
			}
		}
		for _, l := range s.leases {
			live := l.expires == 0 || l.expires > 1000
			if live && bytes.Equal(l.hardware, own) && home.contains(l.addr) {
				four[l.addr] = true
			}
			if live && !bytes.Equal(l.hardware, own) && (l.addr.Is6() || four[l.addr]) {
				t.Fatalf("%+v", s)
			}
		}
		if len(own) == 0 || len(four) > 1 {
			t.Fatalf("%+v", s)
		}
	}
	if found < 100 {
		t.Errorf("only %d pairs belonged to one host", found)
	}
}

// absentLeases returns the leases of n hosts that do not answer.
func absentLeases(n int) string {
	var lines strings.Builder
	for i := range n {
		fmt.Fprintf(&lines, "0 %v 192.168.50.%d * *\n", mac(byte(100+i)), 100+i)
	}
	return lines.String()
}

// TestSame probes hosts that the neighbour table does not have, or has with what is
// out of date.
func TestSame(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{Clients: 2, IPv6: true})
	temporary, other, absent := addr("2001:db8:50::7777"), addr("2001:db8:50::11"), addr("2001:db8:50::99")
	lab.Clients[0].Address(t, "eth0", netip.PrefixFrom(temporary, 64))
	own, others := hardware(t, lab.Clients[0]).String(), hardware(t, lab.Clients[1]).String()
	leases := filepath.Join(t.TempDir(), "leases")
	for _, tt := range []struct {
		what   string
		client netip.Addr
		other  netip.Addr
		known  [][]string // neighbours: address, hardware address, state
		lease  string
		want   bool
	}{
		{"nothing is known", temporary, global, nil, "", true},
		{"by IPv4", addr("192.168.50.10"), global, nil, "", false},
		{"both answered once", temporary, global, [][]string{{temporary.String(), own, "stale"}, {global.String(), own, "stale"}}, "", true},
		{"one did not answer once", temporary, global, [][]string{{global.String(), own, "failed"}}, "", true},
		{"another host", temporary, other, nil, "", false},
		{"another host's, which it had once", temporary, other, [][]string{{other.String(), own, "stale"}}, "", false},
		{"an address that it had once", temporary, absent, [][]string{{absent.String(), own, "stale"}}, "", false},
		{"from an unused address", absent, global, [][]string{{absent.String(), own, "delay"}}, "", false},
		{"another host's, which it had a moment ago", temporary, other, [][]string{{other.String(), own, "reachable"}}, "", false},
		{"its own, confirmed", temporary, global, [][]string{{temporary.String(), own, "reachable"}, {global.String(), own, "reachable"}}, "", true},
		{"its own, which another host had a moment ago", temporary, global, [][]string{{global.String(), others, "reachable"}}, "", false},
		{"entered by the administrator", temporary, absent, [][]string{{absent.String(), own, "permanent"}}, "", true},
		{"an unused address", temporary, absent, nil, "", false},
		{"with a lease of its own", temporary, global, nil, "0 " + own + " 192.168.50.10 * *", true},
		{"with a lease of another host for its address", temporary, global, nil, "0 02:00:00:00:00:99 192.168.50.10 * *", false},
		{"beside another host's lease", temporary, global, nil, "0 " + others + " 192.168.50.11 * *", true},
		{"beside as many absent hosts as are probed", temporary, global, nil, absentLeases(maxProbedLeases), true},
		{"beside more absent hosts, one of which may share its hardware address", temporary, global, nil, absentLeases(maxProbedLeases + 1), false},
	} {
		lab.Router.IP(t, "neigh", "flush", "dev", "lan0", "nud", "all")
		for _, n := range tt.known {
			lab.Router.IP(t, "neigh", "replace", n[0], "lladdr", n[1], "dev", "lan0", "nud", n[2])
		}
		if err := os.WriteFile(leases, []byte(tt.lease+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		var got bool
		err := lab.Router.Do(func() error {
			lan, err := net.InterfaceByName("lan0")
			if err != nil {
				return err
			}
			f := Finder{Leases: leases, Log: slog.New(slog.DiscardHandler)}
			for deadline := time.Now().Add(15 * time.Second); ; { // on a busy machine hosts answer late
				got = f.Same(context.Background(), LAN{Index: lan.Index, Networks: []netip.Prefix{netlab.RouterLAN.Masked()}}, tt.client, tt.other)
				if got == tt.want || time.Now().After(deadline) {
					return nil
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if got != tt.want {
			t.Errorf("%s: %v", tt.what, got)
		}
	}
}

// TestProbeKeepsPermanentNeighbours probes a host that the administrator has entered
// and that does not answer.
func TestProbeKeepsPermanentNeighbours(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{IPv6: true})
	for _, a := range []netip.Addr{addr("192.168.50.77"), addr("2001:db8:50::77")} {
		lab.Router.IP(t, "neigh", "replace", a.String(), "lladdr", "02:00:00:00:00:77", "dev", "lan0", "nud", "permanent")
		err := lab.Router.Do(func() error {
			lan, err := net.InterfaceByName("lan0")
			if err != nil {
				return err
			}
			if err := Probe(a, lan.Index); err != nil {
				return err
			}
			list, err := readNeighbours()
			for _, h := range list {
				if h.Addr == a && h.state != unix.NUD_PERMANENT {
					t.Errorf("the entry is %+v", h)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
