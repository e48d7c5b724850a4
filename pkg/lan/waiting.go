package lan

import (
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What is sent to addresses that the kernel has not resolved waits until it has: in the
// socket's send buffer invented addresses would leave no room for others. The kernel's
// table has room for gc_thresh3 neighbours of the whole machine, of which an eighth may
// be waited for at a time.
const (
	maxWaiting       = 64 // neighbours on one LAN
	maxRequests      = 16 // of one neighbour, whose answer takes milliseconds
	tableShare       = 8
	defaultTableSize = 1024 // gc_thresh3 (arp(7))
)

// A neighbour is waited for as long as the kernel asks for it, three times within three
// seconds. When others need its place it has had at least as long as most hosts take to
// answer.
const (
	waitAtMost  = 3 * time.Second
	waitAtLeast = 10 * time.Millisecond
)

// queue holds what waits for a neighbour.
type queue struct {
	neighbour
	since    time.Time
	requests []func(Host)
	isServed bool // the neighbour is known: serve calls the requests
}

// maxWaitingInAll returns how many neighbours on all LANs together may be waited for.
func maxWaitingInAll() int {
	size := min(tableSize("ipv4"), tableSize("ipv6"))
	return max(1, size/tableShare)
}

// tableSize returns for how many neighbours of a family the kernel has room.
func tableSize(family string) int {
	text, err := os.ReadFile("/proc/sys/net/" + family + "/neigh/default/gc_thresh3")
	if err != nil { // no IPv6, or a network namespace
		return defaultTableSize
	}
	size, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return size
}

// await calls request when the kernel has resolved a neighbour: at any time, in the order
// of the calls of await for that neighbour. It is never called if the kernel cannot, or
// if too much waits. await does not wait itself.
func (h *Hosts) await(n neighbour, request func(Host)) {
	h.mu.Lock()
	q := h.queueOf(n)
	if q == nil {
		q = h.open(n)
	}
	if q == nil || len(q.requests) >= maxRequests {
		h.mu.Unlock()
		return
	}
	q.requests = append(q.requests, request)
	h.mu.Unlock()
	h.serve(n) // the kernel may have resolved it before it was watched, or before the request
}

// queueOf returns the queue of a neighbour, nil if nothing waits for it.
func (h *Hosts) queueOf(n neighbour) *queue {
	if i := slices.IndexFunc(h.queues, func(q *queue) bool { return q.neighbour == n }); i >= 0 {
		return h.queues[i]
	}
	return nil
}

// open opens a queue for a neighbour and has the kernel resolve it. It returns nil if
// there is no place.
func (h *Hosts) open(n neighbour) *queue {
	now := time.Now()
	if !h.makeRoom(n.index, now) || !h.watch() {
		return nil
	}
	q := &queue{neighbour: n, since: now}
	h.queues = append(h.queues, q)
	h.neighbours.Resolve(n.index, n.addr)
	return q
}

// watch has serve called for the neighbours that the kernel resolves, and expire for
// those that it does not, until closeIfIdle ends that.
func (h *Hosts) watch() bool {
	if h.unwatch != nil {
		return true
	}
	stop, err := h.neighbours.Watch(func(index int, a netip.Addr) { h.notice(neighbour{index, a}) })
	if err != nil {
		h.log.Debug("cannot wait for a neighbour", "err", err)
		return false
	}
	h.timer, h.unwatch = time.AfterFunc(waitAtMost, h.expire), stop
	return true
}

// notice serves a neighbour that the kernel has resolved, or if its address is zero any
// that it may have resolved.
func (h *Hosts) notice(n neighbour) {
	if n.addr.IsValid() {
		h.serve(n)
		return
	}
	h.mu.Lock()
	queues := slices.Clone(h.queues)
	h.mu.Unlock()
	for _, q := range queues {
		h.serve(q.neighbour)
	}
}

// makeRoom makes room for one more neighbour, if the oldest has waited long enough: if
// the LAN has all the places that it may have, the oldest there; if all places are taken,
// that of the LAN that has most.
func (h *Hosts) makeRoom(index int, now time.Time) bool {
	perLAN := make(map[int]int)
	for _, q := range h.queues {
		perLAN[q.index]++
	}
	switch {
	case perLAN[index] >= maxWaiting:
	case len(h.queues) < h.maxWaiting:
		return true
	default:
		for other, n := range perLAN {
			if n > perLAN[index] {
				index = other
			}
		}
	}
	i := slices.IndexFunc(h.queues, func(q *queue) bool { return q.index == index && !q.isServed })
	if i < 0 || now.Sub(h.queues[i].since) < waitAtLeast {
		return false
	}
	h.giveUp(i)
	return true
}

// giveUp drops the i-th queue and the neighbour.
func (h *Hosts) giveUp(i int) {
	n := h.queues[i].neighbour
	h.queues = slices.Delete(h.queues, i, i+1)
	h.neighbours.Forget(n.index, n.addr)
}

// serve calls the requests that wait for a neighbour, if it is known now.
func (h *Hosts) serve(n neighbour) {
	if !h.isAwaited(n) {
		return
	}
	host, known := h.lookup(n)
	if !known {
		return
	}
	for request := h.first(n); request != nil; request = h.next(n) {
		request(host)
	}
}

// isAwaited reports whether requests wait for a neighbour.
func (h *Hosts) isAwaited(n neighbour) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.queueOf(n) != nil
}

// first removes the first request that waits for a neighbour and returns it; nil if none
// waits, or the neighbour is being served.
func (h *Hosts) first(n neighbour) func(Host) {
	h.mu.Lock()
	defer h.mu.Unlock()
	q := h.queueOf(n)
	if q == nil || q.isServed {
		return nil
	}
	q.isServed = true
	return h.pop(q)
}

// next removes the next request and returns it; nil if none is left.
func (h *Hosts) next(n neighbour) func(Host) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.pop(h.queueOf(n))
}

// pop removes the first request of a queue and returns it, or removes the queue if it has
// none.
func (h *Hosts) pop(q *queue) func(Host) {
	if len(q.requests) == 0 {
		h.queues = slices.DeleteFunc(h.queues, func(o *queue) bool { return o == q })
		h.closeIfIdle()
		return nil
	}
	request := q.requests[0]
	q.requests = q.requests[1:]
	return request
}

// expire gives up the neighbours that the kernel has not resolved in time.
func (h *Hosts) expire() {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	for i := len(h.queues) - 1; i >= 0; i-- {
		if q := h.queues[i]; !q.isServed && now.Sub(q.since) >= waitAtMost {
			h.giveUp(i)
		}
	}
	if len(h.queues) > 0 {
		h.timer.Reset(max(waitAtLeast, waitAtMost-now.Sub(h.queues[0].since))) // the first may be being served
	}
	h.closeIfIdle()
}

// closeIfIdle ends what watch began when nothing waits.
func (h *Hosts) closeIfIdle() {
	if len(h.queues) == 0 && h.unwatch != nil {
		h.timer.Stop()
		h.unwatch()
		h.unwatch = nil
	}
}
