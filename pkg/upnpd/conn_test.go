package upnpd

import (
	"bufio"
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"igdd/pkg/upnp"
)

// pipeConn is a connection to a server of which nothing but its frame is asked.
// The far end is a pipe, so that time can stand still.
type pipeConn struct {
	net.Conn
	first sync.Once
	begin func(early []byte)
	ended chan struct{}
}

// fakeLAN is the LAN of a visit.
type fakeLAN struct{}

func (fakeLAN) Name() string { return "lan0" }
func (fakeLAN) Index() int   { return 1 }
func (fakeLAN) Prefixes() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("192.168.50.1/24")}
}

func newPipeConn(t *testing.T, g *connLimiter, atOnce bool) *pipeConn {
	t.Helper()
	s := New(Options{Versions: []upnp.Version{upnp.V1, upnp.V2}, Product: "x", Log: slog.New(slog.DiscardHandler)})
	l := &Listener{server: s, on: fakeLAN{}}
	near, far := net.Pipe()
	c := &connection{client: netip.MustParseAddr("192.168.50.10"), local: netip.MustParseAddr("192.168.50.1")}
	v := &pipeConn{Conn: far, ended: make(chan struct{})}
	v.begin = func(early []byte) {
		defer close(v.ended)
		defer near.Close()
		if a := (&pipeArrival{in: early}); atOnce {
			rest := l.answer(c, a, g, new(immediate))
			if len(a.out) > 0 {
				near.SetWriteDeadline(time.Now().Add(replyWithin))
				near.Write(a.out)
			}
			if rest != nil {
				rest(pipeStream{near, io.MultiReader(bytes.NewReader(a.in), near)})
			}
			return
		}
		c.stream = pipeStream{near, io.MultiReader(bytes.NewReader(early), near)}
		g.add(c)
		l.serveConn(c, g)
	}
	t.Cleanup(func() { v.Close(); <-v.ended })
	return v
}

// bothWays runs a test with connections that are answered by the goroutine that accepts
// them, where that is possible, and with those that never are.
func bothWays(t *testing.T, test func(t *testing.T, atOnce bool)) {
	t.Run("at once", func(t *testing.T) { test(t, true) })
	t.Run("by a goroutine each", func(t *testing.T) { test(t, false) })
}

// Write and Read begin to serve the connection, with the octets that are written first.
func (v *pipeConn) Write(p []byte) (int, error) {
	isFirst := false
	v.first.Do(func() { isFirst = true; go v.begin(bytes.Clone(p)) })
	if isFirst {
		return len(p), nil
	}
	return v.Conn.Write(p)
}

func (v *pipeConn) Read(p []byte) (int, error) {
	v.first.Do(func() { go v.begin(nil) })
	return v.Conn.Read(p)
}

func (v *pipeConn) Close() error {
	v.first.Do(func() { go v.begin(nil) })
	return v.Conn.Close()
}

// pipeArrival is an arrival with the octets that have arrived, and those written.
type pipeArrival struct{ in, out []byte }

func (a *pipeArrival) Read(p []byte) (int, error) {
	return (*arrived)(&a.in).Read(p)
}

func (a *pipeArrival) Write(p []byte) (int, error) {
	a.out = append(a.out, p...)
	return len(p), nil
}

func (a *pipeArrival) IsSettled() bool { return len(a.in) == 0 }

// pipeStream reads what arrived before the stream began.
type pipeStream struct {
	net.Conn
	in io.Reader
}

func (s pipeStream) Read(p []byte) (int, error) { return s.in.Read(p) }

// read returns the next reply's status and whether it closes the connection.
func (v *pipeConn) read(t *testing.T, b *bufio.Reader, method string) (status int, closes bool) {
	t.Helper()
	r, err := http.ReadResponse(b, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r.Body); err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, r.Close
}

// getRoot asks for a description.
const getRoot = "GET /rootDesc.xml HTTP/1.1\r\nHost: 192.168.50.1:5000\r\n\r\n"

// TestTimeLimits lets a client be slow, in a time that passes at once.
func TestTimeLimits(t *testing.T) { bothWays(t, testTimeLimits) }

