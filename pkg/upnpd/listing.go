package upnpd

import (
	"iter"
	"net/netip"
	"slices"
	"sync"
	"time"

	"igdd/pkg/fair"
	"igdd/pkg/lan"
	"igdd/pkg/portmap"
	"igdd/pkg/upnp"
)

// Limits of the response to GetListOfPortMappings, in bytes and entries: an entry is
// longer than their quotient. Clients read longer lists by index.
const (
	maxListing = 512 << 10
	maxListed  = maxListing / 400
)

// listing is a request for GetListOfPortMappings. The response has the mappings as they
// are when it begins. It is sent piece by piece, so that a reader who takes his time
// needs no more memory than a pointer for each mapping.
type listing struct {
	protocol    portmap.Protocol
	first, last uint16     // external ports
	client      netip.Addr // whose mappings are listed; the zero Addr: all
	most        int        // entries
	pieces      iter.Seq[[]byte]

	mappings []*portmap.Mapping
	at       time.Time
}

// includes reports whether a mapping is listed.
func (l *listing) includes(m *portmap.Mapping) bool {
	return m.Inbound() && m.Protocol == l.protocol && l.first <= m.OuterPort() && m.OuterPort() <= l.last &&
		(!l.client.IsValid() || m.Internal.Addr() == l.client)
}

// entries yields the mappings in the form of WANIPConnection.
func (l *listing) entries(yield func(upnp.PortMapping) bool) {
	for _, m := range l.mappings {
		if !yield(entry(m, l.at)) {
			return
		}
	}
}

// response returns the response with mappings of the table.
func (l *listing) response(t Table) response {
	list := slices.DeleteFunc(t.List(), func(m *portmap.Mapping) bool { return !l.includes(m) })
	if len(list) == 0 {
		return faultResponse(upnp.MappingNotFound)
	}
	l.mappings, l.at = slices.Clone(list[:min(len(list), l.most)]), time.Now()
	length := l.length()
	for length > maxListing {
		l.mappings = l.mappings[:len(l.mappings)*maxListing/length]
		length = l.length()
	}
	return response{status: 200, fields: soapFields, pieces: l.pieces, length: length}
}

// length returns the length of all pieces, in bytes.
func (l *listing) length() (n int) {
	for piece := range l.pieces {
		n += len(piece)
	}
	return n
}

// sendList sends the response with a list once the client's host has no other under way.
func (l *Listener) sendList(c *connection, r *request, list *listing, limiter *connLimiter) error {
	limiter.setPhase(c, queued)
	reply := faultResponse(upnp.ActionFailed)
	if l.server.lists.take(c.host) {
		defer l.server.lists.leave(c.host)
		limiter.setPhase(c, deciding)
		reply = list.response(l.server.opts.Table)
	}
	limiter.setPhase(c, sending)
	return l.send(c, r, reply, limiter)
}

// listWithin is how long a host waits for the end of its other list.
const listWithin = 2 * time.Second

// turns lets each host have one list at a time: a list takes the processor for
// milliseconds.
type turns struct {
	counts fair.Counts[lan.Host] // lists under way or waiting

	mu   sync.Mutex                 // guards busy
	busy map[lan.Host]chan struct{} // closed at the end of the turn
}

// newTurns returns turns for as many connections as there may be on a LAN, and one more
// for each of as many other hosts. A connection that was closed while it waits counts
// until it has its turn.
func newTurns() *turns {
	return &turns{
		counts: fair.Counts[lan.Host]{
			PerHost: connectionsPerHost, Shared: maxConnections, Reserved: 1, Total: 2 * maxConnections,
		},
		busy: make(map[lan.Host]chan struct{}),
	}
}

// take waits for the host's turn; false: it has not come in time, or too many wait.
func (t *turns) take(host lan.Host) bool {
	if !t.counts.Acquire(host) {
		return false
	}
	ok := t.await(host)
	if !ok {
		t.counts.Release(host)
	}
	return ok
}

// await waits for the host's turn; false: it has not come in time.
func (t *turns) await(host lan.Host) bool {
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
	t.busy[host] = make(chan struct{})
	return nil, true
}

// leave ends the host's turn.
func (t *turns) leave(host lan.Host) {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.busy[host])
	delete(t.busy, host)
	t.counts.Release(host)
}
