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
	wakeup chan struct{} // wakes serve

	mu   sync.Mutex // guards the rest
	free int        // bytes left of backlogSize

	clients  map[netip.Addr]*clientQueue
	rotation []*clientQueue // the queues in clients, the next first
}

// clientQueue holds the requests of one client in the order of arrival.
type clientQueue struct {
	requests []exchange // never empty
	size     int        // bytes
}

func newBacklog() *backlog {
	return &backlog{wakeup: make(chan struct{}, 1), free: backlogSize, clients: make(map[netip.Addr]*clientQueue)}
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
	q, found := b.clients[x.client.Addr()]
	if !found {
		q = new(clientQueue)
	}
	if q.size+x.size() > b.free {
		return
	}
	if !found {
		b.clients[x.client.Addr()] = q
		b.rotation = append(b.rotation, q)
		b.wake()
	}
	x.packet, x.queued = bytes.Clone(x.packet), true
	q.requests = append(q.requests, x)
	q.size += x.size()
	b.free -= x.size()
}

// hasRequests reports whether any request is queued.
func (b *backlog) hasRequests() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.rotation) > 0
}

// hasClient reports whether a request of a client is queued.
func (b *backlog) hasClient(client netip.Addr) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.clients[client] != nil
}

// wake makes serve try the waiting requests again.
func (b *backlog) wake() {
	select {
	case b.wakeup <- struct{}{}:
	default:
	}
}

// serve passes the waiting requests to try until ctx ends. A request that try does
// not accept remains the first of its client.
func (b *backlog) serve(ctx context.Context, try func(exchange) bool) {
	for {
		var retry <-chan time.Time
		if b.serveAll(ctx, try); b.hasRequests() {
			retry = time.After(retryAfter)
		}
		select {
		case <-ctx.Done():
			return
		case <-b.wakeup:
		case <-retry:
		}
	}
}

// maxRejected is the number of clients whose requests are rejected in a row before a
// pause. Otherwise one host with 5,000 forged addresses would have all of them tried ten
// times a second.
const maxRejected = 64

// serveAll passes requests to try until it has rejected one of each client, or
// maxRejected in a row. The next round begins with the clients that were not tried.
func (b *backlog) serveAll(ctx context.Context, try func(exchange) bool) {
	for rejected := 0; ctx.Err() == nil; {
		x, clients := b.next()
		switch {
		case rejected >= min(clients, maxRejected):
			return
		case try(x):
			b.remove()
			rejected = 0
		default:
			b.rotate()
			rejected++
		}
	}
}

// next returns the next request and the number of clients with queued requests.
func (b *backlog) next() (x exchange, clients int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.rotation) > 0 {
		x = b.rotation[0].requests[0]
	}
	return x, len(b.rotation)
}

// rotate moves the first queue to the end.
func (b *backlog) rotate() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rotation = append(b.rotation[1:], b.rotation[0])
}

// remove removes the next request and moves its queue to the end, or removes the queue
// with its last request.
func (b *backlog) remove() {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.rotation[0]
	b.rotation = b.rotation[1:]
	x := q.requests[0]
	q.requests[0] = exchange{}
	q.requests = q.requests[1:]
	q.size -= x.size()
	b.free += x.size()
	if len(q.requests) == 0 {
		delete(b.clients, x.client.Addr())
		return
	}
	b.rotation = append(b.rotation, q)
}
