package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

const (
	// httpLen is the maximum length of a response, head and body, in octets. Descriptions
	// have a fourth of it.
	httpLen = 64 << 10
	// httpWithin limits the time from the connection to the end of the response. Routers
	// that save their settings at each call need one or two seconds.
	httpWithin = 3 * time.Second
)

// endpoint is what an http URL of the router in front leads to.
type endpoint struct {
	at   netip.AddrPort
	path string // with the query
}

// parseEndpoint parses an absolute http URL at the router in front. Its host must be the
// address itself: a name would have to be looked up, and another address is another host.
func parseEndpoint(url string, router netip.Addr) (endpoint, error) {
	const scheme = "http://"
	if len(url) < len(scheme) || !strings.EqualFold(url[:len(scheme)], scheme) || !isPlain(url) {
		return endpoint{}, fmt.Errorf("%.100q is no URL of http", url)
	}
	authority, path := url[len(scheme):], "/"
	if i := strings.IndexAny(authority, "/?#"); i >= 0 {
		authority, path = authority[:i], authority[i:]
	}
	if !strings.Contains(authority, ":") {
		authority += ":80"
	}
	at, err := netip.ParseAddrPort(authority)
	if err != nil || at.Addr() != router || at.Port() == 0 {
		return endpoint{}, fmt.Errorf("%.100q is not at the address %v", url, router)
	}
	return endpoint{at, absolute(path)}, nil
}

// isPlain reports whether a URL has only the characters of one: anything else could end
// the line that it is sent in.
func isPlain(url string) bool {
	for i := range len(url) {
		if url[i] <= ' ' || url[i] >= 0x7f {
			return false
		}
	}
	return true
}

// absolute returns a path that begins with a slash, without a fragment.
func absolute(path string) string {
	path, _, _ = strings.Cut(path, "#")
	if !strings.HasPrefix(path, "/") {
		return "/" + path
	}
	return path
}

// resolve returns what a URL in a document at e leads to: an absolute one, or one that is
// relative to e (RFC 3986, section 5.2.2).
func (e endpoint) resolve(url string) (endpoint, error) {
	directory, _, _ := strings.Cut(e.path, "?")
	directory = directory[:strings.LastIndexByte(directory, '/')+1]
	switch {
	case !isPlain(url):
		return endpoint{}, fmt.Errorf("%.100q is no URL", url)
	case strings.HasPrefix(url, "//"):
		return parseEndpoint("http:"+url, e.at.Addr())
	case strings.HasPrefix(url, "/"):
		return endpoint{e.at, absolute(url)}, nil
	case strings.Contains(url, "://"):
		return parseEndpoint(url, e.at.Addr())
	}
	return endpoint{e.at, absolute(directory + url)}, nil
}

// response is a response of HTTP.
type response struct {
	status int
	body   []byte
}

// errTooLong is a response of more than httpLen octets.
var errTooLong = fmt.Errorf("the response is longer than %d kB", httpLen>>10)

// get fetches a document.
func (g Gateway) get(ctx context.Context, from endpoint) ([]byte, error) {
	r, err := g.roundTrip(ctx, from, "GET", "", nil)
	switch {
	case err != nil:
		return nil, err
	case r.status != 200:
		return nil, r.unexpected()
	}
	return r.body, nil
}

// post sends the call of an action (UDA 1.1, section 3.2.1).
func (g Gateway) post(ctx context.Context, to endpoint, soapAction string, body []byte) (response, error) {
	fields := fmt.Sprintf("Content-Type: text/xml; charset=\"utf-8\"\r\nSOAPAction: %s\r\nContent-Length: %d\r\n", soapAction, len(body))
	return g.roundTrip(ctx, to, "POST", fields, body)
}

// unexpected returns the error of a response whose status should be another one.
func (r response) unexpected() error {
	return fmt.Errorf("the response has the HTTP status %d", r.status)
}

