package upnpd

import (
	"cmp"
	"io"
	"net/netip"
	"slices"
	"sync"
	"time"

	"igdd/pkg/fair"
	"igdd/pkg/lan"
)

// Limits of simultaneous connections on one LAN. Further ones wait for a place, which
// takes a moment when a host has several programs, and are not read meanwhile.
const (
	connectionsPerHost = 8
	maxConnections     = 64
	waitingPerHost     = 32
	maxWaitingConns    = 128
	placeWithin        = 2 * time.Second
)

// A connection keeps its place for a while after it was opened or answered, because a
// request may be on its way, and while its response is read without such a pause.
const (
	graceForRequest = 500 * time.Millisecond
	graceForReader  = 2 * time.Second
	checkInterval   = 50 * time.Millisecond // for places, while connections wait for one
)

// phase is what a connection waits for.
type phase uint8

const (
	waiting  phase = iota // for a request
	deciding              // for the decision on its request
	queued                // for the end of another list of its host
	sending               // for the client to read the response
)

// connection is a connection that a connLimiter knows.
type connection struct {
	stream        // nil while the goroutine that accepts has it
	early  []byte // octets that were read before, and come first

	client netip.Addr // the client, never an IPv4-mapped address
	local  netip.Addr // the router's address that the client connected to
	host   lan.Host   // the client

	// Guarded by connLimiter.mu.
	phase phase
	since time.Time // of the phase, or of the last piece that was sent
}

// stream is a connection to which a goroutine of its own reads and writes.
type stream interface {
	io.ReadWriteCloser
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// Read reads what has arrived early, and then on.
func (c *connection) Read(p []byte) (int, error) {
	if len(c.early) == 0 {
		return c.stream.Read(p)
	}
	n := copy(p, c.early)
	if c.early = c.early[n:]; len(c.early) == 0 {
		c.early = nil // free its memory
	}
	return n, nil
}

// connLimiter holds the connections of one LAN. When there are too many, the host that
// has most loses the oldest of those that are not being answered.
type connLimiter struct {
	refused fair.Counts[lan.Host] // connections without a place that are not closed yet

	mu      sync.Mutex // guards what follows
	open    fair.Places[lan.Host, *connection]
	waiting fair.Places[lan.Host, *candidate]
	timer   *time.Timer // looks for places while connections wait
	closed  bool
}

// candidate is a connection that waits for a place.
type candidate struct {
	*connection
	began    time.Time
	asks     bool      // its request has arrived
	admitted chan bool // with room for the outcome
}

// rank makes connections whose requests have not arrived give way to others.
func (c *candidate) rank() int {
	if c.asks = c.asks || c.hasRequest(); c.asks {
		return 1
	}
	return 0
}

// hasRequest reports whether octets of a request have arrived that are not read yet.
func (c *connection) hasRequest() bool {
	socket, ok := c.stream.(interface{ HasUnread() bool })
	return ok && socket.HasUnread()
}

// isSettled reports whether all is read, and what was written is on its way.
func (c *connection) isSettled() bool {
	socket, ok := c.stream.(interface{ IsSettled() bool })
	return !ok || socket.IsSettled()
}

func newConnLimiter() *connLimiter {
	l := new(connLimiter)
	l.refused = fair.Counts[lan.Host]{PerHost: connectionsPerHost, Shared: maxConnections, Total: maxConnections}
	l.open = fair.Places[lan.Host, *connection]{PerHost: connectionsPerHost, Total: maxConnections, Rank: l.rank}
	l.waiting = fair.Places[lan.Host, *candidate]{PerHost: waitingPerHost, Total: maxWaitingConns, Rank: (*candidate).rank}
	return l
}

// The ranks of connections. A young one gives way only to hosts that have fewer.
const (
	spare = iota
	young
)

// rank makes a connection keep its place while its request is being served, and while
// one may be on its way if its host has no other.
func (l *connLimiter) rank(c *connection) int {
	age := time.Since(c.since)
	isYoung := c.phase == queued || c.phase == waiting && age < graceForRequest
	switch {
	case c.phase == deciding, c.phase == sending && age < graceForReader, isYoung && l.open.Count(c.host) == 1:
		return fair.Held
	case isYoung:
		return young
	}
	return spare
}

// add adds a new connection, and closes the one that loses its place for it. It waits
// for a place, and reports false if there is none in time.
func (l *connLimiter) add(c *connection) bool {
	l.mu.Lock()
	c.phase, c.since = waiting, time.Now()
	if l.closed {
		l.mu.Unlock()
		return false
	}
	if l.takePlace(c) {
		l.mu.Unlock()
		return true
	}
	next := &candidate{connection: c, began: c.since, admitted: make(chan bool, 1)}
	l.enqueue(next)
	l.mu.Unlock()
	return <-next.admitted
}

// addNow adds a new connection that is answered at once, and closes the one that loses its
// place for it. It reports false if there is no place now.
func (l *connLimiter) addNow(c *connection) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.phase, c.since = deciding, time.Now()
	return !l.closed && l.takePlace(c)
}

