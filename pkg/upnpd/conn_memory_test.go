package upnpd

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"igdd/pkg/lan"
	"igdd/pkg/portmap"
)

// slowTable is a table that decides nothing until the test ends.
type slowTable struct {
	Table
	asked, end chan struct{}
}

func (s *slowTable) Do(context.Context, portmap.Request) (portmap.Answer, error) {
	s.asked <- struct{}{}
	<-s.end
	return portmap.Answer{}, nil
}

// usedMemory returns the octets that are in use on the heap and by stacks.
func usedMemory() int {
	heap := liveHeap()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return heap + int(m.StackInuse)
}

// connect opens a connection of a host, which is served until the test ends.
func (h *testGateway) connect(t *testing.T, limiter *connLimiter, host lan.Host) net.Conn {
	t.Helper()
	near, far := net.Pipe()
	c := &connection{stream: near, client: netip.MustParseAddr(hosts["c1"]), local: netip.MustParseAddr(hosts["gw1"]), host: host}
	if !limiter.add(c) {
		t.Fatal("no place")
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer near.Close()
		(&Listener{server: h.server, on: h.testNet}).serveConn(c, limiter)
	}()
	t.Cleanup(func() { far.Close(); <-ended })
	return far
}

// TestMemoryOfConnections opens all connections that there may be, and leaves each where
// it needs most memory. Not counted is what the kernel keeps for a socket.
func TestMemoryOfConnections(t *testing.T) {
	post := "POST /ctl/IPConn HTTP/1.1\r\n" + padding
	fat := fatMapping(4000, strings.Repeat("&amp;", 12000))
	h := testNet{}.newGateway(t, gatewayConfigOf("open"))
	for i := range 2048 {
		add(t, h.server, hosts["c1"], v2, fmt.Sprint(4000+i), "0")
	}
	for _, tt := range []struct {
		name, sends string
		most        int // octets for each
		then        func(t *testing.T, c net.Conn, table *slowTable)
	}{
		{"idle", "", 16 << 10, nil},
		{"half a head", post, 24 << 10, nil},
		{"the length of a body", post + "Content-Length: 65536\r\n\r\n" + strings.Repeat("x", 100), 24 << 10, nil},
		{"the size of a chunk", post + "Transfer-Encoding: chunked\r\n\r\nffff\r\n" + strings.Repeat("x", 100), 24 << 10, nil},
		{"all of a body but the end", fat[:len(fat)-1], 112 << 10, nil},
		{"waits for the decision", fat, 128 << 10, func(_ *testing.T, _ net.Conn, table *slowTable) { <-table.asked }},
		{"does not read a list", fatCall("/ctl/IPConn", v2, "GetListOfPortMappings", listOfAll), 32 << 10, readOne},
		{"does not read", getRoot, 16 << 10, readOne},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table := &slowTable{h.table, make(chan struct{}), make(chan struct{})}
			h.server.opts.Table = table
			defer close(table.end)
			limiter := newConnLimiter()
			before := usedMemory()
			for i := range maxConnections {
				c := h.connect(t, limiter, lan.Host(fmt.Sprint(i)))
				if _, err := io.WriteString(c, tt.sends); err != nil {
					t.Fatal(err)
				}
				if tt.then != nil {
					tt.then(t, c, table)
				}
			}
			each := (usedMemory() - before) / maxConnections
			for end := time.Now().Add(patience); each > tt.most && time.Now().Before(end); {
				each = (usedMemory() - before) / maxConnections // once stacks have shrunk, and requests been read
			}
			if each > tt.most {
				t.Errorf("%d octets are used for each, want %d at most", each, tt.most)
			}
		})
	}
}

// listOfAll are the arguments of a request for all mappings.
const listOfAll = "<NewStartPort>1</NewStartPort><NewEndPort>65535</NewEndPort>" +
	"<NewProtocol>TCP</NewProtocol><NewManage>1</NewManage><NewNumberOfPorts>0</NewNumberOfPorts>"

// readOne reads the first octet of a response.
func readOne(t *testing.T, c net.Conn, _ *slowTable) {
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}
