package upstream

import (
	"time"

	"igdd/pkg/portmap"
)

// A port is set aside for setAside when the router in front has fallen silent maxSilences
// times after it was asked for it.
const (
	maxSilences = 2
	setAside    = 24 * time.Hour
)

var errFallsSilent = &routerError{cause: silent, reason: "the router in front falls silent when asked for this port"}

// suspects are the ports of mappings after whose request the router in front did not
// answer: miniupnpd 2.3.1 hangs if it is asked by NAT-PMP for a port that its rules deny.
// They are asked for alone, so that the one that is to blame is found.
type suspects map[portmap.Key]suspicion

// suspicion is what is held against a port.
type suspicion struct {
	silences int       // requests in a row after which the router did not answer a check either
	unproven bool      // the last request was not answered, and the next check is to show more
	until    time.Time // when the port may be asked for
}

// asked takes over whether a request was answered.
func (s suspects) asked(k portmap.Key, answered bool) {
	if answered {
		delete(s, k)
		return
	}
	known := s[k]
	known.unproven = true
	s[k] = known
}

// judge takes over whether a check was answered after the requests that were not.
func (s suspects) judge(answered bool, now time.Time) {
	for k, known := range s {
		switch {
		case !known.unproven:
			continue
		case answered:
			delete(s, k)
			continue
		}
		known.unproven = false
		if known.silences++; known.silences >= maxSilences {
			known.until = now.Add(setAside)
		}
		s[k] = known
	}
}

// enqueue queues the request for w that is due, unless its port is set aside.
func (e *engine) enqueue(w *want, now time.Time) {
	known := e.suspects[w.key]
	if w.givesBack() || !now.Before(known.until) {
		w.alone = !w.givesBack() && known.silences > 0
		e.queue.add(w)
		return
	}
	w.due = known.until
	e.timetable.set(w)
	e.tellUnreachable(w, errFallsSilent)
}