func testTimeLimits(t *testing.T, atOnce bool) {
	t.Parallel()
	tests := []struct {
		name   string
		sends  string
		pause  time.Duration // between octets
		status int           // 0: the connection ends without a reply
		after  time.Duration // from the last octet
	}{
		{"sends nothing", "", 0, 0, idleFor},
		{"half a request", getRoot[:20], 0, 408, sendWithin},
		{"no body", "POST /ctl/IPConn HTTP/1.1\r\nHost: 192.168.50.1\r\nContent-Length: 9\r\n\r\n", 0, 408, sendWithin},
		{"what is left behind a body", "\r\n \n\x00", 0, 0, idleFor},
		{"the length of a body that does not come", "GET /rootDesc.xml HTTP/1.1\r\nContent-Length: 9\r\n\r\n", 0, 200, 0},
		{"chunks that do not come", "SUBSCRIBE /evt/IPConn HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 0, 412, 0},
		{"slow but steady", getRoot, sendWithin / time.Duration(2*len(getRoot)), 200, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newPipeConn(t, newConnLimiter(), atOnce)
				for _, octet := range []byte(tt.sends) {
					time.Sleep(tt.pause)
					if _, err := v.Write([]byte{octet}); err != nil {
						t.Fatal(err)
					}
				}
				sent := time.Now()
				b := bufio.NewReader(v)
				if tt.status == 0 {
					if _, err := b.ReadByte(); err != io.EOF {
						t.Errorf("read: %v", err)
					}
				} else if status, _ := v.read(t, b, "GET"); status != tt.status {
					t.Errorf("status %d", status)
				}
				if got := time.Since(sent); got != tt.after {
					t.Errorf("after %v", got)
				}
			})
		})
	}
}

// TestTrickle never lets a request come to its end.
func TestTrickle(t *testing.T) { bothWays(t, testTrickle) }

func testTrickle(t *testing.T, atOnce bool) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newPipeConn(t, newConnLimiter(), atOnce)
		var sending sync.WaitGroup
		defer sending.Wait()
		sending.Go(func() {
			for _, octet := range []byte("GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 100)) {
				if _, err := v.Write([]byte{octet}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		began := time.Now()
		if status, closes := v.read(t, bufio.NewReader(v), "GET"); status != 408 || !closes {
			t.Errorf("status %d, closes %v", status, closes)
		}
		if got := time.Since(began); got != sendWithin {
			t.Errorf("after %v", got)
		}
	})
}

// TestClientThatReadsNothing does not read the reply.
func TestClientThatReadsNothing(t *testing.T) { bothWays(t, testClientThatReadsNothing) }

func testClientThatReadsNothing(t *testing.T, atOnce bool) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newPipeConn(t, newConnLimiter(), atOnce)
		if _, err := io.WriteString(v, getRoot); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		<-v.ended
		if got := time.Since(began); got != replyWithin {
			t.Errorf("given up after %v", got)
		}
	})
}

// TestKeepAlive asks twice on one connection.
func TestKeepAlive(t *testing.T) { bothWays(t, testKeepAlive) }

func testKeepAlive(t *testing.T, atOnce bool) {
	t.Parallel()
	tests := []struct {
		name, version, connection string
		stays                     bool
	}{
		{"1.1", "1.1", "", false},
		{"1.1 and another option", "1.1", "TE", false},
		{"1.1 keep-alive among others", "1.1", "Keep-Alive, TE", true},
		{"1.1 keep-alive", "1.1", "keep-alive", true},
		{"1.1 close", "1.1", "close", false},
		{"1.0", "1.0", "", false},
		{"1.0 keep-alive", "1.0", "Keep-Alive", true},
		{"1.0 close", "1.0", "close", false},
		{"close in the second field", "1.1", "keep-alive\r\nConnection: close", false},
		{"close in the first field", "1.1", "close\r\nConnection: keep-alive", false},
		{"close between others", "1.1", "keep-alive\r\nConnection: TE, Close\r\nconnection: keep-alive", false},
		{"close twice", "1.1", "close\r\nConnection: close", false},
		{"keep-alive in the second field", "1.1", "TE\r\nCONNECTION: , Keep-Alive", true},
		{"keep-alive behind an empty field", "1.0", "\r\nConnection: keep-alive", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := newPipeConn(t, newConnLimiter(), atOnce)
			b := bufio.NewReader(v)
			request := "GET /rootDesc.xml HTTP/" + tt.version + "\r\nHost: 192.168.50.1\r\n"
			if tt.connection != "" {
				request += "Connection: " + tt.connection + "\r\n"
			}
			request += "\r\n"
			if _, err := io.WriteString(v, request); err != nil {
				t.Fatal(err)
			}
			if status, closes := v.read(t, b, "GET"); status != 200 || closes == tt.stays {
				t.Errorf("status %d, closes %v", status, closes)
			}
			if !tt.stays {
				if _, err := b.ReadByte(); err != io.EOF {
					t.Errorf("the connection stays: %v", err)
				}
				return
			}
			go io.WriteString(v, strings.Repeat(request, 3)) // pipelined
			for range 3 {
				if status, _ := v.read(t, b, "GET"); status != 200 {
					t.Errorf("status %d", status)
				}
			}
		})
	}
}

