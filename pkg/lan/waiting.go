package lan

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Requests from addresses that the kernel has not resolved wait until it has: the
// reply would wait in the socket's send buffer, of which invented addresses would
// leave nothing for others. The kernel's table has room for gc_thresh3 neighbours of
// the whole machine, of which an eighth may be waited for at a time.
const (
	maxWaiting       = 64 // of one LAN
	tableShare       = 8
	defaultTableSize = 1024 // gc_thresh3 (arp(7))
)

// A request waits at most as long as the kernel asks, three times within three seconds,
// and when others need its place at least as long as a host takes to answer.
const (
	waitAtMost  = 3 * time.Second
	waitAtLeast = 20 * time.Millisecond
	pollPause   = 4 * time.Millisecond
)

// waiter is a request whose sender is being resolved.
type waiter struct {
	neighbour
	since   time.Time
	deliver func(Host)
}

// maxWaitingInAll returns how many requests of all LANs together may wait.
func maxWaitingInAll() int {
	size := defaultTableSize
	if text, err := os.ReadFile("/proc/sys/net/ipv4/neigh/default/gc_thresh3"); err == nil {
		size, _ = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	return max(1, size/tableShare)
}

// await calls deliver when the kernel has resolved a neighbour. If it cannot, or too
// many wait, deliver is never called. It does not wait itself.
func (h *Hosts) await(n neighbour, deliver func(Host)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := &waiter{n, time.Now(), deliver}
	if !h.makeRoom(w) {
		return
	}
	if !h.isAwaited(n) {
		h.neighbours.Resolve(n.index, n.addr)
	}
	h.waiting = append(h.waiting, w)
	if !h.isServing {
		h.isServing = true
		go h.serveWaiting()
	}
}

// isAwaited reports whether requests of a neighbour wait.
func (h *Hosts) isAwaited(n neighbour) bool {
	return slices.ContainsFunc(h.waiting, func(w *waiter) bool { return w.neighbour == n })
}

// makeRoom makes room for one more request. If the LAN has all the places that it
// may have, one of its own gives way; if all places are taken, one of the LAN that
// has most.
func (h *Hosts) makeRoom(w *waiter) bool {
	perLAN := make(map[int]int)
	for _, o := range h.waiting {
		perLAN[o.index]++
	}
	from := w.index
	switch {
	case perLAN[from] >= maxWaiting:
	case len(h.waiting) < h.maxWaiting:
		return true
	default:
		for index, n := range perLAN {
			if n > perLAN[from] {
				from = index
			}
		}
	}
	i := h.victim(from, w)
	if i >= 0 {
		h.giveUp(i)
	}
	return i >= 0
}

// victim returns the index of the request of a LAN that gives way to w, -1 if none
// does: of those that have waited long enough the oldest of the address that has
// most.
func (h *Hosts) victim(lan int, w *waiter) int {
	counts := make(map[neighbour]int)
	for _, o := range h.waiting {
		counts[o.neighbour]++
	}
	victim, most := -1, counts[w.neighbour]
	for i, o := range h.waiting {
		if n := counts[o.neighbour]; o.index == lan && n > most && w.since.Sub(o.since) >= waitAtLeast {
			victim, most = i, n
		}
	}
	return victim
}

// giveUp drops the i-th request, and the neighbour that nobody waits for any more.
func (h *Hosts) giveUp(i int) {
	n := h.waiting[i].neighbour
	h.waiting = slices.Delete(h.waiting, i, i+1)
	if !h.isAwaited(n) {
		h.neighbours.Forget(n.index, n.addr)
	}
}

// serveWaiting delivers the requests whose senders are resolved, and drops those
// that have waited too long, until none is left.
func (h *Hosts) serveWaiting() {
	for {
		awaited := h.awaited()
		if len(awaited) == 0 {
			return
		}
		for _, n := range awaited {
			if host, known := h.lookup(n); known {
				h.deliver(n, host)
			}
		}
		h.dropOld(time.Now())
		time.Sleep(pollPause)
	}
}

// awaited returns the neighbours whose requests wait, each once. If there are none,
// serveWaiting ends.
func (h *Hosts) awaited() (list []neighbour) {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := make(map[neighbour]bool)
	for _, w := range h.waiting {
		if !seen[w.neighbour] {
			seen[w.neighbour] = true
			list = append(list, w.neighbour)
		}
	}
	h.isServing = len(list) > 0
	return list
}

// deliver delivers the requests of a neighbour, also those that arrive meanwhile.
func (h *Hosts) deliver(n neighbour, host Host) {
	for w := h.first(n); w != nil; w = h.first(n) {
		w.deliver(host)
		h.remove(w)
	}
}

// first returns the oldest request of a neighbour, nil if there is none.
func (h *Hosts) first(n neighbour) *waiter {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.IndexFunc(h.waiting, func(w *waiter) bool { return w.neighbour == n }); i >= 0 {
		return h.waiting[i]
	}
	return nil
}

// remove removes a request that has been delivered.
func (h *Hosts) remove(w *waiter) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting = slices.DeleteFunc(h.waiting, func(o *waiter) bool { return o == w })
}

// dropOld drops the requests that have waited too long.
func (h *Hosts) dropOld(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := len(h.waiting) - 1; i >= 0; i-- {
		if now.Sub(h.waiting[i].since) >= waitAtMost {
			h.giveUp(i)
		}
	}
}
