package portmap

import (
	"container/heap"
	"time"
)

// deadlines orders the mappings of which a claim expires. It is a heap.Interface, the
// earliest first.
type deadlines struct {
	queue     []*Mapping
	positions map[uint64]int32 // in the queue, by Serial
}

func newDeadlines() deadlines { return deadlines{positions: make(map[uint64]int32)} }

// apply updates the deadline of the mapping that c changes.
func (d *deadlines) apply(c Change) {
	if c.Before != nil && (c.After == nil || c.After.Serial != c.Before.Serial) {
		d.remove(c.Before.Serial)
	}
	if c.After != nil {
		d.set(c.After)
	}
}

// set adds m, in the place of its earlier version.
func (d *deadlines) set(m *Mapping) {
	i, known := d.positions[m.Serial]
	switch {
	case m.firstExpiry().IsZero():
		d.remove(m.Serial)
	case known:
		d.queue[i] = m
		heap.Fix(d, int(i))
	default:
		heap.Push(d, m)
	}
}

// remove removes a mapping, if it is there.
func (d *deadlines) remove(serial uint64) {
	if i, known := d.positions[serial]; known {
		heap.Remove(d, int(i))
	}
}

// next returns when the next claim expires; zero means never.
func (d *deadlines) next() time.Time {
	if len(d.queue) == 0 {
		return time.Time{}
	}
	return d.queue[0].firstExpiry()
}

// due returns a mapping with a claim that has expired at now, or nil.
func (d *deadlines) due(now time.Time) *Mapping {
	if at := d.next(); at.IsZero() || at.After(now) {
		return nil
	}
	return d.queue[0]
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

// Len implements heap.Interface.
func (d *deadlines) Len() int { return len(d.queue) }

// Less implements heap.Interface.
func (d *deadlines) Less(i, j int) bool {
	return d.queue[i].firstExpiry().Before(d.queue[j].firstExpiry())
}

// Swap implements heap.Interface.
func (d *deadlines) Swap(i, j int) {
	d.queue[i], d.queue[j] = d.queue[j], d.queue[i]
	d.positions[d.queue[i].Serial], d.positions[d.queue[j].Serial] = int32(i), int32(j)
}

// Push implements heap.Interface.
func (d *deadlines) Push(e any) {
	m := e.(*Mapping)
	d.positions[m.Serial] = int32(len(d.queue))
	d.queue = append(d.queue, m)
}

// Pop implements heap.Interface.
func (d *deadlines) Pop() any {
	last := d.queue[len(d.queue)-1]
	d.queue[len(d.queue)-1] = nil
	d.queue = d.queue[:len(d.queue)-1]
	delete(d.positions, last.Serial)
	return last
}
