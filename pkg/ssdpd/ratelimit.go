package ssdpd

import (
	"net/netip"
	"sync"
	"time"
)

// Limits of responses, so that the gateway is no amplifier for forged searches. The
// response to a search for one target is about five times as long as the search, to a
// search for everything fifty times.
const (
	singlesPerSource = 16  // single responses per second
	perSecond        = 512 // messages to all sources
	maxSources       = 512 // tracked at a time
	window           = time.Second
)

// rateLimiter limits the responses to each source and to all. It tracks only the last
// second.
type rateLimiter struct {
	mu      sync.Mutex // guards the rest
	sources map[netip.Addr]source
	all     time.Time // until when the messages to all sources use up the limit
}

// source is the use of one source's limits.
type source struct {
	single time.Time // until when its single responses use up the limit
	set    time.Time // until when its set of responses uses up the limit
}

// admit reports whether that many answers may be sent to a source now, and counts them.
// The limit of the source is checked first, so that a source that exceeds it does not
// use up the limit of all.
func (l *rateLimiter) admit(from netip.Addr, answers int, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, tracked := l.sources[from]
	if !tracked && !l.hasRoom(now) {
		return false
	}
	until, parts := &s.single, singlesPerSource
	if answers > 1 {
		until, parts = &s.set, 1
	}
	ok := spend(until, now, 1, parts) && spend(&l.all, now, answers, perSecond)
	l.sources[from] = s
	return ok
}

// spend moves the end of the used time by n parts of a window; false if it would be
// more than a window ahead.
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

// hasRoom reports whether one more source can be tracked.
func (l *rateLimiter) hasRoom(now time.Time) bool {
	if len(l.sources) < maxSources {
		return true
	}
	for from, s := range l.sources {
		if !s.single.After(now) && !s.set.After(now) {
			delete(l.sources, from)
		}
	}
	return len(l.sources) < maxSources
}
