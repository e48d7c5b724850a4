package fair

import "slices"

// Held is the rank of an item that never gives up its place.
const Held = -1

// Places are a limited number of places that hosts take for items. When all are taken,
// the host that has most gives one up. Callers serialize the calls.
type Places[H comparable, T comparable] struct {
	PerHost int // places that one host may take
	Total   int
	// Rank returns how long an item keeps its place: of a host's items the one with
	// the lowest rank goes first, and Held ones never. nil: the oldest goes first.
	Rank func(T) int

	taken []place[H, T] // the oldest first
}

type place[H comparable, T comparable] struct {
	host H
	item T
}

// Take takes a place for an item of a host. The item that loses its place for it, if
// any, is returned as lost. Take reports false if there is no place: the host has all
// that it may have, or no other host has more and an item that is not held.
func (p *Places[H, T]) Take(host H, item T) (lost T, hasLost, ok bool) {
	own := p.Count(host)
	if own >= p.PerHost {
		return lost, false, false
	}
	if len(p.taken) >= p.Total {
		if lost, hasLost = p.weakest(func(_ H, n int) bool { return n > own }); !hasLost {
			return lost, false, false
		}
		p.Release(lost)
	}
	p.taken = append(p.taken, place[H, T]{host, item})
	return lost, hasLost, true
}

// Weakest returns the item that a host gives up first; false if it has none, or all are
// held.
func (p *Places[H, T]) Weakest(host H) (item T, ok bool) {
	return p.weakest(func(h H, _ int) bool { return h == host })
}

// Release gives up the place of an item, if it has one.
func (p *Places[H, T]) Release(item T) {
	p.taken = slices.DeleteFunc(p.taken, func(o place[H, T]) bool { return o.item == item })
}

// Count returns the number of places that a host has taken.
func (p *Places[H, T]) Count(host H) (n int) {
	for _, o := range p.taken {
		if o.host == host {
			n++
		}
	}
	return n
}

// Items returns all items that have places, the oldest first.
func (p *Places[H, T]) Items() []T {
	list := make([]T, len(p.taken))
	for i, o := range p.taken {
		list[i] = o.item
	}
	return list
}

// weakest returns the item to give up: of the hosts that may lose one, by their number
// of places, and have an item that is not held, that of the host that has most with the
// lowest rank.
func (p *Places[H, T]) weakest(mayLose func(host H, n int) bool) (item T, found bool) {
	counts := make(map[H]int)
	for _, o := range p.taken {
		counts[o.host]++
	}
	var from H
	most, lowest := 0, 0
	for _, o := range p.taken {
		n, rank := counts[o.host], p.rank(o.item)
		isWeaker := n > most || o.host == from && rank < lowest
		if rank != Held && isWeaker && mayLose(o.host, n) {
			item, found, from, most, lowest = o.item, true, o.host, n, rank
		}
	}
	return item, found
}

// rank returns the rank of an item.
func (p *Places[H, T]) rank(item T) int {
	if p.Rank == nil {
		return 0
	}
	return p.Rank(item)
}
