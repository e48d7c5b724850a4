package upstream

import "time"

// follows reports whether a router that said p before, and says e now, has kept its
// forwardings between (RFC 6887, section 8.5; what RFC 6886, section 3.6, allows is less). The
// router read its clock between a request and its answer, so that at least the time from the
// one answer to the other request has gone by, and at most that from request to answer.
func (e epoch) follows(p epoch) bool {
	if p.at.IsZero() || e.at.IsZero() {
		return true
	}
	least, most := e.sent.Sub(p.at).Seconds(), e.at.Sub(p.sent).Seconds()
	server := float64(e.seconds) - float64(p.seconds)
	if server+1 < min(least, 0) {
		return false
	}
	return most+2 >= server-server/16 && server+2 >= least-least/16
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
