package upstream

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// serve answers each datagram to a port of the loopback by what answer returns for it.
func serve(t *testing.T, answer func(request []byte) [][]byte) server {
	t.Helper()
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	go func() {
		defer close(done)
		b := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			for _, reply := range answer(b[:n]) {
				conn.WriteToUDPAddrPort(reply, from)
			}
		}
	}()
	port := conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	return server{Gateway{Address: loopback, Local: loopback, Device: "lo"}, port}
}

// requestServer answers the requests of one protocol by what answer returns for them, and
// keeps them.
type requestServer[Request any, Response interface{ Append([]byte) []byte }] struct {
	mu       sync.Mutex
	requests []Request
	answer   func(Request) []Response
}

// reply returns the packets that answer a request.
func (s *requestServer[Request, Response]) reply(req Request) (replies [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, req)
	for _, r := range s.answer(req) {
		replies = append(replies, r.Append(nil))
	}
	return replies
}

// asked returns the requests so far, without those that repeat the one before.
func (s *requestServer[Request, Response]) asked() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.CompactFunc(slices.Clone(s.requests), func(a, b Request) bool { return reflect.DeepEqual(a, b) })
}

func TestExchangeRepeatsTheRequest(t *testing.T) {
	t.Parallel()
	var heard atomic.Int32
	s := serve(t, func(request []byte) [][]byte {
		if heard.Add(1) < 3 {
			return nil
		}
		return [][]byte{request}
	})
	err := s.exchange(t.Context(), []byte("hello"), func(b []byte) bool { return string(b) == "hello" })
	if err != nil || heard.Load() < 3 {
		t.Errorf("%v after %d requests, want an answer to the third", err, heard.Load())
	}
}

func TestExchangeSkipsOtherReplies(t *testing.T) {
	t.Parallel()
	s := serve(t, func(request []byte) [][]byte {
		flood := make([][]byte, 100, 101)
		return append(flood, request)
	})
	if err := s.exchange(t.Context(), []byte("hello"), func(b []byte) bool { return string(b) == "hello" }); err != nil {
		t.Error(err)
	}
}

// TestExchangeIgnoresOthers has another socket send a reply to the one that waits.
func TestExchangeIgnoresOthers(t *testing.T) {
	t.Parallel()
	asker := make(chan netip.AddrPort, 1)
	server, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	stranger, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	go func() {
		b := make([]byte, 100)
		if _, from, err := server.ReadFromUDPAddrPort(b); err == nil {
			stranger.WriteToUDPAddrPort([]byte("stranger"), from)
			server.WriteToUDPAddrPort([]byte("server"), from)
			asker <- from
		}
	}()
	var got string
	s := serverAt(server)
	if err := s.exchange(t.Context(), []byte("hello"), func(b []byte) bool { got = string(b); return true }); err != nil || got != "server" {
		t.Errorf("took %q, %v", got, err)
	}
	if from := <-asker; from.Addr() != loopback {
		t.Errorf("the request came from %v", from)
	}
}

// serverAt returns the server that has a socket.
func serverAt(conn *net.UDPConn) server {
	port := conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	return server{Gateway{Address: loopback, Local: loopback}, port}
}

func TestExchangeWithoutServer(t *testing.T) {
	t.Parallel()
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	if err != nil {
		t.Fatal(err)
	}
	s := serverAt(conn)
	conn.Close()
	if err := s.exchange(t.Context(), []byte("hello"), func([]byte) bool { return true }); causeOf(err) != silent || !strings.Contains(err.Error(), "serves neither") {
		t.Errorf("%v, want that nobody serves the port", err)
	}
}

func TestExchangeWithASilentServer(t *testing.T) {
	t.Parallel()
	s := serve(t, func([]byte) [][]byte { return nil })
	if err := s.exchange(t.Context(), []byte("hello"), func([]byte) bool { return true }); causeOf(err) != silent || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("%v, want that nobody answers", err)
	}
}

func TestExchangeEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s := serve(t, func([]byte) [][]byte { cancel(); return nil })
	if err := s.exchange(ctx, []byte("hello"), func([]byte) bool { return true }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestExchangeFromAnAddressThatIsNotThere(t *testing.T) {
	t.Parallel()
	s := server{Gateway{Address: loopback, Local: netip.MustParseAddr("192.0.2.1")}, 9}
	if err := s.exchange(t.Context(), nil, func([]byte) bool { return true }); causeOf(err) != silent {
		t.Error(err)
	}
}

// TestOwnFirewall has this router's firewall drop what is sent.
func TestOwnFirewall(t *testing.T) {
	t.Parallel()
	err := &net.OpError{Op: "write", Net: "udp4", Err: os.NewSyscallError("sendto", unix.EPERM)}
	for _, got := range []error{unsent(t.Context(), err), explain(t.Context(), err)} {
		if causeOf(got) != silent || !strings.Contains(got.Error(), "OUTPUT") {
			t.Error(got)
		}
	}
}
