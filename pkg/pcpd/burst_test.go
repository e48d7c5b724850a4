package pcpd_test

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"igdd/pkg/natpmp"
	"igdd/pkg/pcp"
	"igdd/pkg/pcpd"
	"igdd/pkg/portmap"
)

// blockedTable is a table that does not answer before it is released, as when iptables
// hangs.
type blockedTable struct {
	*portmap.Table
	released chan struct{}

	mu    sync.Mutex
	order []netip.Addr // the client of each answer
}

func (b *blockedTable) Submit(r portmap.Request, answer func(portmap.Answer)) bool {
	return b.Table.Submit(r, func(a portmap.Answer) {
		<-b.released
		b.mu.Lock()
		b.order = append(b.order, r.Client)
		b.mu.Unlock()
		answer(a)
	})
}

// askMany sends requests of a client, and returns when the server has read them all:
// it has answered a later ANNOUNCE request, which needs no table.
func (g *gateway) askMany(t *testing.T, source netip.Addr, requests [][]byte) *net.UDPConn {
	t.Helper()
	host, ping := g.host("lan", source), pcp.Request{Client: source}.Append(nil)
	c, err := g.open(host, netip.AddrPortFrom(source, 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	for chunk := range slices.Chunk(requests, 100) { // fits a socket's buffer
		for _, r := range append(chunk, ping) {
			if err := send(c, host, gatewayOf(source), r); err != nil {
				t.Fatal(err)
			}
		}
		if r := read(t, c); r[1] != 128+byte(pcp.Announce) {
			t.Fatalf("response %x from a blocked table", r)
		}
	}
	return c
}

// read returns the next datagram.
func read(t *testing.T, c *net.UDPConn) []byte {
	t.Helper()
	b := make([]byte, 2048)
	c.SetReadDeadline(time.Now().Add(replyTimeout))
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// answered returns how many requests of a client are answered, and how many of other
// clients were answered before the first of them.
func (b *blockedTable) answered(client netip.Addr) (n, before int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.order {
		if a == client {
			n++
		}
	}
	return n, slices.Index(b.order, client)
}

// serveBlocked starts a gateway whose table is blocked until release is called.
func serveBlocked(t *testing.T) (g *gateway, table *blockedTable, release func()) {
	t.Helper()
	table = &blockedTable{released: make(chan struct{})}
	s := defaultSetup()
	s.wrapTable = func(t *portmap.Table) pcpd.Table { table.Table = t; return table }
	g = serve(t, newLab(t), s)
	release = sync.OnceFunc(func() { close(table.released) })
	t.Cleanup(release)
	return g, table, release
}

// natpmpRequest and pcpRequest ask for a UDP port.
func natpmpRequest(_ netip.Addr, port uint16) []byte {
	return natpmp.Request{Opcode: natpmp.MapUDP, InternalPort: port, Lifetime: time.Hour}.Append(nil)
}

func pcpRequest(client netip.Addr, port uint16) []byte {
	r := mapUDP(port, 0, nonceA)
	r.Client = client
	return r.Append(nil)
}

// TestBurstOfOneHost sends 1,000 requests from one host, and then one from another,
// while the table is blocked. All are answered, the single one among the first.
func TestBurstOfOneHost(t *testing.T) {
	t.Parallel()
	const size = 1000
	for name, test := range map[string]struct {
		one, other netip.Addr
		request    func(netip.Addr, uint16) []byte
	}{
		"NAT-PMP":       {client, second, natpmpRequest},
		"PCP":           {second, client, pcpRequest},
		"PCP over IPv6": {netip.MustParseAddr("2001:db8:50::10"), netip.MustParseAddr("2001:db8:50::11"), pcpRequest},
	} {
		t.Run(name, func(t *testing.T) {
			g, table, release := serveBlocked(t)
			var requests [][]byte
			for i := range uint16(size) {
				requests = append(requests, test.request(test.one, 10000+i))
			}
			g.askMany(t, test.one, requests)
			c := g.askMany(t, test.other, [][]byte{test.request(test.other, 10000)})
			release()
			read(t, c)
			if _, before := table.answered(test.other); before > size/2 {
				t.Errorf("the other host is answered after %d requests", before)
			}
			for deadline := time.Now().Add(replyTimeout); ; time.Sleep(time.Millisecond) {
				n, _ := table.answered(test.one)
				if n == size {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("%d of %d requests are answered", n, size)
				}
			}
		})
	}
}