// attach gives a connection that was not answered at once its stream, and notes what it
// waits for. It reports false if all connections have been closed meanwhile.
func (l *connLimiter) attach(c *connection, s stream, p phase) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.stream, c.phase, c.since = s, p, time.Now()
	return !l.closed
}

// takePlace gives a connection a place, if there is one, perhaps that of another one of
// its host.
func (l *connLimiter) takePlace(c *connection) bool {
	lost, hasLost, ok := l.open.Take(c.host, c)
	if !ok {
		if lost, hasLost = l.open.Weakest(c.host); !hasLost || l.rank(lost) != spare {
			return false
		}
		l.open.Release(lost)
		_, _, ok = l.open.Take(c.host, c)
	}
	if hasLost {
		lost.Close()
	}
	return ok
}

// enqueue makes a connection wait for a place, perhaps instead of another one.
func (l *connLimiter) enqueue(c *candidate) {
	if l.waiting.Count(c.host) >= waitingPerHost {
		if own, ok := l.waiting.Weakest(c.host); ok {
			l.waiting.Release(own)
			own.admitted <- false
		}
	}
	lost, hasLost, ok := l.waiting.Take(c.host, c)
	if hasLost {
		lost.admitted <- false
	}
	if !ok {
		c.admitted <- false
		return
	}
	if l.timer == nil {
		l.timer = time.AfterFunc(checkInterval, l.check)
	}
}

// check admits those that wait and turns away those that have waited too long. It runs
// again as long as there are any.
func (l *connLimiter) check() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = nil
	l.admitWaiting()
	left := l.waiting.Items()
	for _, c := range left {
		if time.Since(c.began) >= placeWithin || l.closed {
			l.waiting.Release(c)
			c.admitted <- false
		}
	}
	if len(left) > 0 && !l.closed {
		l.timer = time.AfterFunc(checkInterval, l.check)
	}
}

// admitWaiting gives places to those that wait: first to hosts that have few, then to
// those whose requests have arrived, the oldest first.
func (l *connLimiter) admitWaiting() {
	list := l.waiting.Items()
	slices.SortStableFunc(list, func(a, b *candidate) int {
		return cmp.Or(l.open.Count(a.host)-l.open.Count(b.host), b.rank()-a.rank())
	})
	for _, c := range list {
		if l.takePlace(c.connection) {
			c.since = time.Now()
			l.waiting.Release(c)
			c.admitted <- true
		}
	}
}

// setPhase notes what a connection waits for, or that a piece of its response was sent.
func (l *connLimiter) setPhase(c *connection, p phase) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.phase, c.since = p, time.Now()
}

// release notes that a connection has ended.
func (l *connLimiter) release(c *connection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open.Release(c)
	l.admitWaiting()
}

// closeAll closes every connection, and none is added any more.
func (l *connLimiter) closeAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, c := range l.open.Items() {
		if c.stream != nil {
			c.Close()
		}
	}
	for _, c := range l.waiting.Items() {
		l.waiting.Release(c)
		c.admitted <- false
	}
}
