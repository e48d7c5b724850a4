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
	fewWaiting  = 8
	mostWaiting = 4 * queueLength
)

// queueLimiter counts who waits.
type queueLimiter struct {
	mu      sync.Mutex
	clients map[netip.Addr]int
	all     int
}

// acquire lets one more request of a client wait, unless too many do.
func (w *queueLimiter) acquire(client netip.Addr) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	waits := w.clients[client]
	if waits >= maxQueuedPerClient || w.all >= queueLength && waits >= fewWaiting || w.all >= mostWaiting {
		return false
	}
	w.all++
	w.clients[client]++
	return true
}

// release ends the wait of one request.
func (w *queueLimiter) release(client netip.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all--
	if w.clients[client]--; w.clients[client] == 0 {
		delete(w.clients, client)
	}
}
