package pcpd

import (
	"context"
	"net/netip"
	"slices"
	"testing"

	"igdd/pkg/lan"
)

// request returns the n-th request of a client.
func request(client string, n byte) exchange {
	packet := make([]byte, 12)
	packet[0] = n
	return exchange{client: netip.AddrPortFrom(netip.MustParseAddr(client), 1024), host: lan.Host(client), packet: packet}
}

// served returns the requests that a backlog serves while one client is rejected: the
// last digit of the client's address and the number of the request.
func (b *backlog) served(reject string) (list []string) {
	b.serveAll(context.Background(), func(x exchange) bool {
		if x.client.Addr().String() == reject {
			return false
		}
		a := x.client.Addr().As4()
		list = append(list, string([]byte{'0' + a[3], '.', '0' + x.packet[0]}))
		return true
	})
	return list
}

func TestBacklogServesInTurn(t *testing.T) {
	t.Parallel()
	b := newBacklog()
	for n := range byte(3) {
		b.add(request("192.168.50.1", n))
	}
	b.add(request("192.168.50.2", 0))
	b.add(request("192.168.50.3", 0))
	b.add(request("192.168.50.3", 1))
	if got, want := b.served("192.168.50.3"), []string{"1.0", "2.0", "1.1", "1.2"}; !slices.Equal(got, want) {
		t.Errorf("served %v, want %v", got, want)
	}
	if !b.hasRequests() {
		t.Error("the rejected request is not queued")
	}
	b.add(request("192.168.50.2", 1))
	if got, want := b.served(""), []string{"3.0", "2.1", "3.1"}; !slices.Equal(got, want) {
		t.Errorf("then served %v, want %v", got, want)
	}
	if b.hasRequests() || len(b.hosts) > 0 || b.free != backlogSize {
		t.Errorf("%d hosts and %d bytes remain", len(b.hosts), backlogSize-b.free)
	}
}

func TestBacklogIsBounded(t *testing.T) {
	t.Parallel()
	b := newBacklog()
	queued := func(client string) int { return len(b.hosts[lan.Host(client)].requests) }
	fill := func(client string) {
		for range 10000 {
			b.add(request(client, 0))
		}
	}
	fill("192.168.50.1")
	if n := queued("192.168.50.1"); n < 3000 || b.free < backlogSize/2-requestSize {
		t.Errorf("one client has %d requests in the backlog and leaves %d bytes", n, b.free)
	}
	fill("192.168.50.2")
	fill("192.168.50.3")
	for _, client := range []string{"192.168.50.4", "192.168.50.5"} {
		for range 100 {
			b.add(request(client, 0))
		}
		if n := queued(client); n != 100 {
			t.Errorf("%s has %d requests in the backlog beside three clients that flood it, want 100", client, n)
		}
	}
	b.served("")
	if b.free != backlogSize {
		t.Errorf("%d bytes remain in use", backlogSize-b.free)
	}
}

// TestBacklogKeepsCopies changes a packet after it was added, as a receiver does that
// reuses its buffer.
func TestBacklogKeepsCopies(t *testing.T) {
	t.Parallel()
	b := newBacklog()
	x := request("192.168.50.1", 1)
	b.add(x)
	x.packet[0] = 2
	if got := b.served(""); !slices.Equal(got, []string{"1.1"}) {
		t.Errorf("served %v", got)
	}
}
