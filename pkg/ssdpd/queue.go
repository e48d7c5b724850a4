package ssdpd

import (
	"net/netip"
	"sync"
	"time"

	"igdd/pkg/lansock"
	"igdd/pkg/ssdp"
)

// delay is the time between a search and the first response, and between responses.
// Programs that send from one socket and listen on another open the second up to a
// millisecond later and miss what arrives before, and a burst of messages overruns a
// small receive buffer.
const delay = 2 * time.Millisecond

// maxWaiting limits the waiting searches to those that can be answered within a
// second. Further ones are dropped, as by a network under load.
const maxWaiting = perSecond

// reply is the outstanding part of the response to a search.
type reply struct {
	socket      *lansock.Socket
	from        netip.Addr // the router's address
	to          netip.AddrPort
	description *ssdp.Description
	items       []ssdp.Item // one message each, at least one
	due         time.Time   // of the first message
}

// queue holds the replies in the order in which they are due. All have
// the same delay, so this is the order of their arrival.
type queue struct {
	mu      sync.Mutex // guards the rest
	replies []reply
}

// put appends the reply to a search that has just arrived, if there is room. It reports
// whether the queue was empty before.
func (q *queue) put(r reply, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.replies) >= maxWaiting {
		return false
	}
	r.due = now.Add(delay)
	q.replies = append(q.replies, r)
	return len(q.replies) == 1
}

// take removes and returns the first message that is due now, the first of the items.
// The rest of that reply goes to the end of the queue.
func (q *queue) take(now time.Time) (reply, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.replies) == 0 || q.replies[0].due.After(now) {
		return reply{}, false
	}
	r := q.replies[0]
	q.replies = q.replies[1:]
	switch rest := r; {
	case len(r.items) > 1:
		rest.items, rest.due = r.items[1:], now.Add(delay)
		q.replies = append(q.replies, rest)
	case len(q.replies) == 0:
		q.replies = nil // releases the memory of a burst
	}
	return r, true
}

// due returns when the next message is due; the zero Time if there is none.
func (q *queue) due() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.replies) == 0 {
		return time.Time{}
	}
	return q.replies[0].due
}
