package xtables

import (
	"slices"
	"strings"
)

// matchConntrack returns the set of a condition of the modules conntrack and
// state.
func (p *Packet) matchConntrack(c Condition) matchSet {
	switch {
	case p.table == "raw": // conntrack has not seen the packet
		return perhaps
	case c.Option == "--ctstate", c.Option == "--state":
		return p.matchState(strings.Split(c.Value, ","))
	case len(p.untracked.may) > 0: // the module matches or does not, whatever is negated
		return perhaps
	}
	switch c.Option {
	case "--ctdir":
		return matchIf(c.Value == "ORIGINAL")
	case "--ctproto":
		return matchProtocol(c.Value)
	case "--ctorigsrc":
		return p.matchSource(c.Value)
	case "--ctorigdst":
		return matchNetwork(c.Value, p.Original)
	case "--ctorigsrcport":
		return matchPort(c.Value, p.SourcePort)
	case "--ctorigdstport":
		return matchPort(c.Value, p.originalPort)
	}
	return perhaps
}

// matchState returns the set of "--ctstate NEW,DNAT".
func (p *Packet) matchState(states []string) matchSet {
	m := matchIf(slices.Contains(states, "NEW"))
	if slices.Contains(states, "DNAT") {
		m = m.or(p.translated).or(matchIf(p.Translated))
	}
	m = m.and(p.untracked.not())
	if slices.Contains(states, "UNTRACKED") {
		m = m.or(p.untracked)
	}
	return m
}
