package upnpd

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"igdd/pkg/lan"
)

// patience is how long a test waits for what must come.
const patience = 15 * time.Second

// connFlood is a limiter with connections that are nothing but pipes.
type connFlood struct {
	*connLimiter
	t *testing.T
}

func (c connFlood) admit(client string) *connection {
	near, far := net.Pipe()
	c.t.Cleanup(func() { near.Close(); far.Close() })
	conn := &connection{Conn: near, client: netip.MustParseAddr(client), host: lan.Host(client)}
	c.connLimiter.add(conn)
	return conn
}

// gone reports whether the limiter has closed a connection.
func gone(c *connection) bool { return errors.Is(c.SetDeadline(time.Time{}), io.ErrClosedPipe) }

func TestLimiterShortensLimits(t *testing.T) {
	t.Parallel()
	c := connFlood{newConnLimiter(), t}
	var mine []*connection
	for range unhurriedPerClient + 2 {
		mine = append(mine, c.admit("192.168.50.10"))
	}
	hurried := func() (n int) {
		for _, conn := range mine {
			if c.timeout(conn, idleFor) == shortLimit {
				n++
			}
		}
		return n
	}
	if n := hurried(); n != 2 || c.timeout(mine[unhurriedPerClient], time.Second) != time.Second {
		t.Errorf("%d connections must hurry", n)
	}
	if c.timeout(c.admit("192.168.50.11"), idleFor) != idleFor {
		t.Error("another client must hurry")
	}
	c.release(mine[3])
	c.release(mine[3])
	if n := hurried(); n != 1 {
		t.Errorf("%d connections must hurry when one has ended", n)
	}
}

func TestLimiterClosesThoseOfTheBusiest(t *testing.T) {
	t.Parallel()
	c := connFlood{newConnLimiter(), t}
	honest := c.admit("192.168.50.11")
	var flood []*connection
	for i := range 1022 {
		conn := c.admit("192.168.50.10")
		c.setAnswering(conn, i == 0)
		flood = append(flood, conn)
	}
	open := 0
	for _, conn := range flood {
		if !gone(conn) {
			open++
		}
	}
	if open != maxConnections-1 || c.total != maxConnections || gone(flood[0]) {
		t.Errorf("%d of the flood are open, %d in the books", open, c.total)
	}
	if another := c.admit("192.168.50.12"); gone(honest) || gone(another) {
		t.Error("others are closed")
	}
	for _, conn := range flood {
		c.setAnswering(conn, true)
	}
	c.admit("192.168.50.12")
	if !gone(flood[0]) {
		t.Error("where all are being answered, the oldest is not closed")
	}
	c.closeAll()
	if late := c.admit("192.168.50.12"); !gone(late) || !gone(honest) {
		t.Error("somebody is left at the end")
	}
}

// ask fetches a document on a new connection and returns its status.
func (h *testGateway) ask(from string) (int, error) {
	c, err := h.dial(from, netip.MustParseAddrPort(hosts["gw1"]+":5555"))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "GET /rootDesc.xml HTTP/1.1\r\nHost: "+hosts["gw1"]+"\r\nConnection: close\r\n\r\n"); err != nil {
		return 0, err
	}
	text, err := io.ReadAll(c)
	if err != nil || len(text) < len("HTTP/1.1 200") {
		return 0, err
	}
	return strconv.Atoi(string(text[9:12]))
}

// TestFlood opens a thousand idle connections from one host: neither the
// others nor the host itself wait, and nothing of it stays.
func TestFlood(t *testing.T) {
	t.Parallel()
	s := newTestNet(t)
	goroutines, descriptors := runtime.NumGoroutine(), openFiles(t)
	t.Run("gateway", func(t *testing.T) { s.startGateway(t, gatewayConfigOf("default")).flood(t) })
	for end := time.Now().Add(patience); runtime.NumGoroutine() > goroutines || openFiles(t) > descriptors; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines, were %d; %d descriptors, were %d", runtime.NumGoroutine(), goroutines, openFiles(t), descriptors)
		}
	}
}

func (h *testGateway) flood(t *testing.T) {
	for range 1022 {
		c, err := h.dial("c1", netip.MustParseAddrPort(hosts["gw1"]+":5555"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	for _, host := range []string{"c2", "c1", "c2"} {
		if status, err := h.ask(host); status != 200 {
			t.Errorf("%s gets status %d, %v", host, status, err)
		}
	}
	for end := time.Now().Add(patience); runtime.NumGoroutine() > maxConnections+30; time.Sleep(time.Millisecond) {
		if time.Now().After(end) { // those of closed connections end a moment later
			t.Fatalf("%d goroutines", runtime.NumGoroutine())
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestManyAtOnce asks on more connections of one host than are served at one
// time: all are answered.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	h := newTestNet(t).startGateway(t, gatewayConfigOf("default"))
	var asking sync.WaitGroup
	for range 4 * unhurriedPerClient {
		asking.Go(func() {
			for range 5 {
				if status, err := h.ask("c1"); status != 200 {
					t.Errorf("status %d, %v", status, err)
				}
			}
		})
	}
	asking.Wait()
}

// TestHalfClosed sends the end of the stream behind a request.
func TestHalfClosed(t *testing.T) {
	t.Parallel()
	h := newTestNet(t).startGateway(t, gatewayConfigOf("default"))
	c, err := h.dial("c1", netip.MustParseAddrPort(hosts["gw1"]+":5555"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, "GET /rootDesc.xml HTTP/1.1\r\nHost: "+hosts["gw1"]+"\r\n\r\n")
	c.(*net.TCPConn).CloseWrite()
	if text, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 200") || !strings.HasSuffix(string(text), "</root>\n") {
		t.Errorf("got %q, %v", text, err)
	}
}

// TestReplyArrivesBeforeReset sends much more than is read: the client still
// gets the reply.
func TestReplyArrivesBeforeReset(t *testing.T) {
	t.Parallel()
	h := newTestNet(t).startGateway(t, gatewayConfigOf("default"))
	for request, status := range map[string]string{"POST /ctl/IPConn": "413", "GET /rootDesc.xml": "200", "SUBSCRIBE /none": "404"} {
		h.sendTooMuch(t, request, status)
	}
}

func (h *testGateway) sendTooMuch(t *testing.T, request, status string) {
	c, err := h.dial("c1", netip.MustParseAddrPort(hosts["gw1"]+":5555"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	body := strings.Repeat("x", 100_000)
	if _, err := io.WriteString(c, request+" HTTP/1.1\r\nHost: "+hosts["gw1"]+"\r\nContent-Length: 100000\r\n\r\n"+body); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 "+status) {
		t.Errorf("%s: got %q, %v", request, text, err)
	}
}

// TestOutsiders are let in by no door.
func TestOutsiders(t *testing.T) {
	t.Parallel()
	h := newTestNet(t).startGateway(t, gatewayConfigOf("default"))
	for from, to := range map[string]string{"wan": "gw1", "c1": "ext", "gw1": "gw1"} {
		c, err := h.dial(from, netip.MustParseAddrPort(hosts[to]+":5555"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || os.IsTimeout(err) {
			t.Errorf("%s at %s reads %d octets, %v", from, to, n, err)
		}
	}
}
