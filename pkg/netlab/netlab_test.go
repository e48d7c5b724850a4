package netlab_test

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"igdd/pkg/netlab"
)

func addr(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func TestEveryHostReachesItsNeighbours(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{Clients: 2, SecondLAN: true, SecondWAN: true, IPv6: true})
	lab.WAN.IP(t, "route", "add", "192.168.50.0/24", "via", "11.22.33.44")
	for _, network := range []string{"tcp", "udp"} {
		for _, host := range append(lab.Clients, lab.WAN, lab.WAN2, lab.Client2) {
			host.Echo(t, network, ":7")
		}
		for _, p := range []netlab.Probe{
			{From: lab.Clients[0], To: addr("192.168.50.11:7")},
			{From: lab.Clients[1], To: addr("192.168.60.10:7")},
			{From: lab.WAN, To: addr("192.168.50.10:7"), Source: addr("11.22.33.2:0")},
			{From: lab.Router, To: addr("11.22.33.1:7"), Source: addr("11.22.33.44:0")},
			{From: lab.Router, To: addr("22.33.44.1:7"), Source: addr("22.33.44.55:0")},
			{From: lab.WAN, To: addr("[2001:db8:50::11]:7"), Source: addr("[2001:db8:33::1]:0")},
			{From: lab.Clients[0], To: addr("[2001:db8:33::1]:7"), Source: addr("[2001:db8:50::10]:0")},
		} {
			p.Network = network
			if seen := p.Arrives(t); p.Source.IsValid() && seen.Addr() != p.Source.Addr() {
				t.Errorf("%v: seen as %v", p, seen)
			}
		}
	}
}

func TestBlockedKnowsRefusedAndDropped(t *testing.T) {
	lab := netlab.NewLab(t, netlab.Layout{})
	for _, network := range []string{"tcp", "udp"} {
		p := netlab.Probe{Network: network, From: lab.WAN, To: addr("11.22.33.44:9")}
		p.Blocked(t)
		lab.WAN.IP(t, "route", "replace", "blackhole", "11.22.33.44")
		p.Blocked(t)
		lab.WAN.IP(t, "route", "delete", "11.22.33.44")
	}
}

func TestDoReturnsTheError(t *testing.T) {
	want := errors.New("wanted")
	if got := netlab.New(t, "x").Do(func() error { return want }); got != want {
		t.Errorf("got %v", got)
	}
}

func TestChildrenInheritTheNamespace(t *testing.T) {
	n := netlab.New(t, "x")
	inside := strings.TrimSpace(n.Run(t, "readlink", "/proc/self/ns/net"))
	var child []byte
	err := n.Do(func() (err error) { child, err = exec.Command("readlink", "/proc/self/ns/net").Output(); return err })
	if err != nil || strings.TrimSpace(string(child)) != inside {
		t.Errorf("child is in %s, namespace is %s: %v", child, inside, err)
	}
	if outside, _ := os.Readlink("/proc/self/ns/net"); outside == inside {
		t.Error("the test itself is in the namespace")
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	netlab.NeedLab(t)
	var name string
	var pid int
	t.Run("lab", func(t *testing.T) {
		n := netlab.New(t, "x")
		name = n.Name
		// A process whose parent is gone, as a daemon's is.
		out := n.Run(t, "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!")
		var err error
		if pid, err = strconv.Atoi(strings.TrimSpace(out)); err != nil {
			t.Fatal(err)
		}
	})
	if _, err := os.Stat("/run/netns/" + name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("namespace %s: %v", name, err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for running(pid) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d still runs", pid)
		}
		runtime.Gosched()
	}
}

// running reports whether a process has a command line: one that has ended and
// was not reaped has none.
func running(pid int) bool {
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	return err == nil && len(line) > 0
}

func TestToolsChooseTheVariant(t *testing.T) {
	for variant, says := range map[string]string{"legacy": "(legacy)", "nft": "(nf_tables)"} {
		for _, name := range []string{"iptables", "ip6tables-restore"} {
			out, err := exec.Command(netlab.Tools(t, variant)+"/"+name, "--version").Output()
			if err != nil || !strings.Contains(string(out), says) {
				t.Errorf("%s %s: %q, %v", variant, name, out, err)
			}
		}
	}
}
