package daemon_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"igdd/pkg/control"
	"igdd/pkg/natpmp"
	"igdd/pkg/netlab"
	"igdd/pkg/pcp"
)

// blocksInForce returns the blocks in force.
func (r *rig) blocksInForce(t testing.TB) (list []control.BlockEntry) {
	t.Helper()
	text, _ := r.ctl(t, "blocks", "--json")
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return list
}

// demandAnswer has the first client ask for TCP port 4000 from all these addresses.
func (r *rig) demandAnswer(t testing.TB, when string, granted bool, sources ...netip.Addr) {
	t.Helper()
	for _, a := range sources {
		gateway, request := netlab.RouterLAN.Addr(), mapping(natpmp.MapTCP, 4000, 4000, time.Hour).Append(nil)
		if a.Is6() {
			gateway, request = netlab.RouterLAN6.Addr(), pcpMap(a, 6, 4000, 4000).Append(nil)
		}
		reply, _ := exchange(t, r.Clients[0], a, gateway, request, patience)
		want := byte(natpmp.NotAuthorized) // the result is in the fourth octet of both
		if granted {
			want = byte(natpmp.Success)
		}
		if len(reply) < 4 || reply[3] != want {
			t.Errorf("%s, %v is answered %x, want result %d", when, a, reply, want)
		}
	}
}

// nameLease writes the DHCP lease of the first client.
func (r *rig) nameLease(t testing.TB, a netip.Addr, name string) {
	t.Helper()
	line := fmt.Sprintf("0 %v %v %s *\n", r.hardware(t, 0), a, name)
	if err := os.WriteFile(r.path("dnsmasq.leases"), []byte(line), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestBlockedHostStaysBlocked blocks a host by its name, and has it ask over both
// families, from a temporary address, with a new lease under another name, and after
// the daemon was killed, stopped and replaced by another instance, until the block is
// lifted.
func TestBlockedHostStaysBlocked(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newPCPRig(t, variant)
		settings := []string{"ipv6=yes", "enable_upnp=yes", "dhcp_leases=" + r.path("dnsmasq.leases")}
		r.nameLease(t, client1, "Laptop")
		r.start(t, settings...)
		r.demandAnswer(t, "before", true, client1, addr6)
		r.dial("tcp", 4000).Arrives(t)
		r.says(t, "block forever laptop", 0, "2 mappings closed block 1 is in force forever")
		r.dial("tcp", 4000).Blocked(t)
		if n, _ := r.state(t); n != 0 || r.pinholes(t) != 0 {
			t.Errorf("%d rules and %d of pinholes are left", n, r.pinholes(t))
		}

		temporary, moved := netip.MustParseAddr("2001:db8:50::abcd"), netip.MustParseAddr("192.168.50.60")
		r.Clients[0].Address(t, "eth0", netip.PrefixFrom(temporary, 64))
		r.Clients[0].Address(t, "eth0", netip.PrefixFrom(moved, 24))
		all := []netip.Addr{client1, addr6, temporary, moved}
		r.demandAnswer(t, "blocked", false, all...)
		r.nameLease(t, moved, "other")
		r.demandAnswer(t, "with another name", false, all...)
		if resp := r.pcp(t, 1, pcpMap(sixes[1], 6, 4001, 4001)); resp.Result != pcp.Success {
			t.Errorf("the other host: %v", resp.Result)
		}
		r.says(t, "explain 192.168.50.60 tcp 4000 4000", 4, "block: 1, forever")

		r.stop(t, syscall.SIGKILL)
		r.start(t, settings...)
		r.demandAnswer(t, "after a crash", false, all...)
		r.stop(t, syscall.SIGTERM)
		r.start(t, settings...)
		r.demandAnswer(t, "after a restart", false, all...)
		r.configure(t, append(settings, "http_port=5001")...)
		r.kill(syscall.SIGHUP)
		if err := r.awaitHTTP(5001); err != nil {
			t.Fatal(err)
		}
		r.demandAnswer(t, "after a reload", false, all...)
		list := r.blocksInForce(t)
		if len(list) != 1 || list[0].Host != "laptop" || fmt.Sprint(list[0].MACs) != fmt.Sprintf("[%v]", r.hardware(t, 0)) || list[0].Hits < 12 || list[0].LastHit == nil {
			t.Errorf("blocks %+v", list)
		}
		r.says(t, "unblock LAPTOP", 0, "1 block lifted")
		r.demandAnswer(t, "unblocked", true, all...)
		r.dial("tcp", 4000).Arrives(t)
		r.says(t, "unblock 1", 3, "0 blocks lifted")
	})
}

// TestBlockedAddress blocks an address, and has the host that has it change its hardware
// address; then one that a host gets later, and that host ask from its other addresses.
func TestBlockedAddress(t *testing.T) {
	t.Parallel()
	bothVariants(t, func(t *testing.T, variant string) {
		r := newPCPRig(t, variant)
		r.start(t, "ipv6=yes", "enable_upnp=yes")
		r.demandAnswer(t, "before", true, client1, addr6)
		r.says(t, "block forever "+client1.String(), 0, "2 mappings closed block 1 is in force forever")
		old := r.hardware(t, 0).String()
		r.Clients[0].IP(t, "link", "set", "eth0", "address", "02:00:00:00:77:77")
		r.demandAnswer(t, "with another hardware address", false, client1, addr6)
		r.Clients[0].IP(t, "link", "set", "eth0", "address", old)
		r.says(t, "unblock 1", 0, "1 block lifted")
		r.demandAnswer(t, "unblocked", true, client1, addr6)

		later := netip.MustParseAddr("192.168.50.60")
		r.says(t, "block forever "+later.String(), 0, "0 mappings closed block 2 is in force forever")
		r.demandAnswer(t, "while another address is blocked", true, client1, addr6)
		r.Clients[0].Address(t, "eth0", netip.PrefixFrom(later, 24))
		r.demandAnswer(t, "with the blocked address", false, later)
		for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			if macs := fmt.Sprint(r.blocksInForce(t)[0].MACs); macs == "["+old+"]" {
				break
			} else if time.Now().After(deadline) {
				t.Fatalf("the block is bound to %s, want %s", macs, old)
			}
		}
		r.demandAnswer(t, "bound", false, later, client1, addr6)
		if n, _ := r.state(t); n != 0 || r.pinholes(t) != 0 {
			t.Errorf("%d rules and %d of pinholes are left", n, r.pinholes(t))
		}
	})
}

