package portmap

import "igdd/pkg/fair"

// maxQueuedPerHost bounds the datagrams of one host that wait for a decision, so
// that a host that floods the queue delays only itself: a quarter of the queue,
// half a batch. A server keeps further ones and submits them when some are
// decided.
const maxQueuedPerHost = 256

// When queueLength datagrams wait, only a host with fewer than reservedPerHost may
// add one, up to maxQueued in total, which take a megabyte: a host that only
// renews is served even while others flood the queue.
const (
	reservedPerHost = 8
	maxQueued       = 4 * queueLength
)

// newQueueLimiter returns the counts of the datagrams that wait for a decision.
func newQueueLimiter() *fair.Counts[string] {
	return &fair.Counts[string]{PerHost: maxQueuedPerHost, Shared: queueLength, Reserved: reservedPerHost, Total: maxQueued}
}
