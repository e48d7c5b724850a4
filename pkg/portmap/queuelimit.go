package portmap

import (
	"net/netip"
	"sync"
)

// maxQueuedPerClient bounds the datagrams of one client that wait for a
// decision, so that a client that floods the queue delays only itself: a
// quarter of the queue, half a batch. A server keeps further ones and submits
// them when some are decided.
const maxQueuedPerClient = 256

// When queueLength datagrams wait, only a client with fewer than
// reservedPerClient may add one, up to maxQueued in total, which take a
// megabyte: a client that only renews is served even while others flood the
// queue.
const (
	reservedPerClient = 8
	maxQueued         = 4 * queueLength
)

// queueLimiter counts the datagrams that wait for a decision, by client.
type queueLimiter struct {
	mu      sync.Mutex
	clients map[netip.Addr]int
	total   int
}

// acquire admits one more request of a client, unless too many wait.
func (q *queueLimiter) acquire(client netip.Addr) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	own := q.clients[client]
	if own >= maxQueuedPerClient || q.total >= queueLength && own >= reservedPerClient || q.total >= maxQueued {
		return false
	}
	q.total++
	q.clients[client]++
	return true
}

// release counts one request of a client as decided.
func (q *queueLimiter) release(client netip.Addr) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.total--
	if q.clients[client]--; q.clients[client] == 0 {
		delete(q.clients, client)
	}
}
