package portmap_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"igdd/pkg/portmap"
	"igdd/pkg/portmap/portmaptest"
)

// hardware returns the hardware address of a client.
func hardware(n int) string { return "02:00:00:00:00:1" + string(rune('0'+n)) }

// from returns a request of a client whose hardware address is known.
func from(n int, port uint16) portmap.Request {
	req := open(client(n), port, 100*time.Hour)
	req.Host.Hardware = hardware(n)
	return req
}

// onHost returns a block of a client.
func onHost(n int, until time.Time) portmap.Block {
	return portmap.Block{Selector: portmap.Selector{Host: portmap.HostSelector{Hardware: hardware(n)}}, Until: until}
}

// block sets a block that must be set and saved.
func (r *tableRig) block(t *testing.T, b portmap.Block) portmap.BlockResult {
	t.Helper()
	set, err := r.Block(context.Background(), b)
	if err != nil || set.Unsaved != nil {
		t.Fatal(err, set.Unsaved)
	}
	return set
}

// refuse sends a request that must be refused by a block.
func (r *tableRig) refuse(t *testing.T, req portmap.Request, by int) {
	t.Helper()
	a, err := r.Do(context.Background(), req)
	if err != nil || a.Refusal != portmap.Blocked || a.Block == nil || a.Block.ID != by {
		t.Fatalf("%v by %+v, %v, want a refusal by block %d", a.Refusal, a.Block, err, by)
	}
}

// TestBlockAndUnblock blocks a host, lifts that, and looks at the records.
func TestBlockAndUnblock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTableRig(t, &portmaptest.Firewall{}, &portmaptest.Store{})
		r.grant(t, from(0, 40000))
		r.grant(t, from(1, 40001))
		began := time.Now()
		if set := r.block(t, onHost(0, began.Add(time.Hour))); set.Closed != 1 || set.Block.ID != 1 || !set.Block.Since.Equal(began) {
			t.Errorf("set %+v", set)
		}
		r.block(t, onHost(2, time.Time{}))
		r.checkAgreement(t, 1)
		time.Sleep(time.Minute)
		r.refuse(t, from(0, 40000), 1)
		r.refuse(t, from(0, 50000), 1)
		r.Explain(context.Background(), from(0, 50000)) // is no request
		r.grant(t, from(1, 40001))
		list := r.Blocks()
		if len(list) != 2 || list[0].Hits != 2 || !list[0].LastHit.Equal(began.Add(time.Minute)) || list[1].Hits != 0 || !list[1].LastHit.IsZero() {
			t.Errorf("blocks %+v", list)
		}
		for _, want := range []int{1, 0} {
			lifted, unsaved, err := r.Unblock(context.Background(), func(b *portmap.Block) bool { return b.ID == 1 })
			if len(lifted) != want || unsaved != nil || err != nil {
				t.Errorf("lifted %v, %v, %v", lifted, unsaved, err)
			}
		}
		r.grant(t, from(0, 40000))
		r.refuse(t, from(2, 40002), 2)
		if set := r.block(t, onHost(0, time.Time{})); set.Block.ID != 3 {
			t.Errorf("the next block is %d", set.Block.ID)
		}
	})
}

// TestBlockEnds lets a block end while nothing else happens: it is gone, and a
// mapping that was dormant because of it is in force.
func TestBlockEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTableRig(t, &portmaptest.Firewall{}, &portmaptest.Store{})
		r.grant(t, open(client(1), 40001, 100*time.Hour)) // of a host that is not known
		r.block(t, onHost(0, time.Now().Add(10*time.Hour)))
		r.block(t, onHost(2, time.Now().Add(20*time.Hour)))
		if n := len(r.firewall.Open()); n != 0 {
			t.Errorf("%d mappings are in force of a host that may be blocked", n)
		}
		time.Sleep(10 * time.Hour)
		synctest.Wait()
		if list := r.Blocks(); len(list) != 1 || list[0].ID != 2 {
			t.Errorf("blocks %+v", list)
		}
		r.grant(t, from(0, 40000))
		if n := len(r.firewall.Open()); n != 1 {
			t.Errorf("%d mappings are in force under a block of another host", n)
		}
		time.Sleep(10 * time.Hour)
		synctest.Wait()
		if n := len(r.firewall.Open()); n != 2 || len(r.Blocks()) > 0 {
			t.Errorf("%d mappings are in force after all blocks", n)
		}
		if saved, _ := r.store.Blocks(); len(saved) > 0 {
			t.Errorf("saved are %+v", saved)
		}
	})
}

