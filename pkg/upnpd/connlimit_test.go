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
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"igdd/pkg/lan"
	"igdd/pkg/upnp"
)

// patience is how long a test waits for what must come.
const patience = 15 * time.Second

// limiterRig is a limiter with connections that are nothing but pipes, in a time that
// passes at once.
type limiterRig struct {
	*connLimiter
	t *testing.T
}

// pipe is a connection whose request has arrived, or not.
type pipe struct {
	net.Conn
	asks bool
}

func (p pipe) HasUnread() bool { return p.asks }

func (pipe) CloseWrite() error { return nil }

// open opens an idle connection of a host.
func (r limiterRig) open(host lan.Host) *testConn { return r.connect(host, false) }

// connect opens a connection of a host, which may get a place at once, and whose
// request has arrived if it asks.
func (r limiterRig) connect(host lan.Host, asks bool) *testConn {
	near, far := net.Pipe()
	r.t.Cleanup(func() { near.Close(); far.Close() })
	c := &testConn{connection: &connection{stream: pipe{near, asks}, host: host}, outcome: make(chan bool, 1)}
	go func() {
		c.outcome <- r.addNow(c.connection) && r.attach(c.connection, c.stream, waiting) || r.add(c.connection)
	}()
	synctest.Wait()
	return c
}

// testConn is a connection and whether it has got a place.
type testConn struct {
	*connection
	outcome chan bool
}

// state says whether a connection waits for a place, has one, or none.
func (c *testConn) state() string {
	select {
	case ok := <-c.outcome:
		c.outcome <- ok
		if ok && !errors.Is(c.SetReadDeadline(time.Time{}), io.ErrClosedPipe) {
			return "open"
		}
		return "closed"
	default:
		return "waits"
	}
}

// count returns how many of the connections are in a state.
func count(list []*testConn, state string) (n int) {
	for _, c := range list {
		if c.state() == state {
			n++
		}
	}
	return n
}

// inBubble runs a test of a limiter.
func inBubble(t *testing.T, test func(t *testing.T, r limiterRig)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := limiterRig{newConnLimiter(), t}
		test(t, r)
		r.closeAll() // ends those that wait
	})
}

// TestHostHasEightConnections opens more, some of which are being answered.
func TestHostHasEightConnections(t *testing.T) {
	inBubble(t, func(t *testing.T, r limiterRig) {
		var mine []*testConn
		for range connectionsPerHost {
			mine = append(mine, r.open("a"))
		}
		ninth := r.open("a")
		if ninth.state() != "waits" || count(mine, "open") != connectionsPerHost {
			t.Error("the ninth takes the place of one whose request may be on its way")
		}
		r.setPhase(mine[0].connection, deciding)
		time.Sleep(graceForRequest + checkInterval)
		synctest.Wait()
		if ninth.state() != "open" || mine[0].state() != "open" || mine[1].state() != "closed" {
			t.Errorf("the ninth %s, one that is being answered is %s, the oldest idle one %s", ninth.state(), mine[0].state(), mine[1].state())
		}
		for _, c := range append(mine, ninth) {
			r.setPhase(c.connection, deciding)
		}
		tenth := r.open("a")
		time.Sleep(placeWithin - time.Millisecond)
		if tenth.state() != "waits" {
			t.Errorf("while all are being answered the tenth %s", tenth.state())
		}
		time.Sleep(2 * checkInterval)
		synctest.Wait()
		if tenth.state() != "closed" {
			t.Error("the tenth waits for ever")
		}
	})
}

// TestSilenceAfterWaiting has idle connections wait for a place: once they have one, they
// give it up as those before them did.
func TestSilenceAfterWaiting(t *testing.T) {
	inBubble(t, func(t *testing.T, r limiterRig) {
		var all []*testConn
		for range 2 * connectionsPerHost {
			all = append(all, r.open("a"))
		}
		if n := count(all, "waits"); n != connectionsPerHost {
			t.Errorf("%d wait", n)
		}
		for range 2 {
			time.Sleep(graceForRequest + checkInterval)
			synctest.Wait()
		}
		if mine := r.connect("a", true); mine.state() != "open" || count(all, "open") != connectionsPerHost-1 {
			t.Errorf("a request %s beside %d idle connections", mine.state(), count(all, "open"))
		}
	})
}

