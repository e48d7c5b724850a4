package upnpd

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Connections of one LAN at one time. A flood costs whoever makes it his own
// connections, never somebody else's.
const (
	perClient   = 8  // that may be slow; further ones of the client must hurry
	connections = 64 // of all clients; for a further one, one of those is closed
)

// connection is a connection and its place in the guard's books.
type connection struct {
	net.Conn
	client netip.Addr // who made it, never an IPv4-mapped address
	local  netip.Addr // the router's address that was dialled

	answering bool // its request is complete, the reply is not; guarded by guard.mu
}

// connLimiter knows all connections.
type connLimiter struct {
	mu     sync.Mutex
	open   map[netip.Addr][]*connection // by client, the oldest first
	total  int
	closed bool
}

func newConnLimiter() *connLimiter { return &connLimiter{open: make(map[netip.Addr][]*connection)} }

// add enters a new connection. Where there are too many, one of the client
// that has most is closed for it.
func (g *connLimiter) add(c *connection) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		c.Close()
		return
	}
	if g.total >= connections {
		g.evict(leastUseful(g.busiest()))
	}
	g.open[c.client] = append(g.open[c.client], c)
	g.total++
}

// busiest returns the connections of the client that has most.
func (g *connLimiter) busiest() (most []*connection) {
	for _, list := range g.open {
		if len(list) > len(most) {
			most = list
		}
	}
	return most
}

// leastUseful returns the connection that is missed least: the oldest that waits for
// its client.
func leastUseful(list []*connection) *connection {
	if i := slices.IndexFunc(list, func(c *connection) bool { return !c.answering }); i >= 0 {
		return list[i]
	}
	return list[0]
}

// evict closes a connection.
func (g *connLimiter) evict(c *connection) {
	c.Close()
	g.remove(c)
}

// timeout returns how long a connection may let the router wait, which is
// usually d.
func (g *connLimiter) timeout(c *connection, d time.Duration) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if slices.Index(g.open[c.client], c) >= perClient {
		return min(d, hurry)
	}
	return d
}

// setAnswering notes that a request is complete, or its reply is.
func (g *connLimiter) setAnswering(c *connection, answering bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c.answering = answering
}

// release notes that a connection has ended.
func (g *connLimiter) release(c *connection) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.remove(c)
}

// remove takes a connection out of the books; evicted ones are out already.
func (g *connLimiter) remove(c *connection) {
	list := g.open[c.client]
	i := slices.Index(list, c)
	switch {
	case i < 0:
		return
	case len(list) == 1:
		delete(g.open, c.client)
	default:
		g.open[c.client] = slices.Delete(list, i, i+1)
	}
	g.total--
}

// closeAll ends every connection, and whatever is admitted after.
func (g *connLimiter) closeAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for _, list := range g.open {
		for _, c := range list {
			c.Close()
		}
	}
}
