package ssdpd

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"igdd/pkg/ssdp"
)

// asked returns what is to be answered to a client that searches for some
// things.
func asked(client string, things ...string) reply {
	r := reply{to: netip.MustParseAddrPort(client)}
	for _, thing := range things {
		r.items = append(r.items, ssdp.Item{Type: thing})
	}
	return r
}

// sent takes all that is due and returns to whom it goes and what it is.
func sent(q *replyQueue, now time.Time) (list []string) {
	for {
		r, ok := q.take(now)
		if !ok {
			return list
		}
		list = append(list, r.to.String()+" "+r.items[0].Type)
	}
}

// TestReplyIsDelayed takes the first message no sooner than is allowed, and
// those that follow at the same pace.
func TestReplyIsDelayed(t *testing.T) {
	var q replyQueue
	heard := time.Now()
	if !q.put(asked("192.168.50.10:4000", "a", "b"), heard) {
		t.Error("the first reply is not seen as such")
	}
	if q.put(asked("192.168.50.11:1900", "c"), heard.Add(replyInterval/2)) {
		t.Error("the second reply is taken for the first")
	}
	tests := []struct {
		at   time.Duration
		want []string
		next time.Duration
	}{
		{0, nil, replyInterval},
		{replyInterval - 1, nil, replyInterval},
		{replyInterval, []string{"192.168.50.10:4000 a"}, replyInterval * 3 / 2},
		{replyInterval*3/2 - 1, nil, replyInterval * 3 / 2},
		{replyInterval * 7 / 4, []string{"192.168.50.11:1900 c"}, 2 * replyInterval},
		{3 * replyInterval, []string{"192.168.50.10:4000 b"}, 0},
		{time.Hour, nil, 0},
	}
	for _, tt := range tests {
		if got := sent(&q, heard.Add(tt.at)); !slices.Equal(got, tt.want) {
			t.Errorf("after %v: got %q, want %q", tt.at, got, tt.want)
		}
		if next := q.due(); next.IsZero() != (tt.next == 0) || tt.next > 0 && next != heard.Add(tt.next) {
			t.Errorf("after %v: the next is due after %v, want %v", tt.at, next.Sub(heard), tt.next)
		}
	}
	if q.replies != nil {
		t.Error("an empty queue keeps memory")
	}
}

// TestLateReplies has the program sleep while replies are due: each search gets
// one message, and the pace between those to one search stays.
func TestLateReplies(t *testing.T) {
	var q replyQueue
	heard := time.Now()
	q.put(asked("192.168.50.10:4000", "a", "b"), heard)
	q.put(asked("192.168.50.11:4000", "c", "d"), heard)
	late := heard.Add(time.Second)
	if got, want := sent(&q, late), []string{"192.168.50.10:4000 a", "192.168.50.11:4000 c"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := sent(&q, late.Add(replyInterval-1)); got != nil {
		t.Errorf("too soon after the first: %q", got)
	}
	if got, want := sent(&q, late.Add(replyInterval)), []string{"192.168.50.10:4000 b", "192.168.50.11:4000 d"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestQueueIsBounded has more searches than places: those that found one are
// answered to their end, and then there is room again.
func TestQueueIsBounded(t *testing.T) {
	var q replyQueue
	now := time.Now()
	for range 3 * maxReplies {
		q.put(asked("192.168.50.10:4000", "a", "b"), now)
	}
	for _, thing := range []string{"a", "b"} {
		now = now.Add(replyInterval)
		got := sent(&q, now)
		if len(got) != maxReplies || got[0] != "192.168.50.10:4000 "+thing {
			t.Fatalf("%d messages, the first is %q", len(got), got[:1])
		}
		if thing == "a" {
			q.put(asked("192.168.50.11:4000", "c"), now)
		}
	}
	q.put(asked("192.168.50.12:4000", "d"), now)
	if got, want := sent(&q, now.Add(replyInterval)), []string{"192.168.50.12:4000 d"}; !slices.Equal(got, want) {
		t.Errorf("after the flood: got %q, want %q", got, want)
	}
}
