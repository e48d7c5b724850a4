package portmap

import (
	"container/heap"
	"time"
)

// deadlines orders mappings by the time when their first claim expires.
type deadlines struct {
	queue deadlineHeap
	byKey map[Key]*deadline
}

// deadline is the time when the first claim on a mapping expires.
type deadline struct {
	at      time.Time
	mapping *Mapping
	index   int // in the queue
}

func newDeadlines() deadlines { return deadlines{byKey: make(map[Key]*deadline)} }

// apply updates the deadline of the mapping that c changes.
func (d *deadlines) apply(c Change) {
	if c.Before != nil && (c.After == nil || c.After.Key != c.Before.Key) {
		d.set(c.Before.Key, nil, time.Time{})
	}
	if c.After != nil {
		d.set(c.After.Key, c.After, c.After.firstExpiry())
	}
}

// set sets when the first claim on m, the mapping of k, expires; zero means
// never.
func (d *deadlines) set(k Key, m *Mapping, at time.Time) {
	e := d.byKey[k]
	switch {
	case e == nil && at.IsZero():
	case e == nil:
		e = &deadline{at: at, mapping: m}
		d.byKey[k] = e
		heap.Push(&d.queue, e)
	case at.IsZero():
		delete(d.byKey, k)
		heap.Remove(&d.queue, e.index)
	default:
		e.at, e.mapping = at, m
		heap.Fix(&d.queue, e.index)
	}
}

// next returns when the next claim expires; zero means never.
func (d *deadlines) next() time.Time {
	if len(d.queue) == 0 {
		return time.Time{}
	}
	return d.queue[0].at
}

// due returns a mapping with a claim that has expired at now, or nil.
func (d *deadlines) due(now time.Time) *Mapping {
	if at := d.next(); at.IsZero() || at.After(now) {
		return nil
	}
	return d.queue[0].mapping
}

// firstExpiry returns when the first claim on m expires; zero means never.
func (m *Mapping) firstExpiry() time.Time {
	var first time.Time
	for i := range m.Claims {
		first = earlier(first, m.Claims[i].Expires)
	}
	return first
}

// earlier returns the earlier of two deadlines, where zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// deadlineHeap is a heap.Interface, the earliest deadline first.
type deadlineHeap []*deadline

func (h deadlineHeap) Len() int           { return len(h) }
func (h deadlineHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }

func (h deadlineHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *deadlineHeap) Push(e any) {
	d := e.(*deadline)
	d.index = len(*h)
	*h = append(*h, d)
}

// Pop implements heap.Interface.
func (h *deadlineHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return last
}
