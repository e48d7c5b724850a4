package ssdpd

import (
	"net/netip"
	"sync"
	"time"
)

// Bounds of answers, so that the gateway is no amplifier for whoever forges a
// source. An answer to a search for one thing is about five times as long as
// the search, one to a search for everything fifty times.
const (
	perSource  = 16  // single answers each second
	perSecond  = 512 // messages to all sources
	maxSources = 512 // that are remembered
	window     = time.Second
)

// rateLimiter says who gets an answer. It remembers only the last second.
type rateLimiter struct {
	mu      sync.Mutex // guards the rest
	sources map[netip.Addr]source
	all     time.Time // until when the messages to all last
}

// source is what one address has got.
type source struct {
	single time.Time // until when its single answers last
	set    time.Time // until when its set of answers lasts
}

// admit reports whether a source gets that many answers now, and counts them. Its
// own share is looked at first: who has had it takes nothing from the others.
func (a *rateLimiter) admit(from netip.Addr, answers int, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	s, known := a.sources[from]
	if !known && !a.hasRoom(now) {
		return false
	}
	share, parts := &s.single, perSource
	if answers > 1 {
		share, parts = &s.set, 1
	}
	ok := spend(share, now, 1, parts) && spend(&a.all, now, answers, perSecond)
	a.sources[from] = s
	return ok
}

// spend prolongs the time that is paid for by n parts of a window; false if
// it would become longer than a window.
func spend(until *time.Time, now time.Time, n, parts int) bool {
	start := now
	if until.After(now) {
		start = *until
	}
	end := start.Add(window * time.Duration(n) / time.Duration(parts))
	if end.Sub(now) > window {
		return false
	}
	*until = end
	return true
}

// hasRoom reports whether one more source can be remembered.
func (a *rateLimiter) hasRoom(now time.Time) bool {
	if len(a.sources) < maxSources {
		return true
	}
	for from, s := range a.sources {
		if !s.single.After(now) && !s.set.After(now) {
			delete(a.sources, from)
		}
	}
	return len(a.sources) < maxSources
}