// TestUnblockWakesMappings lifts a block because of which a mapping is dormant.
func TestUnblockWakesMappings(t *testing.T) {
	r := newTableRig(t, &portmaptest.Firewall{}, &portmaptest.Store{})
	r.grant(t, open(client(1), 40001, time.Hour))
	r.block(t, onHost(0, time.Time{}))
	r.checkAgreement(t, 1)
	known := func(netip.Addr) (portmap.Host, bool) { return portmap.Host{NoHardware: true}, true }
	r.Recognize(context.Background(), known)
	if n := len(r.firewall.Open()); n != 1 {
		t.Errorf("%d mappings are in force of a host without hardware address", n)
	}
	req := open(client(2), 40002, time.Hour)
	req.Host.NoHardware = true
	r.grant(t, req)
	r.Unblock(context.Background(), func(*portmap.Block) bool { return true })
	r.checkAgreement(t, 2)
}

// TestBlocksAreRestored restarts the table under blocks.
func TestBlocksAreRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &portmaptest.Store{}
		r := newTableRig(t, &portmaptest.Firewall{}, store)
		r.grant(t, from(0, 40000))
		r.grant(t, from(1, 40001))
		r.block(t, onHost(2, time.Time{}))
		r.block(t, onHost(3, time.Now().Add(time.Hour)))
		r.refuse(t, from(2, 40002), 1)
		r.stop()
		store.SetBlock(portmap.BlockRecord{Block: &portmap.Block{ID: 9, Selector: onHost(0, time.Time{}).Selector}}) // the file of a standby router
		time.Sleep(2 * time.Hour)
		r = newTableRig(t, &portmaptest.Firewall{}, store)
		r.checkAgreement(t, 1)
		r.refuse(t, from(0, 40000), 9)
		r.refuse(t, from(2, 40002), 1)
		r.grant(t, from(3, 40003))
		if list := r.Blocks(); len(list) != 2 || list[0].Hits != 2 {
			t.Errorf("blocks %+v", list)
		}
		if set := r.block(t, onHost(4, time.Time{})); set.Block.ID != 10 {
			t.Errorf("the next block is %d", set.Block.ID)
		}
		if saved, last := store.Blocks(); len(saved) != 3 || last != 10 {
			t.Errorf("saved are %+v, %d", saved, last)
		}
	})
}

// TestRefusalClosesMapping has a blocked host ask for the port that it got with another
// hardware address: when it is told no, the port is closed, and stays so after a restart.
func TestRefusalClosesMapping(t *testing.T) {
	for what, firewall := range map[string]*portmaptest.Firewall{
		"a willing kernel": {},
		"a kernel that closes nothing at first": {Refuse: func(c portmap.Change) bool {
			return c.After == nil
		}},
	} {
		store := &portmaptest.Store{}
		r := newTableRig(t, firewall, store)
		r.block(t, onHost(0, time.Time{}))
		disguised := from(0, 40000)
		disguised.Host.Hardware = hardware(9)
		r.grant(t, disguised)
		r.Explain(context.Background(), from(0, 50000))
		r.checkAgreement(t, 1)
		r.refuse(t, from(0, 50000), 1)
		if n := len(firewall.Open()); n > 0 && firewall.Refuse == nil {
			t.Errorf("%s: %d mappings are open when the host is told no", what, n)
		}
		r.await()
		firewall.Refuse = nil
		firewall.Restore()
		r.checkAgreement(t, 0)
		r.stop()
		r = newTableRig(t, &portmaptest.Firewall{}, store)
		r.checkAgreement(t, 0)
		r.refuse(t, from(0, 40000), 1)
	}
}