// TestReaderThatTakesNothing keeps its place for a while only.
func TestReaderThatTakesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, r limiterRig) {
		var mine []*testConn
		for range connectionsPerHost {
			c := r.open("a")
			r.setPhase(c.connection, sending)
			mine = append(mine, c)
		}
		time.Sleep(graceForReader / 2)
		r.setPhase(mine[0].connection, sending) // it has taken a piece
		another := r.open("a")
		if another.state() != "waits" {
			t.Error("a reader is closed at once")
		}
		time.Sleep(graceForReader/2 + checkInterval)
		synctest.Wait()
		if another.state() != "open" || mine[0].state() != "open" || count(mine, "closed") != 1 {
			t.Errorf("another one %s, %d readers are closed", another.state(), count(mine, "closed"))
		}
	})
}

// TestFloodOfOneHost opens connections of one host without end, and of others.
func TestFloodOfOneHost(t *testing.T) {
	inBubble(t, func(t *testing.T, r limiterRig) {
		honest := r.open("b")
		var flood []*testConn
		for range 1022 {
			flood = append(flood, r.open("a"))
		}
		if o, w := count(flood, "open"), count(flood, "waits"); o != connectionsPerHost || w != waitingPerHost {
			t.Errorf("%d of the flood are open, %d wait", o, w)
		}
		if another := r.open("c"); honest.state() != "open" || another.state() != "open" {
			t.Error("others have no place")
		}
		mine := r.connect("a", true)
		for range waitingPerHost {
			r.open("a")
		}
		time.Sleep(graceForRequest + checkInterval)
		synctest.Wait()
		if mine.state() != "open" {
			t.Error("the host itself has no place for a new request")
		}
		r.closeAll()
		synctest.Wait()
		if late := r.open("c"); late.state() != "closed" || honest.state() != "closed" || count(flood, "closed") != len(flood) {
			t.Error("somebody is left at the end")
		}
	})
}

// TestFullHouse has all places taken by hosts that have eight each.
func TestFullHouse(t *testing.T) {
	inBubble(t, func(t *testing.T, r limiterRig) {
		var all []*testConn
		for i := range maxConnections {
			all = append(all, r.open(lan.Host('A'+rune(i%connectionsPerHost))))
		}
		time.Sleep(graceForRequest)
		for _, c := range all[1:] {
			r.setPhase(c.connection, deciding)
		}
		honest := r.open("honest")
		if honest.state() != "open" || all[0].state() != "closed" {
			t.Errorf("a host with little %s", honest.state())
		}
		another := r.open("another")
		if another.state() != "waits" {
			t.Error("one that is being answered loses its place")
		}
		r.release(all[1].connection)
		synctest.Wait()
		if another.state() != "open" {
			t.Error("a place that is free is not taken")
		}
	})
}

// TestManyRequestsOfFewHosts has all places taken by hosts that have eight each, whose
// requests may be on their way: a host with fewer connections has one at once.
func TestManyRequestsOfFewHosts(t *testing.T) {
	inBubble(t, func(t *testing.T, r limiterRig) {
		var all []*testConn
		for i := range maxConnections {
			all = append(all, r.open(lan.Host('A'+rune(i%connectionsPerHost))))
		}
		for _, c := range all[:maxConnections-1] {
			r.setPhase(c.connection, deciding)
		}
		last := all[maxConnections-1]
		if own := r.open(last.host); own.state() != "waits" || last.state() != "open" {
			t.Errorf("another one of the same host %s, its only one whose request is on its way is %s", own.state(), last.state())
		}
		if honest := r.open("honest"); honest.state() != "open" || last.state() != "closed" {
			t.Errorf("a host with little %s", honest.state())
		}
		if another := r.open("another"); another.state() != "waits" {
			t.Errorf("a second one %s", another.state())
		}
		r.setPhase(all[0].connection, queued)
		time.Sleep(checkInterval)
		synctest.Wait()
		if all[0].state() != "closed" || count(all, "closed") != 2 {
			t.Errorf("one that waits for the other list of its host is %s", all[0].state())
		}
	})
}

