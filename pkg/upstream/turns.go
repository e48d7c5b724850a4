package upstream

import (
	"container/heap"
	"net/netip"
)

// turns has wants whose hosts take turns, so that one with many does not delay the others.
type turns struct {
	hosts map[netip.Addr]*timetable
	order []netip.Addr // the keys of hosts, the next first
}

// add has w wait for its host's turn.
func (t *turns) add(w *want) {
	waiting := t.hosts[w.host]
	if waiting == nil {
		if t.hosts == nil {
			t.hosts = make(map[netip.Addr]*timetable)
		}
		waiting = new(timetable)
		t.hosts[w.host] = waiting
		t.order = append(t.order, w.host)
	}
	waiting.set(w)
}

// next removes and returns the first want of the host whose turn it is; nil if there is none.
func (t *turns) next() *want {
	if t.isEmpty() {
		return nil
	}
	host := t.order[0]
	t.order = append(t.order[1:], host)
	return heap.Pop(t.hosts[host]).(*want)
}

// isEmpty reports whether nothing waits. It forgets the hosts before the next one that
// waits: what they waited for was withdrawn, or it was their last.
func (t *turns) isEmpty() bool {
	for len(t.order) > 0 && len(*t.hosts[t.order[0]]) == 0 {
		delete(t.hosts, t.order[0])
		t.order = t.order[1:]
	}
	return len(t.order) == 0
}
