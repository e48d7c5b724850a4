package pcpd_test

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"igdd/pkg/pcp"
)

// neighbourTable knows each host until they leave.
type neighbourTable struct {
	mu        sync.Mutex
	haveLeft  bool
	resolving map[netip.Addr]bool
	most      int // at a time
	resolved  func(int, netip.Addr)
}

func (n *neighbourTable) Lookup(_ int, a netip.Addr) (net.HardwareAddr, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return net.HardwareAddr(a.AsSlice()), !n.haveLeft
}

func (n *neighbourTable) IsShared(int, netip.Addr, net.HardwareAddr) bool { return false }

func (n *neighbourTable) Resolve(_ int, a netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.resolving[a] = true
	n.most = max(n.most, len(n.resolving))
}

func (n *neighbourTable) Forget(_ int, a netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.resolving, a)
}

func (n *neighbourTable) Watch(resolved func(int, netip.Addr)) (func(), error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.resolved = resolved
	return func() {}, nil
}

// leave makes all hosts unknown, or come back.
func (n *neighbourTable) leave(haveLeft bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.haveLeft = haveLeft
}

// count returns how many hosts are being resolved.
func (n *neighbourTable) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.resolving)
}

// TestUpdatesOfAbsentClients has more clients with mappings leave than may be waited for,
// before the external address changes. When they come back their updates are sent.
func TestUpdatesOfAbsentClients(t *testing.T) {
	t.Parallel()
	const clients, maxWaiting = 80, 64
	table := &neighbourTable{resolving: make(map[netip.Addr]bool)}
	s := defaultSetup()
	s.neighbours = table
	g := serve(t, newLab(t), s)
	first := g.addMapping(t, mapUDP(40000, 40000, nonceA)) // of 192.168.50.10
	for i := range clients {
		a := netip.MustParseAddr(fmt.Sprintf("192.168.50.%d", 100+i))
		g.lab.Clients[0].Address(t, "eth0", netip.PrefixFrom(a, 24))
		r := g.askPCP(t, a, mapUDP(uint16(41000+i), 0, pcp.Nonce{byte(i)}))
		checkResult(t, r, pcp.Success, time.Hour)
	}
	table.leave(true)
	time.Sleep(200 * time.Millisecond) // what is believed of them is out of date
	if err := g.SetUplink(otherWAN); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(replyTimeout); table.count() < maxWaiting; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d hosts are waited for, want %d", table.count(), maxWaiting)
		}
	}
	table.leave(false)
	table.resolved(0, netip.Addr{})
	first.SetReadDeadline(time.Now().Add(replyTimeout))
	if r := first.response(t); r.External.Addr() != otherWAN {
		t.Errorf("update %+v", r)
	}
	if table.most > maxWaiting {
		t.Errorf("%d hosts were waited for at a time", table.most)
	}
}
