package portmap

import (
	"net/netip"
	"sync"
)

// maxQueuedPerClient bounds the datagrams of one client that wait for a decision, so
// that whoever floods the queue waits behind himself and not others behind him:
// a quarter of the queue, half a batch. A server keeps what is beyond that, to
// submit it when some are decided.
const maxQueuedPerClient = 256

// When queueLength datagrams wait only clients of which few wait may add to
// them, up to mostWaiting in all, which take a megabyte: whoever only renews is
// heard beside whoever asks for much.
const (
	reservedPerClient = 8
	maxQueued         = 4 * queueLength
)

// queueLimiter counts who waits.
type queueLimiter struct {
	mu      sync.Mutex
	clients map[netip.Addr]int
	total   int
}

// acquire lets one more request of a client wait, unless too many do.
func (q *queueLimiter) acquire(client netip.Addr) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	waits := q.clients[client]
	if waits >= maxQueuedPerClient || q.total >= queueLength && waits >= reservedPerClient || q.total >= maxQueued {
		return false
	}
	q.total++
	q.clients[client]++
	return true
}

// release ends the wait of one request.
func (q *queueLimiter) release(client netip.Addr) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.total--
	if q.clients[client]--; q.clients[client] == 0 {
		delete(q.clients, client)
	}
}
