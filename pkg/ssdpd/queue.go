package ssdpd

import (
	"net/netip"
	"sync"
	"time"

	"igdd/pkg/lan"
	"igdd/pkg/ssdp"
)

// replyInterval is the time between a search and the first response, and between
// responses. Programs that send from one socket and listen on another open the second up
// to a millisecond later and miss what arrives before, and a burst of messages overruns
// a small receive buffer.
const replyInterval = 2 * time.Millisecond

// Limits of the queued replies, of which more wait only while the processor is busy.
// Further searches are dropped, as by a network under load; one host does not use up the
// queue for others.
const (
	maxReplies        = 512
	maxRepliesPerHost = maxReplies / 2
)

// reply is the outstanding part of the response to a search.
type reply struct {
	host        lan.Host // the searcher
	socket      *lan.Socket
	from        netip.Addr // the router's address
	to          netip.AddrPort
	description *ssdp.Description
	items       []ssdp.Item // one message each, at least one
	due         time.Time   // of the first message
}

// replyQueue holds the replies in the order in which they are due. All have the same
// delay, so this is also the order of arrival.
type replyQueue struct {
	mu      sync.Mutex // guards the rest
	replies []reply
}

// put appends the reply to a search that has just arrived, if there is room. It reports
// whether the queue was empty before.
func (q *replyQueue) put(r reply, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.replies) >= maxReplies || q.count(r.host) >= maxRepliesPerHost {
		return false
	}
	r.due = now.Add(replyInterval)
	q.replies = append(q.replies, r)
	return len(q.replies) == 1
}

// count returns the number of replies to a host.
func (q *replyQueue) count(host lan.Host) (n int) {
	for _, r := range q.replies {
		if r.host == host {
			n++
		}
	}
	return n
}

// take returns the first reply if it is due now; its first item is the message to send.
// It moves the remaining items to the end of the queue.
func (q *replyQueue) take(now time.Time) (reply, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.replies) == 0 || q.replies[0].due.After(now) {
		return reply{}, false
	}
	r := q.replies[0]
	q.replies = q.replies[1:]
	switch remaining := r; {
	case len(r.items) > 1:
		remaining.items, remaining.due = r.items[1:], now.Add(replyInterval)
		q.replies = append(q.replies, remaining)
	case len(q.replies) == 0:
		q.replies = nil // releases the memory of a burst
	}
	return r, true
}

// due returns when the next message is due; the zero Time if there is none.
func (q *replyQueue) due() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.replies) == 0 {
		return time.Time{}
	}
	return q.replies[0].due
}
