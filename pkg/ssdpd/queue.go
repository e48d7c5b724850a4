package ssdpd

import (
	"net/netip"
	"sync"
	"time"

	"igdd/pkg/lansock"
	"igdd/pkg/ssdp"
)

// delay passes before each message to a searcher: after its search, and after
// the message before. Programs that send from one socket and listen on another
// open the second up to a millisecond later and lose what comes sooner, and a
// burst of messages overruns a small receive buffer.
const delay = 2 * time.Millisecond

// maxWaiting bounds the searches that wait for messages: as many as get any
// within a second. Further ones are dropped, as by a network under load.
const maxWaiting = perSecond

// reply is what a search has yet to be answered.
type reply struct {
	socket *lansock.Socket
	from   netip.Addr // own address
	to     netip.AddrPort
	face   *ssdp.Description
	items  []ssdp.Item // a message each, at least one
	due    time.Time   // of the first message
}

// queue holds the replies in the order in which they are due. As all wait for
// the same time, that is the order in which they come.
type queue struct {
	mu      sync.Mutex // guards the rest
	replies []reply
}

// put appends a reply to what was heard now, if there is room. It reports
// whether it is the only one, for which nobody waits yet.
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

// take removes the first message that is due now; the first of the items is
// meant. The others of that reply go to the end.
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
		q.replies = nil // gives the memory of a burst back
	}
	return r, true
}

// due returns when the next message is; the zero Time if there is none.
func (q *queue) due() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.replies) == 0 {
		return time.Time{}
	}
	return q.replies[0].due
}
