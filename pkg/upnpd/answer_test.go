package upnpd

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"igdd/pkg/upnp"
)

// fullArrival is an arrival whose kernel has room for some octets of the response.
type fullArrival struct {
	pipeArrival
	room int
}

func (a *fullArrival) Write(p []byte) (int, error) {
	if a.room == 0 {
		return -1, unix.EAGAIN
	}
	return a.pipeArrival.Write(p[:min(len(p), a.room)])
}

// TestNoRoomForResponse has the rest of a response sent by a goroutine.
func TestNoRoomForResponse(t *testing.T) {
	t.Parallel()
	h := testNet{}.newGateway(t, gatewayConfigOf("default"))
	l := &Listener{server: h.server, on: h.testNet}
	for _, room := range []int{0, 1, 1000} {
		limiter := newConnLimiter()
		near, far := net.Pipe()
		defer far.Close()
		a := &fullArrival{pipeArrival{in: []byte(getDescription)}, room}
		c := &connection{client: netip.MustParseAddr(hosts["c1"]), local: netip.MustParseAddr(hosts["gw1"])}
		rest := l.answer(c, a, limiter, new(immediate))
		if rest == nil || limiter.open.Count("") != 1 {
			t.Fatalf("with room for %d nothing is left to do, or the place is lost", room)
		}
		go func() { rest(near); near.Close() }()
		text, err := io.ReadAll(far)
		if got := string(a.out) + string(text); err != nil || !strings.HasPrefix(got, "HTTP/1.1 200 ") || !strings.HasSuffix(got, "</root>\n") {
			t.Errorf("with room for %d: %v, %s", room, err, got)
		}
	}
}

// unsettledArrival is an arrival whose client does not read, or sends more.
type unsettledArrival struct{ pipeArrival }

func (*unsettledArrival) IsSettled() bool { return false }

// TestUnsettledConnection is not closed as soon as it is answered, but gives its place to
// another soon.
func TestUnsettledConnection(t *testing.T) {
	inBubble(t, func(t *testing.T, r limiterRig) {
		l := &Listener{server: New(Options{Versions: []upnp.Version{upnp.V1}}), on: fakeLAN{}}
		near, far := net.Pipe()
		defer far.Close()
		a := &unsettledArrival{pipeArrival{in: []byte("GET /none HTTP/1.1\r\n\r\n")}}
		c := new(connection)
		rest := l.answer(c, a, r.connLimiter, new(immediate))
		if rest == nil || !strings.HasPrefix(string(a.out), "HTTP/1.1 404") {
			t.Fatalf("nothing is left to do behind %q", a.out)
		}
		go func() { rest(pipe{Conn: near}); near.Close() }()
		if n, err := far.Write([]byte("\r\n")); n != 2 {
			t.Errorf("the connection is closed: %v", err)
		}
		time.Sleep(graceForRequest)
		if r.rank(c) != spare {
			t.Error("it keeps its place")
		}
		time.Sleep(lingerFor)
		synctest.Wait()
		if r.connLimiter.open.Count("") != 0 {
			t.Error("it stays for ever")
		}
	})
}

// getDescription is a request that is answered at once.
var getDescription = "GET /rootDesc.xml HTTP/1.1\r\nHost: " + hosts["gw1"] + "\r\n\r\n"

// plainMapping is a request for a new mapping.
var plainMapping = plainCall("AddPortMapping", "<NewRemoteHost></NewRemoteHost><NewExternalPort>4000</NewExternalPort><NewProtocol>TCP</NewProtocol>"+
	"<NewInternalPort>4000</NewInternalPort><NewInternalClient>"+hosts["c1"]+"</NewInternalClient><NewEnabled>1</NewEnabled>"+
	"<NewPortMappingDescription>x</NewPortMappingDescription><NewLeaseDuration>60</NewLeaseDuration>")

// TestWhatIsAnsweredAtOnce tells which requests leave nothing to do.
func TestWhatIsAnsweredAtOnce(t *testing.T) {
	t.Parallel()
	h := testNet{}.newGateway(t, gatewayConfigOf("default"))
	l := &Listener{server: h.server, on: h.testNet}
	external := plainCall("GetExternalIPAddress", "")
	for _, tt := range []struct {
		name, request string
		want          bool
	}{
		{"a document", getDescription, true},
		{"a document's head", "HEAD" + strings.TrimPrefix(getDescription, "GET"), true},
		{"an unknown path", "GET /none HTTP/1.1\r\n\r\n", true},
		{"a foreign host", "GET /rootDesc.xml HTTP/1.1\r\nHost: example.com\r\n\r\n", true},
		{"the external address", external, true},
		{"a mapping by its index", plainCall("GetGenericPortMappingEntry", "<NewPortMappingIndex>0</NewPortMappingIndex>"), true},
		{"an unknown action", plainCall("GetNothing", ""), true},
		{"nothing", "", false},
		{"half a head", getDescription[:30], false},
		{"half a body", external[:len(external)-1], false},
		{"a line end behind the body", external + "\r\n", false},
		{"a second request", getDescription + getDescription, false},
		{"the length of a body", "GET /rootDesc.xml HTTP/1.1\r\nContent-Length: 9\r\n\r\n", false},
		{"HTTP/1.0", "GET /rootDesc.xml HTTP/1.0\r\n\r\n", false},
		{"HTTP/1.0 without a length", "POST /ctl/IPConn HTTP/1.0\r\n\r\n", false},
		{"a client that waits to send the body", strings.Replace(external, "\r\n", "\r\nExpect: 100-continue\r\n", 1), false},
		{"a connection that stays", "GET /rootDesc.xml HTTP/1.1\r\nConnection: keep-alive\r\n\r\n", false},
		{"no request", "\x16\x03\x01\n", false},
		{"a new mapping", plainMapping, false},
		{"a list", plainCall("GetListOfPortMappings", listOfAll), false},
		{"a subscription", "SUBSCRIBE /evt/IPConn HTTP/1.1\r\n\r\n", false},
		{"more than the buffer", "GET /rootDesc.xml HTTP/1.1\r\nX: " + strings.Repeat("x", 2048) + "\r\n\r\n", false},
	} {
		limiter := newConnLimiter()
		a := &pipeArrival{in: []byte(tt.request)}
		c := &connection{client: netip.MustParseAddr(hosts["c1"]), local: netip.MustParseAddr(hosts["gw1"])}
		if atOnce := l.answer(c, a, limiter, new(immediate)) == nil; atOnce != tt.want || atOnce != (len(a.out) > 0) {
			t.Errorf("%s: answered at once: %v, %d octets", tt.name, atOnce, len(a.out))
		}
		if n := limiter.open.Count(""); (n == 0) != tt.want {
			t.Errorf("%s: %d places are taken", tt.name, n)
		}
	}
}

// TestEndBeforeTheRest closes all connections before one that was not answered at once is
// handed over: it is served no more.
func TestEndBeforeTheRest(t *testing.T) {
	t.Parallel()
	h := testNet{}.newGateway(t, gatewayConfigOf("default"))
	l := &Listener{server: h.server, on: h.testNet}
	limiter := newConnLimiter()
	for _, request := range []string{"", getDescription[:30], plainMapping} {
		limiter.closed = false
		rest := l.answer(&connection{}, &pipeArrival{in: []byte(request)}, limiter, new(immediate))
		limiter.closeAll()
		near, far := net.Pipe()
		defer far.Close()
		rest(near)
		if mappings, _ := h.table.Count(); mappings != 0 || limiter.open.Count("") != 0 {
			t.Errorf("%.10q: %d mappings, or a place is taken", request, mappings)
		}
	}
}
