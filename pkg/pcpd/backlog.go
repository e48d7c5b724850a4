package pcpd

import (
	"bytes"
	"context"
	"net/netip"
	"sync"
	"time"
)

// The memory for the requests of one LAN that wait, in octets: each takes its
// length and what is kept with it. One client may have half of it: with the 256
// requests of a client that the table takes at once that is 1,000 of the
// greatest length, 1,100 octets; of usual ones, of 12 to 60 octets, it is over
// 3,000.
const (
	backlogSize = 2 << 20
	requestSize = 256
)

// retryAfter is how long it takes at most until the desk is offered again what
// it did not take, if nothing from this LAN is answered meanwhile. It is less
// than the 250 ms after which clients repeat themselves.
const retryAfter = 100 * time.Millisecond

// backlog holds the requests that wait for the desk. Each client has a queue,
// and the queues are served in turn: who sends many requests delays his own.
type backlog struct {
	more chan struct{} // wakes serve

	mu      sync.Mutex // guards the rest
	free    int        // octets
	clients map[netip.Addr]*requests
	turn    []*requests // those in clients, the next first
}

// requests are those of one client, in the order in which they came.
type requests struct {
	queue []exchange // never empty
	size  int        // octets
}

func newBacklog() *backlog {
	return &backlog{more: make(chan struct{}, 1), free: backlogSize, clients: make(map[netip.Addr]*requests)}
}

// size returns the octets that a request takes in the backlog.
func (x exchange) size() int { return requestSize + len(x.packet) }

// add appends a copy of a request to its client's queue. A queue may take no
// more than it leaves free, so one client gets half of the memory at most, two
// get a third each, and there is always room for another. Beyond that requests
// are lost: clients ask again.
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

// wake has what waits tried again.
func (b *backlog) wake() {
	select {
	case b.more <- struct{}{}:
	default:
	}
}

// serve hands what waits to try until ctx ends. A request that try does not
// take stays the first of its client.
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

// mostRefused is how many clients are tried in vain before the desk is left
// alone for a while. Who made up 5,000 clients would else have all of them tried
// ten times a second.
const mostRefused = 64

// serveAll serves until try takes no client's request, or refuses many. The
// next round begins with those that were not tried.
func (b *backlog) serveAll(ctx context.Context, try func(exchange) bool) {
	for refused := 0; ctx.Err() == nil; {
		x, clients := b.next()
		switch {
		case refused >= min(clients, mostRefused):
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

// next returns the request whose turn it is, and how many clients wait.
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

// remove takes away the request whose turn it is, and gives the turn to the
// next client.
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