// TestRefusalClosesOtherFamily has a blocked host ask over IPv4 for a pinhole: its port
// mapping, which it got with another hardware address, is closed soon.
func TestRefusalClosesOtherFamily(t *testing.T) {
	r := newTableRig(t, &portmaptest.Firewall{}, &portmaptest.Store{})
	r.block(t, onHost(0, time.Time{}))
	disguised := from(0, 40000)
	disguised.Host.Hardware = hardware(9)
	r.grant(t, disguised)
	req := from(0, 50000)
	req.Origin, req.Alias, req.Internal = portmap.UPnP, host6, netip.AddrPortFrom(host6, 50000)
	r.refuse(t, req, 1)
	r.await()
	r.checkAgreement(t, 0)
}

// TestBind binds a block of an address to the hardware address that its host turns out to
// have.
func TestBind(t *testing.T) {
	store := &portmaptest.Store{}
	r := newTableRig(t, &portmaptest.Firewall{}, store)
	moved := from(0, 40003)
	moved.Client, moved.Internal = client(5), netip.AddrPortFrom(client(5), 40003)
	r.grant(t, moved)
	r.grant(t, from(1, 40001))
	r.grant(t, open(client(2), 40002, time.Hour)) // of a host that is not known
	r.block(t, portmap.Block{Selector: portmap.Selector{Host: portmap.HostSelector{Addr: client(0)}}})
	r.refuse(t, from(0, 40000), 1)
	r.grant(t, moved)
	for _, id := range []int{1, 1, 7} { // it is bound once; there is no block 7
		if err := r.Bind(context.Background(), id, []string{hardware(id - 1)}); err != nil {
			t.Fatal(err)
		}
	}
	r.refuse(t, moved, 1)
	r.checkAgreement(t, 2)
	if n := len(r.firewall.Open()); n != 1 {
		t.Errorf("%d mappings are in force, want that of the other host", n)
	}
	r.stop()
	r = newTableRig(t, &portmaptest.Firewall{}, store)
	r.refuse(t, moved, 1)
	if list := r.Blocks(); len(list) != 1 || fmt.Sprint(list[0].Host.Bound) != "["+hardware(0)+"]" || list[0].Hits != 3 || list[0].Host.IsUnbound() {
		t.Errorf("after a restart: %+v of %+v", list, list[0].Block)
	}
}

// TestTooManyBlocks sets as many blocks as there may be, and one more.
func TestTooManyBlocks(t *testing.T) {
	r := newTableRig(t, &portmaptest.Firewall{}, &portmaptest.Store{})
	for range 256 {
		r.block(t, onHost(0, time.Time{}))
	}
	if _, err := r.Block(context.Background(), onHost(0, time.Time{})); err == nil || !strings.Contains(err.Error(), "256 blocks") {
		t.Errorf("one more: %v", err)
	}
}

// TestBlocksOfNoClient blocks what is no client's, and what may be one's later.
func TestBlocksOfNoClient(t *testing.T) {
	network := having(gateway, gateway6)
	network.Own = append(network.Own, netip.MustParseAddr("192.168.60.1"), netip.MustParseAddr("fe80::1"))
	network.Hardware = []string{"02:00:00:00:00:01"}
	r := newTableRigIn(t, network, &portmaptest.Firewall{}, &portmaptest.Store{})
	own, none, elsewhere := "the router's own", "of one host", "elsewhere"
	for word, want := range map[string]string{
		"0.0.0.0": none, "::": none, "127.0.0.1": none, "::1": none, "224.0.0.1": none, "ff02::1": none, "255.255.255.255": none,
		"192.168.50.0": none, "192.168.50.255": none, "ff:ff:ff:ff:ff:ff": none, "00:00:00:00:00:00": none, "01:00:5e:00:00:01": none, "33:33:00:00:00:01": none,
		gateway.Addr().String(): own, gateway6.Addr().String(): own, wan.String(): own, "192.168.60.1": own, "fe80::1": own, "02:00:00:00:00:01": own,
		"10.9.9.9": elsewhere, "2001:db8:99::1": elsewhere,
		"192.168.50.10": "", "2001:db8:50::10": "", "fe80::10": "", "02:00:00:00:00:10": "", "laptop": "",
	} {
		var h portmap.HostSelector
		if a, err := netip.ParseAddr(word); err == nil {
			h.Addr = a
		} else if strings.Contains(word, ":") {
			h.Hardware = word
		} else {
			h.Name = word
		}
		before := len(r.Blocks())
		set, err := r.Block(context.Background(), portmap.Block{Selector: portmap.Selector{Host: h}})
		got := ""
		if set.Elsewhere {
			got = elsewhere
		}
		if err != nil {
			got = err.Error()
		}
		if (got == "") != (want == "") || !strings.Contains(got, want) || (err != nil) != (len(r.Blocks()) == before) {
			t.Errorf("%s: %q, %d blocks after %d, want %q", word, got, len(r.Blocks()), before, want)
		}
	}
}

