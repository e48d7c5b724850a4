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

// Patience with one connection.
const (
	sendWithin  = 10 * time.Second // for a request to arrive, from its first octet
	idleFor     = 30 * time.Second // before the first request
	restFor     = 3 * time.Second  // between requests: some ask to keep what they want to see closed
	takeWithin  = 10 * time.Second // for a reply to be taken
	hurry       = 2 * time.Second  // instead of each, where a client has many connections
	lingerFor   = time.Second      // for the rest of a request that is not read
	lingerBytes = 256 << 10
)

// response is one HTTP reply.
type response struct {
	status int
	fields []byte // complete header lines, each with CRLF
	body   []byte
	after  func(sent bool) // called when the reply is on its way, or lost
}

// reasons are the phrases of the status codes that are sent.
var reasons = map[int]string{
	200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout",
	411: "Length Required", 412: "Precondition Failed", 413: "Content Too Large", 414: "URI Too Long",
	417: "Expectation Failed", 431: "Request Header Fields Too Large", 500: "Internal Server Error",
	501: "Not Implemented", 503: "Service Unavailable", 505: "HTTP Version Not Supported",
}

// buffers are reused between connections.
var buffers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 2<<10) }}

// serveConn answers the requests of one connection until either side has
// enough.
func (l *Listener) serveConn(c *connection, g *connLimiter) {
	b := buffers.Get().(*bufio.Reader)
	b.Reset(c)
	defer buffers.Put(b)
	for wait := idleFor; ; wait = restFor {
		c.SetReadDeadline(time.Now().Add(g.timeout(c, wait)))
		if await(b) != nil {
			return
		}
		c.SetReadDeadline(time.Now().Add(g.timeout(c, sendWithin)))
		r, err := readRequest(b, c.sendContinue)
		g.setAnswering(c, true)
		reply, ok := l.respond(r, err, c)
		if !ok {
			return
		}
		if err != nil {
			r = &request{close: true}
		}
		c.SetWriteDeadline(time.Now().Add(g.timeout(c, takeWithin)))
		out := net.Buffers{l.server.head(r, reply)}
		if r.method != "HEAD" {
			out = append(out, reply.body)
		}
		_, err = out.WriteTo(c.Conn) // as one, without a copy of what may be long
		if reply.after != nil {
			reply.after(err == nil)
		}
		if err != nil {
			return
		}
		g.setAnswering(c, false)
		if r.close {
			c.linger()
			return
		}
	}
}

// sendContinue lets a client send the body that it has announced.
func (c *connection) sendContinue() error {
	c.SetWriteDeadline(time.Now().Add(takeWithin))
	_, err := io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
	return err
}

// respond returns the reply to what was read; ok is false if there is nobody
// to reply to.
func (l *Listener) respond(r *request, err error, c *connection) (reply response, ok bool) {
	var status httpError
	switch {
	case err == nil:
		r.client, r.local, r.device = c.client, c.local, l.lan.Name()
		return l.server.handle(r, l.lan), true
	case errors.As(err, &status):
		return response{status: int(status)}, true
	case errors.Is(err, os.ErrDeadlineExceeded):
		return response{status: 408}, true
	}
	return response{}, false
}

// head words what comes before the body of a reply. The body's length always
// stands there: old clients cannot read chunks. Field names are spelled as most
// servers spell them, since some clients look for the letters, and as the
// standard does where it is UPnP's.
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

// linger reads on for a while before the connection is closed: what the client
// still sends would otherwise reset it, and the reply with it.
func (c *connection) linger() {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		c.SetReadDeadline(time.Now().Add(lingerFor))
		io.CopyN(io.Discard, c, lingerBytes)
	}
}