// TestKeptConnectionsEnd asks to keep a connection, and then waits for its end.
func TestKeptConnectionsEnd(t *testing.T) { bothWays(t, testKeptConnectionsEnd) }

func testKeptConnectionsEnd(t *testing.T, atOnce bool) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newPipeConn(t, newConnLimiter(), atOnce)
		b := bufio.NewReader(v)
		for range 3 {
			if _, err := io.WriteString(v, "GET /rootDesc.xml HTTP/1.1\r\nConnection: Keep-Alive\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			if status, closes := v.read(t, b, "GET"); status != 200 || closes {
				t.Errorf("status %d, closes %v", status, closes)
			}
			time.Sleep(keepAliveFor - 1)
		}
		began := time.Now()
		if _, err := b.ReadByte(); err != io.EOF || time.Since(began) != 1 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// TestRules sends requests that differ in what is allowed.
func TestRules(t *testing.T) { bothWays(t, testRules) }

func testRules(t *testing.T, atOnce bool) {
	t.Parallel()
	get := func(fields string) string { return "GET /rootDesc.xml HTTP/1.1\r\n" + fields + "\r\n" }
	post := "POST /ctl/IPConn HTTP/1.1\r\nHost: 192.168.50.1\r\n"
	tests := []struct {
		name, request string
		status        int
	}{
		{"address and port", get("Host: 192.168.50.1:5000\r\n"), 200},
		{"address", get("Host: 192.168.50.1\r\n"), 200},
		{"a name", get("Host: router.lan:5000\r\n"), 403},
		{"another address", get("Host: 192.168.50.2\r\n"), 403},
		{"an IPv6 address", get("Host: [2001:db8::1]:5000\r\n"), 403},
		{"an address and more", get("Host: 192.168.50.1.evil.example\r\n"), 403},
		{"an address with a leading zero", get("Host: 192.168.050.1\r\n"), 403},
		{"no host", get(""), 200},
		{"empty host", get("Host: \r\n"), 200},
		{"no host, HTTP/1.0", "GET /rootDesc.xml HTTP/1.0\r\n\r\n", 200},
		{"a name, HTTP/1.0", "GET /rootDesc.xml HTTP/1.0\r\nHost: router.lan\r\n\r\n", 403},
		{"no host, but a page's script", get("Origin: http://evil.example\r\n"), 403},
		{"no host, but a browser", get("Sec-Fetch-Site: none\r\n"), 403},
		{"host of the target counts", "GET http://evil.example/rootDesc.xml HTTP/1.1\r\nHost: 192.168.50.1\r\n\r\n", 403},
		{"host of the field counts, too", "GET http://192.168.50.1/rootDesc.xml HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403},
		{"two modes of Node.js and a browser", get("Sec-Fetch-Mode: cors\r\nSec-Fetch-Mode: navigate\r\n"), 403},
		{"a path in another case", "GET /ROOTdesc.xml HTTP/1.1\r\n\r\n", 200},
		{"doubled slashes", "GET //rootDesc.xml HTTP/1.1\r\n\r\n", 200},
		{"another protocol version", "GET /rootDesc.xml HTTP/2\r\n\r\n", 505},
		{"a page's script", get("Host: 192.168.50.1\r\nOrigin: http://192.168.50.1\r\n"), 403},
		{"null origin", get("Host: 192.168.50.1\r\nOrigin: null\r\n"), 403},
		{"a browser", get("Host: 192.168.50.1\r\nSec-Fetch-Mode: navigate\r\n"), 403},
		{"a browser's script", get("Host: 192.168.50.1\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Site: cross-site\r\n"), 403},
		{"a script of Node.js", get("Host: 192.168.50.1\r\nSec-Fetch-Mode: cors\r\n"), 200},
		{"preflight", "OPTIONS /ctl/IPConn HTTP/1.1\r\nHost: 192.168.50.1\r\nOrigin: x\r\n\r\n", 403},
		{"unknown path", "GET /none HTTP/1.1\r\nHost: 192.168.50.1\r\n\r\n", 404},
		{"unknown path with a body", "POST /none HTTP/1.1\r\nHost: 192.168.50.1\r\nContent-Length: 4\r\n\r\nbody", 404},
		{"unknown method", "FOO /rootDesc.xml HTTP/1.1\r\nHost: 192.168.50.1\r\n\r\n", 501},
		{"document posted to", "POST /rootDesc.xml HTTP/1.1\r\nHost: 192.168.50.1\r\nContent-Length: 0\r\n\r\n", 405},
		{"control fetched", "GET /ctl/IPConn HTTP/1.1\r\nHost: 192.168.50.1\r\n\r\n", 405},
		{"events fetched", "GET /evt/IPConn HTTP/1.1\r\nHost: 192.168.50.1\r\n\r\n", 405},
		{"control subscribed to", "SUBSCRIBE /ctl/IPConn HTTP/1.1\r\nHost: 192.168.50.1\r\n\r\n", 405},
		{"what changes nothing", get("Host: 192.168.50.1\r\nRange: bytes=0-1\r\nIf-Modified-Since: x\r\nAccept-Encoding: gzip\r\nUpgrade: h2c\r\n"), 200},
		{"long line", "GET /" + strings.Repeat("a", maxRequestLine) + " HTTP/1.1\r\n", 414},
		{"long head", get("Host: 192.168.50.1\r\nX: " + strings.Repeat("a", maxHead) + "\r\n"), 431},
		{"long body", post + "Content-Length: 65537\r\n\r\n", 413},
		{"long body, not even waited for", post + "Expect: 100-continue\r\nContent-Length: 65537\r\n\r\n", 413},
		{"two ways to read it", post + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /none HTTP/1.1\r\nHost: 192.168.50.1\r\n\r\n", 400},
		{"nonsense", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n", 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := newPipeConn(t, newConnLimiter(), atOnce)
			go io.WriteString(v, tt.request)
			b := bufio.NewReader(v)
			method, _, _ := strings.Cut(tt.request, " ")
			r, err := http.ReadResponse(b, &http.Request{Method: method})
			if err != nil || r.StatusCode != tt.status {
				t.Fatalf("got %v, %v, want status %d", r, err, tt.status)
			}
			if r.Header.Get("Access-Control-Allow-Origin") != "" || r.ContentLength < 0 || r.Header.Get("SERVER") != "x" {
				t.Errorf("header %v", r.Header)
			}
			if allow := r.Header.Get("ALLOW"); (allow != "") != (tt.status == 405) {
				t.Errorf("ALLOW: %q", allow)
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				t.Error(err)
			}
			if !r.Close {
				return
			}
			if rest, err := io.ReadAll(b); err != nil || len(rest) > 0 {
				t.Errorf("behind the reply: %q, %v", rest, err)
			}
		})
	}
}

// TestExpect waits for leave to send the body.
func TestExpect(t *testing.T) { bothWays(t, testExpect) }

func testExpect(t *testing.T, atOnce bool) {
	t.Parallel()
	v := newPipeConn(t, newConnLimiter(), atOnce)
	b := bufio.NewReader(v)
	if _, err := io.WriteString(v, "POST /none HTTP/1.1\r\nHost: 192.168.50.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if status, _ := v.read(t, b, "POST"); status != 100 {
		t.Fatalf("status %d", status)
	}
	if _, err := io.WriteString(v, "body"); err != nil {
		t.Fatal(err)
	}
	if status, _ := v.read(t, b, "POST"); status != 404 {
		t.Errorf("status %d", status)
	}
}
