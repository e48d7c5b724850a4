package ssdpd

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"igdd/pkg/lan"
	"igdd/pkg/ssdp"
)

// replyTo returns the reply to a client's search that matches some targets.
func replyTo(client string, targets ...string) reply {
	r := reply{host: lan.Host(client), to: netip.MustParseAddrPort(client)}
	for _, target := range targets {
		r.items = append(r.items, ssdp.Item{Type: target})
	}
	return r
}

// takeDue takes all messages that are due and returns the client and target of each.
func takeDue(q *replyQueue, now time.Time) (list []string) {
	for {
		r, ok := q.take(now)
		if !ok {
			return list
		}
		list = append(list, r.to.String()+" "+r.items[0].Type)
	}
}

// TestReplyIsDelayed checks that the first message of a reply is due after
// replyInterval, and each further one after another replyInterval.
func TestReplyIsDelayed(t *testing.T) {
	var q replyQueue
	arrived := time.Now()
	if !q.put(replyTo("192.168.50.10:4000", "a", "b"), arrived) {
		t.Error("put does not report that the queue was empty")
	}
	if q.put(replyTo("192.168.50.11:1900", "c"), arrived.Add(replyInterval/2)) {
		t.Error("put reports that the queue was empty, for the second reply")
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
		if got := takeDue(&q, arrived.Add(tt.at)); !slices.Equal(got, tt.want) {
			t.Errorf("after %v: got %q, want %q", tt.at, got, tt.want)
		}
		if next := q.due(); next.IsZero() != (tt.next == 0) || tt.next > 0 && next != arrived.Add(tt.next) {
			t.Errorf("after %v: the next is due after %v, want %v", tt.at, next.Sub(arrived), tt.next)
		}
	}
	if q.replies != nil {
		t.Error("an empty queue keeps memory")
	}
}

// TestLateReplies takes replies a second late: each search gets one message at once, and
// the interval between the messages to one search stays.
func TestLateReplies(t *testing.T) {
	var q replyQueue
	arrived := time.Now()
	q.put(replyTo("192.168.50.10:4000", "a", "b"), arrived)
	q.put(replyTo("192.168.50.11:4000", "c", "d"), arrived)
	late := arrived.Add(time.Second)
	if got, want := takeDue(&q, late), []string{"192.168.50.10:4000 a", "192.168.50.11:4000 c"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := takeDue(&q, late.Add(replyInterval-1)); got != nil {
		t.Errorf("too soon after the first: %q", got)
	}
	if got, want := takeDue(&q, late.Add(replyInterval)), []string{"192.168.50.10:4000 b", "192.168.50.11:4000 d"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestQueueIsBounded queues more replies than there is room for: those that were
// accepted are sent completely, and then there is room again.
func TestQueueIsBounded(t *testing.T) {
	var q replyQueue
	now := time.Now()
	for range 3 * maxReplies {
		for _, client := range []string{"192.168.50.10:4000", "192.168.50.10:4001", "192.168.50.10:4002"} {
			q.put(replyTo(client, "a", "b"), now)
		}
	}
	for _, target := range []string{"a", "b"} {
		now = now.Add(replyInterval)
		got := takeDue(&q, now)
		if len(got) != maxReplies || got[0] != "192.168.50.10:4000 "+target {
			t.Fatalf("%d messages, the first is %q", len(got), got[:1])
		}
		if target == "a" {
			q.put(replyTo("192.168.50.11:4000", "c"), now)
		}
	}
	q.put(replyTo("192.168.50.12:4000", "d"), now)
	if got, want := takeDue(&q, now.Add(replyInterval)), []string{"192.168.50.12:4000 d"}; !slices.Equal(got, want) {
		t.Errorf("after the flood: got %q, want %q", got, want)
	}
}

// TestQueueIsShared has one host search more than there is room for, and then another one.
func TestQueueIsShared(t *testing.T) {
	var q replyQueue
	now := time.Now()
	for range 3 * maxReplies {
		q.put(replyTo("192.168.50.10:4000", "a"), now)
	}
	q.put(replyTo("192.168.50.11:4000", "b"), now)
	got := takeDue(&q, now.Add(replyInterval))
	if len(got) != maxRepliesPerHost+1 || got[maxRepliesPerHost] != "192.168.50.11:4000 b" {
		t.Errorf("%d messages, the last is %q", len(got), got[len(got)-1])
	}
}
