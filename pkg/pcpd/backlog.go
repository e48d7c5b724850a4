package pcpd

import (
	"bytes"
	"context"
	"net/netip"
	"sync"
	"time"
)

// The memory for the waiting requests of one LAN, in bytes: each takes its length and
// a fixed part. One client may use half of it: with the 256 requests that the table
// accepts of one client, that is 1,000 requests of the maximum length, 1,100 octets,
// or over 3,000 of the usual 12 to 60 octets.
const (
	backlogSize = 2 << 20
	requestSize = 256
)

// retryAfter is the time after which rejected requests are submitted again, unless a
// request of this LAN is answered before. It is less than the 250 ms after which
// clients repeat their requests.
const retryAfter = 100 * time.Millisecond

// backlog holds the requests that wait for the table. Each client has a queue, and
// the queues are served in turn: a client that sends many requests delays only its
// own.
type backlog struct {
	more chan struct{} // wakes serve

	mu   sync.Mutex // guards the rest
	free int        // bytes

	clients map[netip.Addr]*requests
	turn    []*requests // the queues in clients, the next first
}

// requests are those of one client, in the order in which they came.
type requests struct {
	queue []exchange // never empty
	size  int        // bytes

}

func newBacklog() *backlog {
	return &backlog{more: make(chan struct{}, 1), free: backlogSize, clients: make(map[netip.Addr]*requests)}
}

// size returns the bytes that a request takes in the backlog.
func (x exchange) size() int { return requestSize + len(x.packet) }

// add appends a copy of a request to its client's queue. A queue may not exceed
// the free memory, so one client gets at most half of the memory, two get a third
// each, and there is always room for another. Further requests are dropped: clients
// repeat them.
func (b *backlog) add(x exchange) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r, known := b.clients[x.client.Addr()]
	if !known {
		r = new(requests)
	}
	if r.size+x.size() > b.free {
		return
	}
	if !known {
		b.clients[x.client.Addr()] = r
		b.turn = append(b.turn, r)
		b.wake()
	}
	x.packet, x.waited = bytes.Clone(x.packet), true
	r.queue = append(r.queue, x)
	r.size += x.size()
	b.free -= x.size()
}

// waiting reports whether any request waits.
func (b *backlog) waiting() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.turn) > 0
}

// has reports whether a request of a client waits.
func (b *backlog) has(client netip.Addr) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.clients[client] != nil
}

// wake makes serve try the waiting requests again.
func (b *backlog) wake() {
	select {
	case b.more <- struct{}{}:
	default:
	}
}

// serve passes the waiting requests to try until ctx ends. A request that try does
// not accept remains the first of its client.
func (b *backlog) serve(ctx context.Context, try func(exchange) bool) {
	for {
		var later <-chan time.Time
		if b.serveAll(ctx, try); b.waiting() {
			later = time.After(retryAfter)
		}
		select {
		case <-ctx.Done():
			return
		case <-b.more:
		case <-later:
		}
	}
}

// maxRefused is the number of clients whose requests are tried in vain before a
// pause. Otherwise one host with 5,000 invented addresses would have all of them tried
// ten times a second.
const maxRefused = 64

// serveAll serves until try accepts no client's request, or has refused many. The
// next round begins with the clients that were not tried.
func (b *backlog) serveAll(ctx context.Context, try func(exchange) bool) {
	for refused := 0; ctx.Err() == nil; {
		x, clients := b.next()
		switch {
		case refused >= min(clients, maxRefused):
			return
		case try(x):
			b.remove()
			refused = 0
		default:
			b.pass()
			refused++
		}
	}
}

// next returns the next request and the number of waiting clients.
func (b *backlog) next() (x exchange, clients int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.turn) > 0 {
		x = b.turn[0].queue[0]
	}
	return x, len(b.turn)
}

// pass gives the turn to the next client.
func (b *backlog) pass() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn = append(b.turn[1:], b.turn[0])
}

// remove removes the next request and gives the turn to the next client.
func (b *backlog) remove() {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.turn[0]
	b.turn = b.turn[1:]
	x := r.queue[0]
	r.queue[0] = exchange{}
	r.queue = r.queue[1:]
	r.size -= x.size()
	b.free += x.size()
	if len(r.queue) == 0 {
		delete(b.clients, x.client.Addr())
		return
	}
	b.turn = append(b.turn, r)
}
