package upnpd

import (
	"fmt"
	"io"
	"net"
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
		asking.Go(func() {
			err := h.Do(func() error { return askOften(request, b.N*(i+1)/clients-b.N*i/clients) })
			if err != nil {
				b.Error(err)
			}
		})
	}
	asking.Wait()
}

// askOften sends a request on n connections from c1, one after another.
func askOften(request string, n int) error {
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(hosts["c1"])}}
	for range n {
		c, err := from.Dial("tcp", hosts["gw1"]+":5555")
		if err != nil {
			return err
		}
		io.WriteString(c, request)
		text, err := io.ReadAll(c)
		c.Close()
		if err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 200") {
			return fmt.Errorf("got %s, %w", text, err)
		}
	}
	return nil
}
