package main

import (
	"slices"
	"time"
)

// size is the number of rounds of each daemon with a number of mappings present.
type size struct {
	present     int
	full, quick rounds
}

type rounds struct{ theirs, ours int }

// With 5,000 mappings miniupnpd takes minutes, with 10,000 many more.
var sizes = []size{
	{0, rounds{3, 3}, rounds{2, 2}},
	{1000, rounds{3, 3}, rounds{1, 1}},
	{5000, rounds{1, 2}, rounds{0, 1}},
	{10000, rounds{0, 2}, rounds{0, 1}},
}

// budget limits the time of a run: after it, nothing is measured a second time. On an
// idle machine it suffices.
func (b *bench) budget() time.Duration {
	if b.quick {
		return 2 * time.Minute
	}
	return 20 * time.Minute
}

// step is one round of each daemon.
type step struct {
	present  int
	repeated bool
	daemons  []daemon // in turn
}

// schedule returns the steps of a run. The daemons alternate, and so does which one is
// first.
func (b *bench) schedule() (all []step) {
	for i := range 3 {
		for _, s := range sizes {
			if next := b.turn(s, i); len(next) > 0 && len(b.rows(s.present)) > 0 {
				all = append(all, step{s.present, i > 0, next})
			}
		}
	}
	return all
}

// turn returns the daemons that have an i-th round.
func (b *bench) turn(s size, i int) (next []daemon) {
	n := s.full
	if b.quick {
		n = s.quick
	}
	for _, d := range b.daemons {
		if d.ours && i < n.ours || !d.ours && i < n.theirs {
			next = append(next, d)
		}
	}
	if i%2 == 1 {
		slices.Reverse(next)
	}
	return next
}