// TestBlockOfTheRouter blocks the addresses of the router.
func TestBlockOfTheRouter(t *testing.T) {
	r := newPCPRig(t, "legacy")
	r.start(t, "ipv6=yes")
	own := []string{netlab.RouterLAN.Addr().String(), netlab.RouterLAN6.Addr().String(), netlab.RouterWAN.Addr().String()}
	err := r.Router.Do(func() error {
		link, err := net.InterfaceByName("lan0")
		if err == nil {
			own = append(own, link.HardwareAddr.String())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range own {
		r.says(t, "block 1h "+a, 1, a+" is the router's own")
	}
	if list := r.blocksInForce(t); len(list) > 0 {
		t.Errorf("blocks %+v", list)
	}
}

// TestBlockEndsDuringAStop lets a block end while the daemon does not run.
func TestBlockEndsDuringAStop(t *testing.T) {
	t.Parallel()
	r := newRig(t, "nft", netlab.Layout{})
	r.start(t)
	r.says(t, "block 1 192.168.50.10", 0, "block 1 is in force until ")
	r.stop(t, syscall.SIGKILL)
	state, err := os.ReadFile(r.path("upnp/upnp.leases.state"))
	if errors.Is(err, fs.ErrNotExist) { // without the sandbox, as with the race detector
		state, err = os.ReadFile(r.path("upnp.leases.state"))
	}
	if err != nil || !strings.Contains(string(state), `"block":{"id":1,"addr":"192.168.50.10"`) {
		t.Fatalf("the state file has no block: %v, %s", err, state)
	}
	await(t, "the end of the block", func() bool {
		r.start(t)
		defer r.stop(t, syscall.SIGKILL)
		return len(r.blocksInForce(t)) == 0
	})
	r.start(t)
	r.demandAnswer(t, "after the end", true, client1)
	r.says(t, "block 1h 192.168.50.10", 0, "block 2 is in force until ")
}

// TestBlocksWithoutALeaseFile blocks where nothing is saved.
func TestBlocksWithoutALeaseFile(t *testing.T) {
	t.Parallel()
	r := newRig(t, "nft", netlab.Layout{})
	r.start(t, "lease_file=")
	r.says(t, "block 1h 192.168.50.10", 1, "a restart undoes it: there is no lease file")
	r.demandAnswer(t, "blocked", false, client1)
}

// TestReloadKeepsUnsavedBlocks sets and lifts blocks on a full disk, and has another
// instance take over.
func TestReloadKeepsUnsavedBlocks(t *testing.T) {
	t.Parallel()
	r := newRig(t, "legacy", netlab.Layout{})
	r.installed()
	disk := r.path("disk")
	if err := errors.Join(os.Mkdir(disk, 0o755), syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=64k")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(disk, syscall.MNT_DETACH) })
	settings := []string{"enable_upnp=yes", "lease_file=" + disk + "/upnp.leases"}
	r.start(t, settings...)
	r.says(t, "block forever 192.168.50.99", 0, "block 1 is in force")
	if err := os.WriteFile(disk+"/other", make([]byte, 1<<20), 0o644); err == nil {
		t.Fatal("the disk is too large to fill")
	}
	for i := 2; i < 70; i++ { // more than fits into the file's last block
		r.ctl(t, "block", "forever", fmt.Sprintf("192.168.50.%d", i+8))
	}
	r.says(t, "unblock 1", 1, "but not saved, and a restart undoes it")
	if n := r.metrics(t)["igdd_lease_write_failures_total"]; n < 1 {
		t.Errorf("%v failed writes are counted", n)
	}
	r.says(t, "unblock 69", 1, "1 block lifted")
	want := fmt.Sprint(r.ids(t))
	r.configure(t, append(settings, "http_port=5001")...)
	r.kill(syscall.SIGHUP)
	if err := r.awaitHTTP(5001); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(r.ids(t)); got != want {
		t.Errorf("blocks %s after a reload, want %s", got, want)
	}
	r.demandAnswer(t, "after a reload", false, client1)
	if err := os.Remove(disk + "/other"); err != nil {
		t.Fatal(err)
	}
	r.awaitStatus(t)
	r.stop(t, syscall.SIGKILL)
	r.start(t, settings...)
	if got := fmt.Sprint(r.ids(t)); got != want {
		t.Errorf("blocks %s after a restart, want %s", got, want)
	}
	r.says(t, "block 1h 7000", 0, "block 70 is in force")
}

// ids returns the numbers of the blocks in force.
func (r *rig) ids(t testing.TB) (list []int) {
	t.Helper()
	for _, b := range r.blocksInForce(t) {
		list = append(list, b.ID)
	}
	return list
}
