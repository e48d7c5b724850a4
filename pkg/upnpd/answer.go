package upnpd

import (
	"bufio"
	"bytes"
	"errors"

	"golang.org/x/sys/unix"
)

// arrival is a connection that has just been accepted; lan.Arrival is one. Reads and
// writes do not wait, but fail with EAGAIN.
type arrival interface {
	Read(p []byte) (int, error)
	Write(p []byte) (int, error)
	IsSettled() bool // all is read, and what was written is on its way
}

// immediate has the buffers of a goroutine that accepts connections.
type immediate struct {
	in  [2 << 10]byte
	out [2 << 10]byte // a short response
}

// arrived are octets of a request. Behind them Read fails with EAGAIN.
type arrived []byte

func (a *arrived) Read(p []byte) (int, error) {
	if len(*a) == 0 {
		return 0, unix.EAGAIN
	}
	n := copy(p, *a)
	*a = (*a)[n:]
	return n, nil
}

// answer answers a connection at once, if its only request has arrived and the response
// waits for nothing. Otherwise rest is what is left to do with it, and may wait.
func (l *Listener) answer(c *connection, a arrival, limiter *connLimiter, at *immediate) (rest func(stream)) {
	if !limiter.addNow(c) {
		return func(s stream) { l.serve(c, s, limiter) }
	}
	defer func() {
		if rest == nil { // also after a panic
			limiter.release(c)
		}
	}()
	n, err := a.Read(at.in[:])
	switch {
	case errors.Is(err, unix.EAGAIN):
		return l.remaining(c, limiter, waiting, func() { l.serveConn(c, limiter) })
	case n <= 0:
		return nil
	}
	r, reply, ok := l.respondNow(c, at.in[:n])
	switch {
	case !ok:
		c.early = bytes.Clone(at.in[:n])
		return l.remaining(c, limiter, waiting, func() { l.serveConn(c, limiter) })
	case reply.later != nil || reply.list != nil:
		return l.remaining(c, limiter, deciding, func() { l.finish(c, r, reply, limiter) })
	}
	return l.sendNow(c, a, r, reply, limiter, at)
}

// respondNow returns the response to a request that has arrived; ok is false if that is
// not all that there is to the connection.
func (l *Listener) respondNow(c *connection, octets []byte) (r *request, reply response, ok bool) {
	in := arrived(octets)
	b := buffers.Get().(*bufio.Reader)
	defer buffers.Put(b)
	b.Reset(&in)
	r, err := readRequest(b, func() error { return unix.EAGAIN })
	if err != nil || !r.close || r.mayBeUnread() || b.Buffered() > 0 || len(in) > 0 {
		return nil, response{}, false
	}
	reply, ok = l.respond(r, nil, c)
	return r, reply, ok
}

// sendNow sends a response as far as the kernel has room for it. What is left to do is to
// send the rest, to read what has arrived behind the request, or to wait for the client.
func (l *Listener) sendNow(c *connection, a arrival, r *request, reply response, limiter *connLimiter, at *immediate) (rest func(stream)) {
	out := l.server.appendHead(at.out[:0], r, reply)
	if r.method != "HEAD" {
		out = append(out, reply.body...)
	}
	n, err := a.Write(out)
	switch {
	case errors.Is(err, unix.EAGAIN):
		n = 0
	case err != nil:
		return nil
	}
	if n == len(out) && a.IsSettled() {
		return nil
	}
	out = bytes.Clone(out[n:])
	return l.remaining(c, limiter, sending, func() {
		if c.write(out) == nil {
			limiter.setPhase(c, waiting)
			c.linger(lingerFor)
		}
	})
}

// remaining returns what is left to do with a connection that has a place.
func (l *Listener) remaining(c *connection, limiter *connLimiter, p phase, serve func()) func(stream) {
	return func(s stream) {
		defer limiter.release(c)
		if limiter.attach(c, s, p) {
			serve()
		}
	}
}
