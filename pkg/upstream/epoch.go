package upstream

import "time"

// follows reports whether a router that said p before, and says e now, has kept its
// forwardings between (RFC 6887, section 8.5; what RFC 6886, section 3.6, allows is less).
func (e epoch) follows(p epoch) bool {
	if p.at.IsZero() || e.at.IsZero() {
		return true
	}
	if uint64(e.seconds)+1 < uint64(p.seconds) {
		return false
	}
	client := e.at.Sub(p.at).Seconds()
	server := float64(e.seconds) - float64(p.seconds)
	return client+2 >= server-server/16 && server+2 >= client-client/16
}

// Asking for everything anew is paced, so that a router with a broken epoch or address is not
// asked all the time: a minute must be between the first two times, and up to an hour.
const (
	minPause = time.Minute
	maxPause = time.Hour
)

// pacer spaces what may happen at once only after a while without.
type pacer struct {
	next  time.Time // not before
	pause time.Duration
	due   bool
}

// take reports whether what is due may happen now, and spaces the next time.
func (p *pacer) take(now time.Time) bool {
	if !p.due || now.Before(p.next) {
		return false
	}
	if now.Sub(p.next) > p.pause {
		p.pause = 0
	}
	p.pause = min(max(2*p.pause, minPause), maxPause)
	p.next, p.due = now.Add(p.pause), false
	return true
}
