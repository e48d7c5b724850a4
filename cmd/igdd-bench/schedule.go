package main

import (
	"slices"
	"time"
)

// size is the number of rounds of the two daemons with a number of mappings present.
type size struct {
	present     int
	full, quick rounds
}

type rounds struct{ first, second int }

// With 5,000 mappings miniupnpd takes minutes to start, with 10,000 many more.
var startSizes = []size{
	{0, rounds{3, 3}, rounds{2, 2}},
	{1000, rounds{3, 3}, rounds{1, 1}},
	{5000, rounds{1, 2}, rounds{0, 1}},
	{10000, rounds{0, 2}, rounds{0, 1}},
}

// A daemon that does not look at the firewall starts nothing, whatever is present.
var processSizes = []size{
	{0, rounds{1, 1}, rounds{1, 1}},
	{1000, rounds{0, 1}, rounds{0, 1}},
	{5000, rounds{0, 1}, rounds{0, 1}},
}

// alike are sizes with the same numbers of rounds.
func alike(full, quick int, present ...int) (all []size) {
	for _, n := range present {
		all = append(all, size{n, rounds{full, full}, rounds{quick, quick}})
	}
	return all
}

// group is a number of rows that are measured one after another in each round.
type group struct {
	name     string        // for --only
	daemons  []daemon      // one or two to compare
	rules    string        // the firewall before the daemon starts
	isBare   bool          // no daemon is started for the rows
	patience time.Duration // after which no round is repeated; in a quick run, a tenth of it
	sizes    []size
	rows     []row
	end      func() // or nil
}

// step is one round of each daemon.
type step struct {
	present, round int
	daemons        []daemon // in turn
}

// schedule returns the steps of a group. The daemons alternate, and so does which one is
// first.
func (g group) schedule(quick bool) (all []step) {
	for i := range 3 {
		for _, s := range g.sizes {
			if next := g.turn(s, i, quick); len(next) > 0 && len(g.rowsWith(s.present)) > 0 {
				all = append(all, step{s.present, i, next})
			}
		}
	}
	return all
}

// turn returns the daemons that have an i-th round.
func (g group) turn(s size, i int, quick bool) (next []daemon) {
	n := s.full
	if quick {
		n = s.quick
	}
	for at, d := range g.daemons {
		isSecond := at == len(g.daemons)-1
		if isSecond && i < n.second || !isSecond && i < n.first {
			next = append(next, d)
		}
	}
	if i%2 == 1 {
		slices.Reverse(next)
	}
	return next
}

// rowsWith returns the rows that a round with a number of mappings measures.
func (g group) rowsWith(present int) (chosen []row) {
	for _, r := range g.rows {
		if r.measure != nil && slices.Contains(r.present, present) {
			chosen = append(chosen, r)
		}
	}
	return chosen
}
