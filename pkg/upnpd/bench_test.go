package upnpd

import (
	"io"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// BenchmarkConnection asks for the external address on a connection each, from several
// clients at a time.
func BenchmarkConnection(b *testing.B) {
	for _, clients := range []int{1, connectionsPerHost} {
		b.Run(strconv.Itoa(clients), func(b *testing.B) { benchmarkConnection(b, clients) })
	}
}

func benchmarkConnection(b *testing.B, clients int) {
	h := newTestNet(b).startGateway(b, gatewayConfigOf("default"))
	request := plainCall("GetExternalIPAddress", "")
	var asking sync.WaitGroup
	b.ResetTimer()
	for i := range clients {
		asking.Go(func() { h.askOften(b, request, b.N*(i+1)/clients-b.N*i/clients) })
	}
	asking.Wait()
}

// askOften sends a request on n connections, one after another.
func (h *testGateway) askOften(b *testing.B, request string, n int) {
	for range n {
		c, err := h.dial("c1", netip.MustParseAddrPort(hosts["gw1"]+":5555"))
		if err != nil {
			b.Error(err)
			return
		}
		io.WriteString(c, request)
		if text, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 200") {
			b.Errorf("got %s, %v", text, err)
		}
		c.Close()
	}
}