// roundTrip sends a request on a connection of its own, from the uplink's own address,
// and returns the response. Redirections are not followed.
func (g Gateway) roundTrip(ctx context.Context, to endpoint, method, fields string, body []byte) (response, error) {
	ctx, cancel := context.WithTimeout(ctx, httpWithin)
	defer cancel()
	local := net.TCPAddrFromAddrPort(netip.AddrPortFrom(g.Local, 0))
	conn, err := g.dialer(local).DialContext(ctx, "tcp4", to.at.String())
	if err != nil {
		return response{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	request := fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %v\r\n%sConnection: close\r\n\r\n%s", method, to.path, to.at, fields, body)
	if _, err := conn.Write(request); err != nil {
		return response{}, err
	}
	return readResponse(conn)
}

// readResponse reads a response of HTTP/1.1 or older, up to httpLen octets.
func readResponse(r io.Reader) (response, error) {
	limited := &io.LimitedReader{R: r, N: httpLen + 1}
	b := bufio.NewReader(limited)
	h, err := readHead(b)
	for err == nil && h.status < 200 { // 100 Continue comes first
		h, err = readHead(b)
	}
	var body []byte
	if err == nil {
		body, err = h.readBody(b)
	}
	if limited.N == 0 {
		err = errTooLong
	}
	return response{h.status, body}, err
}

// head is what the head of a response says.
type head struct {
	status  int
	length  int64 // Content-Length; -1: not told
	chunked bool
}

var errNoHTTP = errors.New("the response is not HTTP")

// readHead reads status line and fields. Servers of all ages end lines with LF only, and
// write the names of fields in any case.
func readHead(b *bufio.Reader) (head, error) {
	line, err := readLine(b)
	if err != nil {
		return head{}, err
	}
	h := head{length: -1}
	if h.status, err = parseStatus(line); err != nil {
		return head{}, err
	}
	for {
		line, err := readLine(b)
		if err != nil || line == "" {
			return h, err
		}
		if err := h.field(line); err != nil {
			return head{}, err
		}
	}
}

// readLine reads a line, without its end. A response that ends in it is incomplete.
func readLine(b *bufio.Reader) (string, error) {
	line, err := b.ReadString('\n')
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return strings.TrimRight(line, "\r\n"), err
}

// parseStatus returns the status of a status line (RFC 9112, section 4).
func parseStatus(line string) (int, error) {
	version, rest, _ := strings.Cut(line, " ")
	code, _, _ := strings.Cut(strings.TrimLeft(rest, " "), " ")
	status, err := strconv.Atoi(code)
	if err != nil || !strings.HasPrefix(strings.ToUpper(version), "HTTP/1.") || status < 100 || status > 599 {
		return 0, errNoHTTP
	}
	return status, nil
}

// field takes over a line of the header.
func (h *head) field(line string) error {
	name, value, _ := strings.Cut(line, ":")
	value = strings.TrimSpace(value)
	switch strings.ToLower(strings.TrimSpace(name)) {
	case "transfer-encoding":
		if h.chunked = strings.EqualFold(value, "chunked"); !h.chunked {
			return fmt.Errorf("the response is encoded as %.40q", value)
		}
	case "content-length":
		n, err := strconv.ParseUint(value, 10, 31)
		if err != nil || h.length >= 0 && h.length != int64(n) {
			return errNoHTTP
		}
		h.length = int64(n)
	}
	return nil
}

// readBody reads the body. Without its length it ends with the connection, and with a
// wrong one as well: what is missing is found by who parses it.
func (h head) readBody(b *bufio.Reader) ([]byte, error) {
	switch {
	case h.chunked:
		return readChunks(b)
	case h.length >= 0:
		return io.ReadAll(io.LimitReader(b, h.length))
	}
	return io.ReadAll(b)
}

// readChunks reads a body in chunks up to the last one (RFC 9112, section 7.1). Trailers
// are not read.
func readChunks(b *bufio.Reader) (body []byte, err error) {
	for {
		line, err := readLine(b)
		if err != nil {
			return nil, err
		}
		size, _, _ := strings.Cut(line, ";")
		n, err := strconv.ParseUint(strings.TrimSpace(size), 16, 31)
		if n == 0 || err != nil {
			return body, err
		}
		chunk, err := io.ReadAll(io.LimitReader(b, int64(n)))
		if err != nil {
			return nil, err
		}
		body = append(body, chunk...)
		if line, err = readLine(b); err != nil || line != "" {
			return nil, errors.Join(err, errNoHTTP)
		}
	}
}
