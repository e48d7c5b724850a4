package pcpd

import (
	"bytes"
	"context"
	"sync"
	"time"

	"igdd/pkg/lan"
)

// The memory for the waiting requests of one LAN, in bytes: each takes its length and
// a fixed part. One host may use half of it: with the 256 requests that the table
// accepts of one host, that is 1,000 requests of the maximum length, 1,100 octets,
// or over 3,000 of the usual 12 to 60 octets.
const (
	backlogSize = 2 << 20
	requestSize = 256
)

// retryAfter is the time after which rejected requests are submitted again, unless a
// request of this LAN is answered before. It is less than the 250 ms after which
// clients repeat their requests.
const retryAfter = 100 * time.Millisecond

// backlog holds the requests that wait for the table. Each host has a queue, and the
// queues are served in turn: a host that sends many requests delays only its own.
type backlog struct {
	wakeup chan struct{} // wakes serve

	mu   sync.Mutex // guards the rest
	free int        // bytes left of backlogSize

	hosts    map[lan.Host]*hostQueue
	rotation []*hostQueue // the queues in hosts, the next first
}

// hostQueue holds the requests of one host in the order of arrival.
type hostQueue struct {
	requests []exchange // never empty
	size     int        // bytes
}

func newBacklog() *backlog {
	return &backlog{wakeup: make(chan struct{}, 1), free: backlogSize, hosts: make(map[lan.Host]*hostQueue)}
}

// size returns the bytes that a request takes in the backlog.
func (x exchange) size() int { return requestSize + len(x.packet) }

// add appends a copy of a request to its host's queue. A queue may not exceed
// the free memory, so one host gets at most half of the memory, two get a third
// each, and there is always room for another. Further requests are dropped: clients
// repeat them.
func (b *backlog) add(x exchange) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q, found := b.hosts[x.host]
	if !found {
		q = new(hostQueue)
	}
	if q.size+x.size() > b.free {
		return
	}
	if !found {
		b.hosts[x.host] = q
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

// hasHost reports whether a request of a host is queued.
func (b *backlog) hasHost(host lan.Host) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.hosts[host] != nil
}

// wake makes serve try the waiting requests again.
func (b *backlog) wake() {
	select {
	case b.wakeup <- struct{}{}:
	default:
	}
}

// serve passes the waiting requests to try until ctx ends. A request that try does
// not accept remains the first of its host.
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

// maxRejected is the number of hosts whose requests are rejected in a row before a
// pause. Otherwise the requests of a thousand hosts, or of one that forges as many
// hardware addresses, would all be tried ten times a second.
const maxRejected = 64

// serveAll passes requests to try until it has rejected one of each host, or
// maxRejected in a row. The next round begins with the hosts that were not tried.
func (b *backlog) serveAll(ctx context.Context, try func(exchange) bool) {
	for rejected := 0; ctx.Err() == nil; {
		x, hosts := b.next()
		switch {
		case rejected >= min(hosts, maxRejected):
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

// next returns the next request and the number of hosts with queued requests.
func (b *backlog) next() (x exchange, hosts int) {
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
		delete(b.hosts, x.host)
		return
	}
	b.rotation = append(b.rotation, q)
}