// TestUnsavedBlockIsInForce blocks and unblocks on a full disk.
func TestUnsavedBlockIsInForce(t *testing.T) {
	r := newTableRig(t, &portmaptest.Firewall{}, &portmaptest.Store{})
	r.store.Full = true
	if set, err := r.Block(context.Background(), onHost(0, time.Time{})); err != nil || set.Unsaved == nil {
		t.Errorf("set %+v, %v", set, err)
	}
	r.refuse(t, from(0, 40000), 1)
	if lifted, unsaved, err := r.Unblock(context.Background(), func(*portmap.Block) bool { return true }); len(lifted) != 1 || unsaved == nil || err != nil {
		t.Errorf("lifted %v, %v, %v", lifted, unsaved, err)
	}
	r.store.Full = false
	r.grant(t, from(0, 40000))
}

// TestDelete deletes mappings by what selects a block.
func TestDelete(t *testing.T) {
	for what, tt := range map[string]struct {
		s    portmap.Selector
		want int
	}{
		"address":          {portmap.Selector{Host: portmap.HostSelector{Addr: client(0), Bound: []string{hardware(0)}}}, 2},
		"hardware address": {portmap.Selector{Host: portmap.HostSelector{Hardware: hardware(0)}}, 2},
		"bound name":       {portmap.Selector{Host: portmap.HostSelector{Name: "laptop", Bound: []string{hardware(0)}}}, 2},
		"ports":            {portmap.Selector{External: portmap.PortRange{First: 40001, Last: 40002}}, 2},
		"host and port":    {portmap.Selector{Host: portmap.HostSelector{Addr: client(0)}, External: portmap.PortRange{First: 40000, Last: 40000}}, 1},
	} {
		r := newTableRig(t, &portmaptest.Firewall{}, &portmaptest.Store{})
		r.grant(t, from(0, 40000))
		r.grant(t, from(0, 40001))
		r.grant(t, from(1, 40002))
		r.grant(t, open(client(2), 40003, time.Hour))
		if n, err := r.Delete(context.Background(), tt.s); n != tt.want || err != nil {
			t.Errorf("%s: %d, %v, want %d", what, n, err, tt.want)
		}
		r.checkAgreement(t, 4-tt.want)
		r.grant(t, from(0, 40000))
	}
}

// TestBlockedHosts asks what must be known of hosts under blocks.
func TestBlockedHosts(t *testing.T) {
	r := newTableRig(t, &portmaptest.Firewall{}, &portmaptest.Store{})
	for _, tt := range []struct {
		s    portmap.Selector
		want string
	}{
		{portmap.Selector{External: portmap.PortRange{First: 1, Last: 9}}, "{false false [] []}"},
		{portmap.Selector{Host: portmap.HostSelector{Addr: client(0)}}, "{true false [] [192.168.50.10]}"},
		{portmap.Selector{Host: portmap.HostSelector{Addr: client(1), Bound: []string{hardware(1)}}}, "{true true [] [192.168.50.10 192.168.50.11]}"},
		{portmap.Selector{Host: portmap.HostSelector{Name: "laptop"}}, "{true true [laptop] [192.168.50.10 192.168.50.11]}"},
	} {
		r.block(t, portmap.Block{Selector: tt.s})
		if got := fmt.Sprint(r.BlockedHosts()); got != tt.want {
			t.Errorf("with %+v: %s, want %s", tt.s, got, tt.want)
		}
	}
}