// TestHostsWithFewComeFirst has connections of hosts with many wait longer for a place
// than that of a host with none.
func TestHostsWithFewComeFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, r limiterRig) {
		var all, more []*testConn
		for i := range maxConnections {
			c := r.open(lan.Host('A' + rune(i%connectionsPerHost)))
			r.setPhase(c.connection, deciding)
			all = append(all, c)
		}
		for i := range connectionsPerHost {
			more = append(more, r.connect(lan.Host('A'+rune(i)), true))
		}
		honest := r.open("honest")
		r.release(all[0].connection)
		synctest.Wait()
		if honest.state() != "open" || count(more, "waits") != len(more) {
			t.Errorf("the honest one %s, %d others wait", honest.state(), count(more, "waits"))
		}
		r.release(all[1].connection)
		synctest.Wait()
		if more[0].state() != "open" && more[1].state() != "open" {
			t.Error("a free place is not taken")
		}
	})
}

// TestFewRefusedConnectionsStay has connections refused whose clients do not close them: few are waited
// for.
func TestFewRefusedConnectionsStay(t *testing.T) {
	inBubble(t, func(t *testing.T, r limiterRig) {
		l := &Listener{server: New(Options{Versions: []upnp.Version{upnp.V1}})}
		var refused atomic.Int32
		for range 100 {
			near, far := net.Pipe()
			go io.Copy(io.Discard, far)
			go func() {
				defer near.Close()
				l.refuse(&connection{stream: pipe{Conn: near}, host: "a"}, r.connLimiter)
				refused.Add(1)
			}()
		}
		synctest.Wait()
		if n := refused.Load(); n != 100-connectionsPerHost {
			t.Errorf("%d of 100 are closed at once", n)
		}
		time.Sleep(refuseFor)
		synctest.Wait()
		if n := refused.Load(); n != 100 {
			t.Errorf("%d of 100 are closed", n)
		}
	})
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
func TestFlood(t *testing.T) { bothWays(t, testFlood) }

func testFlood(t *testing.T, atOnce bool) {
	t.Parallel()
	s := newTestNet(t)
	goroutines, descriptors := runtime.NumGoroutine(), openFiles(t)
	t.Run("gateway", func(t *testing.T) { s.startGateway(t, served(atOnce)).flood(t) })
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
func TestManyAtOnce(t *testing.T) { bothWays(t, testManyAtOnce) }

func testManyAtOnce(t *testing.T, atOnce bool) {
	t.Parallel()
	h := newTestNet(t).startGateway(t, served(atOnce))
	var asking sync.WaitGroup
	for range 2 * connectionsPerHost {
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
func TestHalfClosed(t *testing.T) { bothWays(t, testHalfClosed) }

func testHalfClosed(t *testing.T, atOnce bool) {
	t.Parallel()
	h := newTestNet(t).startGateway(t, served(atOnce))
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
func TestReplyArrivesBeforeReset(t *testing.T) { bothWays(t, testReplyArrivesBeforeReset) }

func testReplyArrivesBeforeReset(t *testing.T, atOnce bool) {
	t.Parallel()
	h := newTestNet(t).startGateway(t, served(atOnce))
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
func TestOutsiders(t *testing.T) { bothWays(t, testOutsiders) }

func testOutsiders(t *testing.T, atOnce bool) {
	t.Parallel()
	h := newTestNet(t).startGateway(t, served(atOnce))
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
