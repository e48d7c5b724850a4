package main

import (
	"slices"
	"time"
)

// size is the number of rounds of each of two daemons with a number of mappings present.
// A quick run has one round at most.
type size struct {
	present       int
	first, second int
	isSlow        bool // the first daemon takes minutes to start: it has no round in a quick run
}

// With 5,000 mappings miniupnpd takes minutes to start, with 10,000 many more.
var startSizes = []size{
	{present: 0, first: 3, second: 3},
	{present: 1000, first: 3, second: 3},
	{present: 5000, first: 1, second: 2, isSlow: true},
	{present: 10000, second: 2},
}

// A daemon that does not look at the firewall starts nothing, whatever is present.
var processSizes = []size{
	{present: 0, first: 1, second: 1},
	{present: 1000, second: 1},
	{present: 5000, second: 1},
}

// alike are sizes with the same number of rounds.
func alike(times int, present ...int) (all []size) {
	for _, n := range present {
		all = append(all, size{present: n, first: times, second: times})
	}
	return all
}

// group is a number of rows that are measured one after another in each round.
type group struct {
	name     string        // for --only
	daemons  []daemon      // one or two to compare
	rules    string        // the firewall before the daemon starts; "": the usual rules
	isBare   bool          // no daemon is started for the rows
	isExtra  bool          // measured only when asked for
	patience time.Duration // after which no round is repeated
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
	rounds := 3
	if quick {
		rounds = 1
	}
	for i := range rounds {
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
	for at, d := range g.daemons {
		isSecond := at == len(g.daemons)-1
		if isSecond && i < s.second || !isSecond && i < s.first && !(quick && s.isSlow) {
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
