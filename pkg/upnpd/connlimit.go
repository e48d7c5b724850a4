package upnpd

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"igdd/pkg/lan"
)

// Limits of simultaneous connections on one LAN. A client that floods loses its
// own connections, never another client's.
const (
	unhurriedPerClient = 8  // with the usual time limits; further ones have shorter limits
	maxConnections     = 64 // of all clients; for a further one, one of them is closed
)

// connection is a connection that a connLimiter knows.
type connection struct {
	net.Conn
	client netip.Addr // the client, never an IPv4-mapped address
	local  netip.Addr // the router's address that the client connected to
	host   lan.Host   // the client

	answering bool // its request is complete, the response is not; guarded by connLimiter.mu
}

// connLimiter holds the connections of one LAN and closes some when there are too
// many.
type connLimiter struct {
	mu     sync.Mutex
	open   map[lan.Host][]*connection // by client, the oldest first
	total  int
	closed bool
}

func newConnLimiter() *connLimiter { return &connLimiter{open: make(map[lan.Host][]*connection)} }

// add adds a new connection. If there are too many, it closes one of the client
// that has the most.
func (l *connLimiter) add(c *connection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		c.Close()
		return
	}
	if l.total >= maxConnections {
		l.evict(leastUseful(l.busiest()))
	}
	l.open[c.host] = append(l.open[c.host], c)
	l.total++
}

// busiest returns the connections of the client that has the most.
func (l *connLimiter) busiest() (most []*connection) {
	for _, list := range l.open {
		if len(list) > len(most) {
			most = list
		}
	}
	return most
}

// leastUseful returns the connection to close first: the oldest that waits for a
// request.
func leastUseful(list []*connection) *connection {
	if i := slices.IndexFunc(list, func(c *connection) bool { return !c.answering }); i >= 0 {
		return list[i]
	}
	return list[0]
}

// evict closes a connection.
func (l *connLimiter) evict(c *connection) {
	c.Close()
	l.remove(c)
}

// timeout returns the time limit of a connection whose usual limit is d.
func (l *connLimiter) timeout(c *connection, d time.Duration) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if slices.Index(l.open[c.host], c) >= unhurriedPerClient {
		return min(d, shortLimit)
	}
	return d
}

// setAnswering notes that a request has been read, or its response written.
func (l *connLimiter) setAnswering(c *connection, answering bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.answering = answering
}

// release notes that a connection has ended.
func (l *connLimiter) release(c *connection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remove(c)
}

// remove removes a connection, unless it has been evicted.
func (l *connLimiter) remove(c *connection) {
	list := l.open[c.host]
	i := slices.Index(list, c)
	switch {
	case i < 0:
		return
	case len(list) == 1:
		delete(l.open, c.host)
	default:
		l.open[c.host] = slices.Delete(list, i, i+1)
	}
	l.total--
}

// closeAll closes every connection, and each that is added later.
func (l *connLimiter) closeAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, list := range l.open {
		for _, c := range list {
			c.Close()
		}
	}
}
