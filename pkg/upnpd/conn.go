package upnpd

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"
)

// Time limits of a connection.
const (
	sendWithin   = 10 * time.Second // from the first octet of a request to its last
	idleFor      = 30 * time.Second // before the first request
	keepAliveFor = 3 * time.Second  // between requests: some clients ask to keep the connection, and then wait for its end
	replyWithin  = 10 * time.Second // for the client to read a response
	shortLimit   = 2 * time.Second  // in place of each of these, where a client has many connections
	lingerFor    = time.Second      // for the unread rest of a request
	lingerBytes  = 256 << 10
)

// response is an HTTP response.
type response struct {
	status int
	fields []byte // complete header lines, each with CRLF
	body   []byte
	after  func(sent bool) // called when the response has been sent, or is lost
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
		c.SetReadDeadline(time.Now().Add(limiter.timeout(c, wait)))
		if awaitRequest(b) != nil {
			return
		}
		c.SetReadDeadline(time.Now().Add(limiter.timeout(c, sendWithin)))
		r, err := readRequest(b, c.sendContinue)
		limiter.setAnswering(c, true)
		reply, ok := l.respond(r, err, c)
		if !ok {
			return
		}
		if err != nil {
			r = &request{close: true}
		}
		c.SetWriteDeadline(time.Now().Add(limiter.timeout(c, replyWithin)))
		out := net.Buffers{l.server.head(r, reply)}
		if r.method != "HEAD" {
			out = append(out, reply.body)
		}
		_, err = out.WriteTo(c.Conn) // in one write, without copying a long body
		if reply.after != nil {
			reply.after(err == nil)
		}
		if err != nil {
			return
		}
		limiter.setAnswering(c, false)
		if r.close {
			c.linger()
			return
		}
	}
}

// sendContinue tells a client to send the body (RFC 9110, section 10.1.1).
func (c *connection) sendContinue() error {
	c.SetWriteDeadline(time.Now().Add(replyWithin))
	_, err := io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
	return err
}

// respond returns the response to a request or to an error in reading it; ok is
// false if the connection has no more use for one.
func (l *Listener) respond(r *request, err error, c *connection) (reply response, ok bool) {
	var status httpError
	switch {
	case err == nil:
		r.client, r.local, r.device = c.client, c.local, l.on.Name()
		return l.server.handle(r, l.on), true
	case errors.As(err, &status):
		return response{status: int(status)}, true
	case errors.Is(err, os.ErrDeadlineExceeded):
		return response{status: 408}, true
	}
	return response{}, false
}

// head returns the head of a response. It always has the length of the body: old
// clients cannot read chunks. Field names are in the case that most servers use,
// since some clients compare them literally, and those of UPnP in the standard's.
func (s *Server) head(r *request, reply response) []byte {
	out := make([]byte, 0, 256+len(reply.fields))
	out = append(out, "HTTP/1.1 "...)
	out = strconv.AppendInt(out, int64(reply.status), 10)
	out = append(out, ' ')
	out = append(out, reasons[reply.status]...)
	out = append(out, "\r\nServer: "...)
	out = append(out, s.opts.Product...)
	out = append(out, "\r\nDate: "...)
	out = time.Now().UTC().AppendFormat(out, "Mon, 02 Jan 2006 15:04:05 GMT")
	out = append(out, "\r\nContent-Length: "...)
	out = strconv.AppendInt(out, int64(len(reply.body)), 10)
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
func (c *connection) linger() {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		c.SetReadDeadline(time.Now().Add(lingerFor))
		io.CopyN(io.Discard, c, lingerBytes)
	}
}
