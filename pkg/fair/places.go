package fair

import "slices"

// Held is the rank of an item that never gives up its place.
const Held = -1

// Places are a limited number of places that hosts take for items. A host that has all
// the places that it may have gives one up for each that it takes; when all places are
// taken, the host that has most gives one up. Callers serialize the calls.
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
// any, is returned as lost. Take reports false if there is no place: all items that
// could go are held, or no other host has more places.
func (p *Places[H, T]) Take(host H, item T) (lost T, hasLost, ok bool) {
	own := p.Count(host)
	if own >= p.PerHost || len(p.taken) >= p.Total {
		i := p.victim(func(h H, n int) bool {
			if own >= p.PerHost {
				return h == host
			}
			return n > own
		})
		if i < 0 {
			return lost, false, false
		}
		lost, hasLost = p.taken[i].item, true
		p.taken = slices.Delete(p.taken, i, i+1)
	}
	p.taken = append(p.taken, place[H, T]{host, item})
	return lost, hasLost, true
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

// victim returns the index of the place to give up, or -1: of the hosts that may lose
// one, by their number of places, and have an item that is not held, the one that has
// most, and of its items the one with the lowest rank.
func (p *Places[H, T]) victim(mayLose func(host H, n int) bool) int {
	counts := make(map[H]int)
	for _, o := range p.taken {
		counts[o.host]++
	}
	victim, most, lowest := -1, 0, 0
	for i, o := range p.taken {
		n, rank := counts[o.host], p.rank(o.item)
		isBetter := n > most || victim >= 0 && o.host == p.taken[victim].host && rank < lowest
		if rank != Held && isBetter && mayLose(o.host, n) {
			victim, most, lowest = i, n, rank
		}
	}
	return victim
}

// rank returns the rank of an item.
func (p *Places[H, T]) rank(item T) int {
	if p.Rank == nil {
		return 0
	}
	return p.Rank(item)
}
