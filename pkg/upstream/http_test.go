package upstream

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
)

func TestParseEndpoint(t *testing.T) {
	router := netip.MustParseAddr("192.168.1.1")
	for url, want := range map[string]string{
		"http://192.168.1.1:5000/rootDesc.xml": "192.168.1.1:5000 /rootDesc.xml",
		"HTTP://192.168.1.1/a/b?c=d#e":         "192.168.1.1:80 /a/b?c=d",
		"http://192.168.1.1":                   "192.168.1.1:80 /",
		"http://192.168.1.1:49000?x":           "192.168.1.1:49000 /?x",
	} {
		if e, err := parseEndpoint(url, router); err != nil || e.at.String()+" "+e.path != want {
			t.Errorf("%s is %v, %v, want %s", url, e, err, want)
		}
	}
	for _, url := range []string{
		"", "/rootDesc.xml", "https://192.168.1.1/", "ftp://192.168.1.1/", "http:/192.168.1.1/", "http://",
		"http://192.168.1.254/", "http://192.168.1.1.example.com/", "http://fritz.box/", "http://192.168.1.1:0/",
		"http://192.168.1.1:65536/", "http://192.168.1.1:/", "http://user@192.168.1.1/", "http://192.168.1.1@192.168.1.9/",
		"http://[::ffff:192.168.1.1]/", "http://3232235777/", "http://192.168.001.1/", "http://192.168.1.1/a b",
		"http://192.168.1.1/\r\nHost: x", "http://192.168.1.1/\x00", "http://192.168.1.1/ü", `http:\\192.168.1.1\`,
	} {
		if e, err := parseEndpoint(url, router); err == nil {
			t.Errorf("%q is taken for %v", url, e)
		}
	}
}

func TestResolve(t *testing.T) {
	base := endpoint{netip.MustParseAddrPort("192.168.1.1:5000"), "/igd/desc.xml?x=/y/"}
	for url, want := range map[string]string{
		"/ctl/IPConn":                   "192.168.1.1:5000 /ctl/IPConn",
		"ctl?service=1":                 "192.168.1.1:5000 /igd/ctl?service=1",
		"http://192.168.1.1:5001/c":     "192.168.1.1:5001 /c",
		"//192.168.1.1:5001/c":          "192.168.1.1:5001 /c",
		"/c#fragment":                   "192.168.1.1:5000 /c",
		"urn-like:but/relative":         "192.168.1.1:5000 /igd/urn-like:but/relative",
		"HTTP://192.168.1.1/upper/Case": "192.168.1.1:80 /upper/Case",
	} {
		if e, err := base.resolve(url); err != nil || e.at.String()+" "+e.path != want {
			t.Errorf("%s leads to %v, %v, want %s", url, e, err, want)
		}
	}
	for _, url := range []string{"http://192.168.1.2/c", "//192.168.1.2/c", "https://192.168.1.1/c", "/c\r\nX: y", "/c d"} {
		if e, err := base.resolve(url); err == nil {
			t.Errorf("%q leads to %v", url, e)
		}
	}
}

func TestReadResponse(t *testing.T) {
	const body = "<root/>"
	for name, text := range map[string]string{
		"a length":                  "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n<root/>",
		"no length":                 "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n\r\n<root/>",
		"HTTP/1.0, LF only":         "HTTP/1.0 200 OK\nContent-type: text/xml\n\n<root/>",
		"names in other cases":      "http/1.1 200\r\nCONTENT-LENGTH :7\r\ncontent-type:x\r\n\r\n<root/>more",
		"many blanks":               "HTTP/1.1   200   Fine\r\nContent-Length: \t 7 \r\n\r\n<root/>",
		"a length that is too long": "HTTP/1.1 200 OK\r\nContent-Length: 700\r\n\r\n<root/>",
		"the length twice":          "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Length: 7\r\n\r\n<root/>",
		"what comes first":          "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n<root/>",
		"one chunk":                 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n<root/>\r\n0\r\n\r\n",
		"chunks, with a length":     "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: Chunked\r\n\r\n03;x=y\r\n<ro\r\n4 \r\not/>\r\n000\r\nTrailer: x\r\n\r\n",
		"fields that are none":      "HTTP/1.1 200 OK\r\nnonsense\r\n: x\r\n folded\r\nContent-Length: 7\r\n\r\n<root/>",
	} {
		if r, err := readResponse(iotest.OneByteReader(strings.NewReader(text))); err != nil || r.status != 200 || string(r.body) != body {
			t.Errorf("%s: got %d %q, %v", name, r.status, r.body, err)
		}
	}
	if r, err := readResponse(strings.NewReader("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")); err != nil || r.status != 200 || len(r.body) > 0 {
		t.Errorf("no body: got %d %q, %v", r.status, r.body, err)
	}
}

// endless is a stream without an end.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

func TestReadResponseRefuses(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for name, c := range map[string]struct{ text, want string }{
		"nothing":                  {"", "unexpected EOF"},
		"another protocol":         {"SSH-2.0-dropbear\r\n", "not HTTP"},
		"HTTP/2":                   {"HTTP/2 200 OK\r\n\r\n", "not HTTP"},
		"no status":                {"HTTP/1.1 OK\r\n\r\n", "not HTTP"},
		"a status that is none":    {"HTTP/1.1 2000 OK\r\n\r\n", "not HTTP"},
		"cut off in the status":    {"HTTP/1.1 20", "unexpected EOF"},
		"cut off in the header":    {ok + "Content-Length: 7", "unexpected EOF"},
		"no end of the header":     {ok + "Content-Length: 7\r\n", "unexpected EOF"},
		"two lengths":              {ok + "Content-Length: 7\r\nContent-Length: 8\r\n\r\n<root/>", "not HTTP"},
		"a negative length":        {ok + "Content-Length: -7\r\n\r\n<root/>", "not HTTP"},
		"a length beyond all":      {ok + "Content-Length: 99999999999999999999\r\n\r\n", "not HTTP"},
		"another encoding":         {ok + "Transfer-Encoding: gzip\r\n\r\n", "gzip"},
		"a chunk that is cut off":  {ok + "Transfer-Encoding: chunked\r\n\r\n7\r\n<ro", "unexpected EOF"},
		"a chunk without its end":  {ok + "Transfer-Encoding: chunked\r\n\r\n3\r\n<root/>\r\n", "not HTTP"},
		"chunks without the last":  {ok + "Transfer-Encoding: chunked\r\n\r\n7\r\n<root/>\r\n", "unexpected EOF"},
		"a chunk of no size":       {ok + "Transfer-Encoding: chunked\r\n\r\nx\r\n", "invalid syntax"},
		"a chunk of negative size": {ok + "Transfer-Encoding: chunked\r\n\r\n-1\r\n", "invalid syntax"},
		"a chunk of endless size":  {ok + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", "out of range"},
	} {
		if r, err := readResponse(strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %d %q, %v, want an error with %q", name, r.status, r.body, err, c.want)
		}
	}
}

// TestReadResponseIsBounded holds that a response without an end costs no more than the limit.
func TestReadResponseIsBounded(t *testing.T) {
	for name, start := range map[string]string{
		"status line": "HTTP/1.1 200 ",
		"header":      "HTTP/1.1 200 OK\r\nX: ",
		"body":        "HTTP/1.1 200 OK\r\n\r\n",
		"long body":   "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n",
		"chunk":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7fffffff\r\n",
		"chunk size":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"continuing":  strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", httpLen/20),
	} {
		counted := &io.LimitedReader{R: io.MultiReader(strings.NewReader(start), endless{}), N: 1 << 30}
		if _, err := readResponse(counted); err != errTooLong {
			t.Errorf("endless %s: got %v", name, err)
		}
		if read := 1<<30 - counted.N; read > httpLen+1 {
			t.Errorf("endless %s: %d octets were read", name, read)
		}
	}
}

// FuzzReadResponse demands a response with a status, or an error.
func FuzzReadResponse(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n<root/>"))
	f.Add([]byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 500\nTransfer-Encoding: chunked\n\n7;x\n<root/>\n0\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := readResponse(strings.NewReader(string(b)))
		if err == nil && (r.status < 200 || r.status > 599 || len(r.body) > len(b)) {
			t.Errorf("got %d with a body of %d octets", r.status, len(r.body))
		}
	})
}

// FuzzResolve demands that a URL leads to the router itself, in one line.
func FuzzResolve(f *testing.F) {
	f.Add("http://192.168.1.1:5000/a/b?c#d")
	f.Add("//192.168.1.2")
	base := endpoint{netip.MustParseAddrPort("192.168.1.1:5000"), "/igd/desc.xml"}
	f.Fuzz(func(t *testing.T, url string) {
		e, err := base.resolve(url)
		if err == nil && (e.at.Addr() != base.at.Addr() || e.at.Port() == 0 || !strings.HasPrefix(e.path, "/") || !isPlain(e.path)) {
			t.Errorf("%q leads to %v", url, e)
		}
	})
}

// raw is a server that does with each connection what it likes.
func raw(t *testing.T, serve func(net.Conn)) endpoint {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return endpoint{l.Addr().(*net.TCPAddr).AddrPort(), "/desc.xml"}
}

// onLoopback is a gateway of tests. Its two addresses are different ones of this machine.
var onLoopback = Gateway{Address: netip.MustParseAddr("127.0.0.1"), Local: netip.MustParseAddr("127.0.0.2"), Device: "lo"}

// TestRequest compares what is sent, and from where.
func TestRequest(t *testing.T) {
	got := make(chan string, 1)
	e := raw(t, func(c net.Conn) {
		var b [1024]byte
		n, _ := c.Read(b[:])
		from := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()
		got <- from.String() + "\n" + string(b[:n])
		io.WriteString(c, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\nbody")
	})
	r, err := onLoopback.post(t.Context(), e, `"a#b"`, []byte("<call/>"))
	if err != nil || r.status != 500 || string(r.body) != "body" {
		t.Errorf("got %d %q, %v", r.status, r.body, err)
	}
	want := "127.0.0.2\nPOST /desc.xml HTTP/1.1\r\nHost: " + e.at.String() + "\r\nContent-Type: text/xml; charset=\"utf-8\"\r\n" +
		"SOAPAction: \"a#b\"\r\nContent-Length: 7\r\nConnection: close\r\n\r\n<call/>"
	if text := <-got; text != want {
		t.Errorf("sent %q, want %q", text, want)
	}
}

// TestGetRefuses follows no redirection, and takes no other document.
func TestGetRefuses(t *testing.T) {
	for _, start := range []string{
		"HTTP/1.1 301 Moved Permanently\r\nLocation: http://127.0.0.9/\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
	} {
		e := raw(t, func(c net.Conn) { io.WriteString(c, start); io.Copy(io.Discard, c) })
		if body, err := onLoopback.get(t.Context(), e); err == nil || !strings.Contains(err.Error(), "HTTP status "+start[9:12]) {
			t.Errorf("%.12s: got %q, %v", start, body, err)
		}
	}
}

// TestSilentServer ends a request with its context, wherever the server stops.
func TestSilentServer(t *testing.T) {
	for _, start := range []string{"", "HTTP/1.1", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<root"} {
		ctx, cancel := context.WithCancel(t.Context())
		e := raw(t, func(c net.Conn) {
			io.WriteString(c, start)
			cancel()
			io.Copy(io.Discard, c)
		})
		body, err := onLoopback.get(ctx, e)
		if err == nil || ctx.Err() == nil {
			t.Errorf("after %q: got %q, %v", start, body, err)
		}
	}
}
