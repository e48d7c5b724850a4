package upnpd

import (
	"bufio"
	"errors"
	"io"
	"iter"
	"os"
	"strconv"
	"sync"
	"time"

	"igdd/pkg/clock"
)

// Time limits of a connection.
const (
	sendWithin   = 10 * time.Second // from the first octet of a request to its last
	idleFor      = 30 * time.Second // before the first request
	keepAliveFor = 3 * time.Second  // between requests: some clients ask to keep the connection, and then wait for its end
	replyWithin  = 10 * time.Second // for the client to read a response, or each piece of one
	lingerFor    = time.Second      // for the unread rest of a request
	refuseFor    = time.Second / 10 // the same, of a connection that has no place
	lingerBytes  = 256 << 10
)

// response is an HTTP response. Its content is body, or pieces of a total length. If it
// has a list, or is for later, that is all of it.
type response struct {
	status int
	fields []byte // complete header lines, each with CRLF
	body   []byte
	pieces iter.Seq[[]byte]
	length int
	list   *listing
	later  func() response // makes the response, and may wait; the rest is without meaning
	after  func(sent bool) // called when the response has been sent, or is lost
}

// complete makes a response that is for later.
func (r response) complete() response {
	if r.later != nil {
		return r.later()
	}
	return r
}

// reasons are the reason phrases of the status codes in use.
var reasons = map[int]string{
	200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout",
	411: "Length Required", 412: "Precondition Failed", 413: "Content Too Large", 414: "URI Too Long",
	417: "Expectation Failed", 431: "Request Header Fields Too Large", 500: "Internal Server Error",
	501: "Not Implemented", 503: "Service Unavailable", 505: "HTTP Version Not Supported",
}

// buffers are reused between connections.
var buffers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 2<<10) }}

// serveConn answers the requests of one connection until either side closes it.
func (l *Listener) serveConn(c *connection, limiter *connLimiter) {
	b := buffers.Get().(*bufio.Reader)
	b.Reset(c)
	defer buffers.Put(b)
	for wait := idleFor; ; wait = keepAliveFor {
		c.SetReadDeadline(time.Now().Add(wait))
		if awaitRequest(b) != nil {
			return
		}
		c.SetReadDeadline(time.Now().Add(sendWithin))
		r, err := readRequest(b, c.sendContinue)
		limiter.setPhase(c, deciding)
		reply, ok := l.respond(r, err, c)
		if !ok {
			return
		}
		if err != nil {
			r = &request{close: true, unread: true}
		}
		r.unread = r.unread || b.Buffered() > 0
		if l.finish(c, r, reply, limiter) != nil || r.close {
			return
		}
	}
}

// finish sends a response. Behind that to a last request it reads what may still come: that
// would reset the connection once it is closed, and not every system gives a program then
// what it had received. Where all was read, nothing but a stray line end can come. It also
// waits for a client that does not read: the kernel would keep the response, and no limit
// would count it.
func (l *Listener) finish(c *connection, r *request, reply response, limiter *connLimiter) error {
	if err := l.reply(c, r, reply, limiter); err != nil {
		return err
	}
	limiter.setPhase(c, waiting)
	if r.close && (r.mayBeUnread() || !c.isSettled()) {
		c.linger(lingerFor)
	}
	return nil
}

// reply sends a response, or a list.
func (l *Listener) reply(c *connection, r *request, reply response, limiter *connLimiter) error {
	reply = reply.complete()
	if reply.list != nil {
		return l.sendList(c, r, reply.list, limiter)
	}
	limiter.setPhase(c, sending)
	return l.send(c, r, reply, limiter)
}

// usualHead is the length of most heads at most, in bytes.
const usualHead = 512

// sentWithHead is how many octets of a body are sent with the head: all of a short one.
const sentWithHead = 2 << 10

// send sends a response: a short one in one write, without copying a long body, or in
// pieces.
func (l *Listener) send(c *connection, r *request, reply response, limiter *connLimiter) (err error) {
	if reply.after != nil {
		defer func() { reply.after(err == nil) }()
	}
	body := reply.body
	if r.method == "HEAD" {
		body = nil
	}
	with := min(len(body), sentWithHead)
	if err := c.write(append(l.server.appendHead(make([]byte, 0, usualHead+with), r, reply), body[:with]...)); err != nil {
		return err
	}
	if err := c.write(body[with:]); err != nil || reply.pieces == nil {
		return err
	}
	for piece := range reply.pieces {
		limiter.setPhase(c, sending)
		if err := c.write(piece); err != nil {
			return err
		}
	}
	return nil
}

// sendContinue tells a client to send the body (RFC 9110, section 10.1.1).
func (c *connection) sendContinue() error {
	return c.write([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
}

// write writes a response, or a piece of one, in time.
func (c *connection) write(octets []byte) error {
	if len(octets) == 0 {
		return nil
	}
	c.SetWriteDeadline(time.Now().Add(replyWithin))
	_, err := c.Write(octets)
	return err
}

// respond returns the response to a request or to an error in reading it; ok is
// false if the connection has no more use for one.
func (l *Listener) respond(r *request, err error, c *connection) (reply response, ok bool) {
	var status httpError
	switch {
	case err == nil:
		r.client, r.local, r.device, r.from = c.client, c.local, l.on.Name(), c.host
		return l.server.handle(r, l.on), true
	case errors.As(err, &status):
		return response{status: int(status)}, true
	case errors.Is(err, os.ErrDeadlineExceeded):
		return response{status: 408}, true
	}
	return response{}, false
}

// appendHead appends the head of a response to out. It always has the length of the body: old
// clients cannot read chunks. Field names are in the case that most servers use,
// since some clients compare them literally, and those of UPnP in the standard's.
func (s *Server) appendHead(out []byte, r *request, reply response) []byte {
	out = append(out, "HTTP/1.1 "...)
	out = strconv.AppendInt(out, int64(reply.status), 10)
	out = append(out, ' ')
	out = append(out, reasons[reply.status]...)
	out = append(out, "\r\nServer: "...)
	out = append(out, s.opts.Product...)
	if now := time.Now(); clock.IsSet(now) { // RFC 9110, section 6.6.1
		out = append(out, "\r\nDate: "...)
		out = now.UTC().AppendFormat(out, "Mon, 02 Jan 2006 15:04:05 GMT")
	}
	out = append(out, "\r\nContent-Length: "...)
	out = strconv.AppendInt(out, int64(len(reply.body)+reply.length), 10)
	switch {
	case r.close:
		out = append(out, "\r\nConnection: close"...)
	case r.old:
		out = append(out, "\r\nConnection: keep-alive"...)
	}
	out = append(out, "\r\n"...)
	out = append(out, reply.fields...)
	return append(out, "\r\n"...)
}

// linger reads on for a while before the connection is closed: data that arrives
// later would reset it, and the client would lose the response.
func (c *connection) linger(atMost time.Duration) {
	if half, ok := c.stream.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		c.SetReadDeadline(time.Now().Add(atMost))
		io.CopyN(io.Discard, c, lingerBytes)
	}
}
