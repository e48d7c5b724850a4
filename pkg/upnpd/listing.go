package upnpd

import (
	"sync"
	"time"

	"igdd/pkg/lan"
	"igdd/pkg/portmap"
	"igdd/pkg/upnp"
)

// maxListing limits the response to GetListOfPortMappings, in bytes: about a thousand
// entries. Clients read longer lists by index.
const maxListing = 512 << 10

// listing is the result of GetListOfPortMappings: mappings as they were at one time.
// It is sent piece by piece, so that a reader who takes his time needs no more memory
// than a pointer for each mapping.
type listing struct {
	mappings []*portmap.Mapping
	at       time.Time
}

// entries yields the mappings in the form of WANIPConnection.
func (l *listing) entries(yield func(upnp.PortMapping) bool) {
	for _, m := range l.mappings {
		if !yield(entry(m, l.at)) {
			return
		}
	}
}

// response returns the response to a call. Its length is that of all pieces; entries
// that would make it too long are left out.
func (l *listing) response(call *upnp.Call) response {
	r := response{status: 200, fields: soapFields, pieces: call.Listing(l.entries)}
	for piece := range r.pieces {
		r.length += len(piece)
	}
	if r.length > maxListing {
		l.mappings = l.mappings[:len(l.mappings)*maxListing/r.length]
		return l.response(call)
	}
	return r
}

// listWithin is how long a host waits for the end of its other list.
const listWithin = 2 * time.Second

// turns lets each host have one list at a time: a list takes the processor for
// milliseconds. It is ready for use.
type turns struct {
	mu   sync.Mutex
	busy map[lan.Host]chan struct{} // closed at the end of the turn
}

// take waits for the host's turn; false: it has not come in time.
func (t *turns) take(host lan.Host) bool {
	timer := time.NewTimer(listWithin)
	defer timer.Stop()
	for {
		ended, ok := t.tryTake(host)
		if ok {
			return true
		}
		select {
		case <-ended:
		case <-timer.C:
			return false
		}
	}
}

// tryTake takes the host's turn, or returns a channel that is closed when it ends.
func (t *turns) tryTake(host lan.Host) (ended <-chan struct{}, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if busy := t.busy[host]; busy != nil {
		return busy, false
	}
	if t.busy == nil {
		t.busy = make(map[lan.Host]chan struct{})
	}
	t.busy[host] = make(chan struct{})
	return nil, true
}

// leave ends the host's turn.
func (t *turns) leave(host lan.Host) {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.busy[host])
	delete(t.busy, host)
}
