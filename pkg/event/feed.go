package event

import (
	"sync"
	"time"
)

// How many events a feed keeps: for watchers that are behind, and of these the last for
// the history.
const (
	kept          = 512
	HistoryLength = 500
)

// Feed hands events on to any number of readers. It never waits for a reader: one that
// is too slow misses events, and learns how many.
type Feed struct {
	mu    sync.Mutex    // guards what follows
	first uint64        // serial of the first event of this process
	next  uint64        // serial of the next event
	ring  []Event       // the last events: that with serial n is at (n - first) % kept
	added chan struct{} // closed by the next event; nil: nobody waits
}

// NewFeed returns a feed without events. Serials begin with the time, in milliseconds,
// so that they are higher than those of an earlier process.
func NewFeed() *Feed {
	first := uint64(time.Now().UnixMilli())
	return &Feed{first: first, next: first}
}

// Add adds an event, with its serial and its time, and returns it.
func (f *Feed) Add(e Event) Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	e.Serial, e.Time = f.next, time.Now()
	f.next++
	if len(f.ring) < kept {
		f.ring = append(f.ring, e)
	} else {
		f.ring[(e.Serial-f.first)%kept] = e
	}
	if f.added != nil {
		close(f.added)
		f.added = nil
	}
	return e
}

// After returns the events after the one with a serial, the oldest first and at most
// limit, and how many before them are lost to the caller. The channel is closed when
// there is a further event. A serial of another process stands for all events.
func (f *Feed) After(serial uint64, limit int) (list []Event, lost uint64, added <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	oldest, from := f.next-uint64(len(f.ring)), serial+1
	if from < f.first || from > f.next { // of another process
		from = f.first
	}
	if from < oldest {
		lost, from = oldest-from, oldest
	}
	for ; from < f.next && len(list) < limit; from++ {
		list = append(list, f.ring[(from-f.first)%kept])
	}
	if f.added == nil {
		f.added = make(chan struct{})
	}
	return list, lost, f.added
}

// Last returns the serial of the last event; one less than the first if there is none.
func (f *Feed) Last() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next - 1
}

// History returns the last n events, the oldest first; at most HistoryLength.
func (f *Feed) History(n int) []Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	n = max(0, min(n, len(f.ring), HistoryLength))
	list := make([]Event, 0, n)
	for serial := f.next - uint64(n); serial < f.next; serial++ {
		list = append(list, f.ring[(serial-f.first)%kept])
	}
	return list
}
