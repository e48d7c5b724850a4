package upnpd

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Connections of one LAN at one time. A flood costs whoever makes it his own
// oldest connections, never somebody else's turn.
const (
	perClient   = 8  // served; further ones of the client wait for their turn
	connections = 64 // served and waiting, of all clients
	// freshFor is how long a connection may be silent before another of the
	// same client can take its place: time for a request to come behind the
	// handshake.
	freshFor = 50 * time.Millisecond
)

// connection is a connection and its place in the guard's books.
type connection struct {
	net.Conn
	client netip.Addr    // who made it, never an IPv4-mapped address
	local  netip.Addr    // the router's address that was dialled
	turn   chan struct{} // closed when it may be served
	gone   chan struct{} // closed when the guard has closed it

	answering bool      // its request is complete, the reply is not
	since     time.Time // of the last time that changed
}

// idle reports whether nothing is lost if the connection is closed.
func (c *connection) idle() bool { return !c.answering && time.Since(c.since) >= freshFor }

// visitor is a client's connections, the oldest first.
type visitor struct{ served, waiting []*connection }

// guard decides which connections are served.
type guard struct {
	mu       sync.Mutex
	visitors map[netip.Addr]*visitor
	total    int
	closed   bool
}

func newGuard() *guard { return &guard{visitors: make(map[netip.Addr]*visitor)} }

// admit enters a new connection. Where there are too many, one of the client
// that has most is closed for it.
func (g *guard) admit(c *connection) {
	c.turn, c.gone = make(chan struct{}), make(chan struct{})
	c.since = time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		c.close()
		return
	}
	if g.total >= connections {
		g.busiest().spare(g)
	}
	v := g.visitors[c.client]
	if v == nil {
		v = new(visitor)
		g.visitors[c.client] = v
	}
	v.waiting = append(v.waiting, c)
	g.total++
	if len(v.served) >= perClient {
		g.evictIdle(v)
	}
	v.callUp()
}

// await returns when a connection's turn has come; false: it was closed.
func (g *guard) await(c *connection) bool {
	for {
		timer := time.NewTimer(freshFor)
		select {
		case <-c.turn:
			timer.Stop()
			return true
		case <-c.gone:
			timer.Stop()
			return false
		case <-timer.C:
			g.press(c)
		}
	}
}

// press makes room for a connection that has waited, if one of its client's
// is idle.
func (g *guard) press(c *connection) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if v := g.visitors[c.client]; v != nil && slices.Contains(v.waiting, c) {
		g.evictIdle(v)
		v.callUp()
	}
}

// busiest returns the client with the most connections.
func (g *guard) busiest() *visitor {
	most := new(visitor)
	for _, v := range g.visitors {
		if len(v.served)+len(v.waiting) > len(most.served)+len(most.waiting) {
			most = v
		}
	}
	return most
}

// spare closes the connection that is missed least: the one that waits
// longest, or else one that is served.
func (v *visitor) spare(g *guard) {
	switch {
	case len(v.waiting) > 0:
		g.evict(v.waiting[0])
	case !g.evictIdle(v):
		g.evict(v.served[0])
	}
}

// evictIdle closes a client's oldest idle connection, if there is one.
func (g *guard) evictIdle(v *visitor) bool {
	i := slices.IndexFunc(v.served, (*connection).idle)
	if i >= 0 {
		g.evict(v.served[i])
	}
	return i >= 0
}

// evict closes a connection.
func (g *guard) evict(c *connection) {
	c.close()
	g.forget(c)
}

func (c *connection) close() {
	c.Close()
	close(c.gone)
}

// callUp lets the newest that waits be served if a place is free: a client
// that opens more than it needs is interested in the last.
func (v *visitor) callUp() {
	for last := len(v.waiting) - 1; last >= 0 && len(v.served) < perClient; last-- {
		c := v.waiting[last]
		v.waiting = v.waiting[:last]
		v.served = append(v.served, c)
		close(c.turn)
	}
}

// mark notes that a request is complete, or its reply is.
func (g *guard) mark(c *connection, answering bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c.answering, c.since = answering, time.Now()
}

// release notes that a connection has ended.
func (g *guard) release(c *connection) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forget(c)
}

// forget takes a connection out of the books; evicted ones are out already.
func (g *guard) forget(c *connection) {
	v := g.visitors[c.client]
	if v == nil {
		return
	}
	before := len(v.served) + len(v.waiting)
	same := func(o *connection) bool { return o == c }
	v.served = slices.DeleteFunc(v.served, same)
	v.waiting = slices.DeleteFunc(v.waiting, same)
	v.callUp()
	left := len(v.served) + len(v.waiting)
	g.total -= before - left
	if left == 0 {
		delete(g.visitors, c.client)
	}
}

// closeAll ends every connection, and whatever is admitted after.
func (g *guard) closeAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for _, v := range g.visitors {
		for _, c := range slices.Concat(v.served, v.waiting) {
			c.close()
		}
	}
	clear(g.visitors)
	g.total = 0
}
